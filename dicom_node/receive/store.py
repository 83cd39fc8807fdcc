"""One instance into spool and catalogue. When `store` returns, it is durable: only then may Success be said (C2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import SeriesEvent, SeriesState
from dicom_node.catalog.tables import Association, Instance, Series
from dicom_node.catalog.transitions import advance_series
from dicom_node.reasons import OTHER_BYTES
from dicom_node.receive.identity import InstanceIdentity
from dicom_node.receive.spool import Spool, SpooledFile


class Outcome(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    KNOWN = "known"
    """The same bytes were here already."""
    QUARANTINED = "quarantined"
    """Other bytes under a known SOP Instance UID: kept aside, the first stays."""


def no_association(session: Session) -> None:
    """What came without a network has no association."""
    return


@dataclass(frozen=True)
class InstanceStore:
    """Stores instances. process: the name that stands in the audit rows."""

    catalog: Catalog
    spool: Spool
    process: str

    def store(
        self,
        content: bytes,
        identity: InstanceIdentity,
        calling_ae: str,
        association_in: Callable[[Session], Association | None] = no_association,
    ) -> Outcome:
        """Make the bytes durable, then the row.

        association_in: gives the association's row within the transaction. Raises OSError or SQLAlchemyError; then
        nothing of it counts as stored, and the same bytes may come again.
        """
        file = self.spool.keep(content)
        with self.catalog.write() as session:
            association = association_in(session)
            if association is not None:
                association.stored += 1
            return self._record(session, identity, file, calling_ae, association)

    def _record(
        self,
        session: Session,
        identity: InstanceIdentity,
        file: SpooledFile,
        calling_ae: str,
        association: Association | None,
    ) -> Outcome:
        known = session.scalars(
            select(Instance).where(Instance.sop_instance_uid == identity.sop_instance_uid).order_by(Instance.id)
        ).all()
        if any(one.digest == file.digest for one in known):
            return Outcome.KNOWN
        series = known[0].series if known else self._open_series(session, identity, calling_ae)
        instance = Instance(
            association_id=association.id if association else None,
            sop_instance_uid=identity.sop_instance_uid,
            sop_class_uid=identity.sop_class_uid,
            transfer_syntax_uid=identity.transfer_syntax_uid,
            digest=file.digest,
            path=file.path,
            size=file.size,
            received_at=audit.utc_now(),
            quarantined=bool(known),
        )
        instance.series_id = series.id
        session.add(instance)
        if known:
            self._audit_quarantine(session, series, instance)
            return Outcome.QUARANTINED
        return Outcome.STORED

    def _open_series(self, session: Session, identity: InstanceIdentity, calling_ae: str) -> Series:
        """The series of a new instance, receiving; a late slice of a settled one begins its next revision."""
        now = audit.utc_now()
        series = session.scalar(select(Series).where(Series.series_instance_uid == identity.series_instance_uid))
        if series is None:
            series = Series(
                series_instance_uid=identity.series_instance_uid,
                study_instance_uid=identity.study_instance_uid,
                calling_ae=calling_ae,
                first_received_at=now,
                last_received_at=now,
                revision=1,
            )
            session.add(series)
        elif series.state != SeriesState.RECEIVING:
            series.revision += 1
            series.first_received_at = now
        series.calling_ae = calling_ae
        series.last_received_at = now
        advance_series(session, series, SeriesEvent.INSTANCE_STORED, process=self.process, revision=series.revision)
        session.flush()
        return series

    def _audit_quarantine(self, session: Session, series: Series, instance: Instance) -> None:
        audit.append(
            session, process=self.process, subject_kind="series", subject=series.series_instance_uid,
            event="QUARANTINED", from_state=series.state, to_state=series.state, reason_code=OTHER_BYTES.code,
            facts={"sop_instance_uid": instance.sop_instance_uid, "digest": instance.digest},
        )  # fmt: skip
