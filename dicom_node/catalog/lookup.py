"""Finding series by what a person on the telephone knows: accession number, patient id, study, date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from sqlalchemy import ColumnElement, Select, or_, select

from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.lookup_key import LookupKey
from dicom_node.catalog.series import stored_instance
from dicom_node.catalog.tables import Instance, Series
from dicom_node.values.received import StoredInstance


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What a person asks for; what is None is not asked.

    accession_digest, patient_digest: made by the node's `LookupKey`. since, until: the days (UTC) on which the series'
    last image came, both of them included.
    """

    accession_digest: str | None = None
    patient_digest: str | None = None
    study_instance_uid: str | None = None
    since: date | None = None
    until: date | None = None

    @property
    def anything(self) -> bool:
        """Whether anything is asked at all."""
        return any(value is not None for value in (self.accession_digest, self.patient_digest, self.study_instance_uid))

    def conditions(self) -> list[ColumnElement[bool]]:
        """For a query over series."""
        wanted: list[ColumnElement[bool]] = []
        if self.accession_digest is not None:
            wanted.append(Series.accession_digest == self.accession_digest)
        if self.patient_digest is not None:
            wanted.append(Series.patient_digest == self.patient_digest)
        if self.study_instance_uid is not None:
            wanted.append(Series.study_instance_uid == self.study_instance_uid)
        if self.since is not None:
            wanted.append(Series.last_received_at >= datetime.combine(self.since, time()))
        if self.until is not None:
            wanted.append(Series.last_received_at < datetime.combine(self.until + timedelta(days=1), time()))
        return wanted


@dataclass(frozen=True, slots=True)
class SeriesToIndex:
    """A series that cannot be looked up yet, and one image of it to read."""

    series_id: int
    image: StoredInstance


def series_to_index(view: View, key: LookupKey, max_count: int) -> list[SeriesToIndex]:
    """Series of older releases, or of a key that was lost: their digests are missing or of another key."""
    series = view.session.scalars(_not_indexed(key).order_by(Series.id.desc()).limit(max_count)).all()
    found: list[SeriesToIndex] = []
    for one in series:
        first = select(Instance).where(Instance.series_id == one.id).order_by(Instance.id)
        image = view.session.scalar(first.limit(1))
        if image is not None:
            found.append(SeriesToIndex(one.id, stored_instance(image)))
    return found


def write_digests(tx: Transaction, digests: Sequence[tuple[int, str, str]]) -> None:
    """By series id: its patient's and its accession number's digest, empty where it has none."""
    for series_id, patient, accession in digests:
        series = tx.session.get_one(Series, series_id)
        series.patient_digest, series.accession_digest = patient, accession


def _not_indexed(key: LookupKey) -> Select[Series]:
    other_key = (Series.patient_digest != "") & ~Series.patient_digest.startswith(key.mark)
    other_accession = (Series.accession_digest != "") & ~Series.accession_digest.startswith(key.mark)
    missing = Series.patient_digest.is_(None) | Series.accession_digest.is_(None)
    return select(Series).where(or_(missing, other_key, other_accession))
