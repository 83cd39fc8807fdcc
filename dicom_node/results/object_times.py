"""Dates and times of our objects, in the zone in which the source's own are written (PS3.3 C.12.1.1.8)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from pydicom import Dataset

from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.results.result_identity import ResultIdentity

_OFFSET = re.compile(r"([+-])(\d\d)([0-5]\d)")
_MIN_OFFSET, _MAX_OFFSET = timedelta(hours=-12), timedelta(hours=14)


def add_dates(target: Dataset, source: Dataset, identity: ResultIdentity) -> None:
    """Dates and times of series, content and instance: when the case came, as the source's place tells it.

    Where the source has a TimezoneOffsetFromUTC, it is kept and ours are of that zone. Where it has none, ours are
    local time of this machine, and none is written: it would give the times copied from the source another meaning.
    """
    if zone_of(source) is not None:
        target.TimezoneOffsetFromUTC = str(source.TimezoneOffsetFromUTC).strip()
    else:
        target.pop("TimezoneOffsetFromUTC", None)
    at = local_time(source, identity)
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(target, f"{name}Date", at.strftime("%Y%m%d"))
        setattr(target, f"{name}Time", at.strftime("%H%M%S.%f"))


def local_time(source: Dataset, identity: ResultIdentity) -> datetime:
    """The time of the objects in the zone that the source declares, else in this machine's at that time."""
    return identity.created_at.astimezone(zone_of(source))


def zone_of(source: Dataset) -> timezone | None:
    """The zone that a header declares; None where there is none or it is no offset that DICOM allows."""
    try:
        found = _OFFSET.fullmatch(str(source.get("TimezoneOffsetFromUTC") or "").strip())
    except PARSE_ERRORS:
        return None
    if found is None or found.group() == "-0000":
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return timezone(offset) if _MIN_OFFSET <= offset <= _MAX_OFFSET else None
