"""Dates and times of our objects, in the zone in which the source's own are written (PS3.3 C.12.1.1.8)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from pydicom import Dataset

from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.results.result_identity import NoteIdentity, ResultIdentity

_OFFSET = re.compile(r"([+-])(\d\d)([0-5]\d)")
_MIN_OFFSET, _MAX_OFFSET = timedelta(hours=-12), timedelta(hours=14)


def copy_zone(target: Dataset, source: Dataset) -> None:
    """Keep the source's TimezoneOffsetFromUTC, by which every time of the object is read; none that is no offset."""
    if zone_of(source) is not None:
        target.TimezoneOffsetFromUTC = str(source.TimezoneOffsetFromUTC).strip()


def add_dates(target: Dataset, identity: ResultIdentity | NoteIdentity) -> None:
    """Dates and times of series, content and instance: when the case came, as the source's place tells it.

    They are of the zone that `copy_zone` kept. Where there was none, they are local time of this machine, and none is
    written: it would give the times that were copied from the source another meaning.
    """
    at = local_time(target, identity)
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(target, f"{name}Date", at.strftime("%Y%m%d"))
        setattr(target, f"{name}Time", at.strftime("%H%M%S.%f"))


def local_time(header: Dataset, identity: ResultIdentity | NoteIdentity) -> datetime:
    """The time of the objects in the zone that a header declares, else in this machine's at that time."""
    return identity.created_at.astimezone(zone_of(header))


def zone_of(header: Dataset) -> timezone | None:
    """The zone that a header declares; None where there is none or it is no offset that DICOM allows."""
    try:
        found = _OFFSET.fullmatch(str(header.get("TimezoneOffsetFromUTC") or "").strip())
    except PARSE_ERRORS:
        return None
    if found is None or found.group() == "-0000":
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return timezone(offset) if _MIN_OFFSET <= offset <= _MAX_OFFSET else None
