"""One instance into spool and catalogue. When `store` returns, it is durable: only then may Success be said (C2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseState, SeriesEvent, SeriesState
from dicom_node.catalog.tables import Association, Case, Instance, Series, Stack
from dicom_node.catalog.transitions import advance_series
from dicom_node.reasons import (
    INSTANCE_TOO_LARGE,
    NO_FRAME_OF_REFERENCE,
    NO_POSITIONS,
    NOT_HOUNSFIELD,
    ORIENTATION_NOT_ORTHONORMAL,
    OTHER_BYTES,
    SERIES_TOO_LARGE,
    TRUNCATED_FILE,
    UNREADABLE_HEADER,
    UNREADABLE_PIXELS,
    UNSUPPORTED_SYNTAX,
    RefusalError,
)
from dicom_node.receive.instance_identity import InstanceIdentity
from dicom_node.receive.spool import Spool, SpooledFile
from dicom_node.settings import ListenSettings

MEGABYTE = 1 << 20
CURED_BY_OTHER_BYTES = {
    reason.code
    for reason in (
        UNREADABLE_HEADER,
        TRUNCATED_FILE,
        UNREADABLE_PIXELS,
        NO_FRAME_OF_REFERENCE,
        NO_POSITIONS,
        ORIENTATION_NOT_ORTHONORMAL,
        NOT_HOUNSFIELD,
        UNSUPPORTED_SYNTAX,
    )
}
"""Refusals that tell the reader to correct the images and send them again: they come under their old UIDs."""


class StoreOutcome(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    KNOWN = "known"
    """The same bytes were here already."""
    QUARANTINED = "quarantined"
    """Other bytes under a known SOP Instance UID: kept aside, the first stays, unless it was refused for its bytes."""


def no_association(session: Session) -> None:
    """What came without a network has no association."""
    return


@dataclass(frozen=True)
class InstanceStore:
    """Stores instances. process: the name that stands in the audit rows. limits: how large they may be."""

    catalog: Catalog
    spool: Spool
    process: str
    limits: ListenSettings | None = None

    def store(
        self,
        content: bytes,
        identity: InstanceIdentity,
        calling_ae: str,
        association_in: Callable[[Session], Association | None] = no_association,
    ) -> StoreOutcome:
        """Make the bytes durable, then the row.

        association_in: gives the association's row within the transaction. Raises OSError or SQLAlchemyError; then
        nothing of it counts as stored, and the same bytes may come again. Raises RefusalError(INSTANCE_TOO_LARGE,
        SERIES_TOO_LARGE) before anything is written.
        """
        if self.limits is not None:
            self.check_size(len(content))
            self._check_series(identity, self.limits)
        file = self.spool.keep(content)
        with self.catalog.write() as session:
            association = association_in(session)
            if association is not None:
                association.stored += 1
            return self._record(session, identity, file, calling_ae, association)

    def check_size(self, size: int) -> None:
        """Raises RefusalError(INSTANCE_TOO_LARGE) for more bytes than one image may have."""
        if self.limits is not None and size > self.limits.max_instance_mb * MEGABYTE:
            most = self.limits.max_instance_mb
            raise RefusalError(INSTANCE_TOO_LARGE, size_mb=size // MEGABYTE, most_mb=most)

    def _check_series(self, identity: InstanceIdentity, limits: ListenSettings) -> None:
        """A series that is over its limit takes no more; what it has tells assembling to refuse it as a whole."""
        sizes = select(func.sum(Instance.size)).join(Series)
        with self.catalog.read() as session:
            whole = session.scalar(sizes.where(Series.series_instance_uid == identity.series_instance_uid)) or 0
        if whole > limits.max_series_mb * MEGABYTE:
            raise RefusalError(SERIES_TOO_LARGE, size_mb=whole // MEGABYTE, most_mb=limits.max_series_mb)

    def record_all(self, files: Sequence[tuple[InstanceIdentity, SpooledFile]], calling_ae: str) -> list[StoreOutcome]:
        """The rows of files that lie in the spool, all of them or none. Raises SQLAlchemyError."""
        with self.catalog.write() as session:
            return [self._record(session, identity, file, calling_ae, None) for identity, file in files]

    def _record(
        self,
        session: Session,
        identity: InstanceIdentity,
        file: SpooledFile,
        calling_ae: str,
        association: Association | None,
    ) -> StoreOutcome:
        known = session.scalars(
            select(Instance).where(Instance.sop_instance_uid == identity.sop_instance_uid).order_by(Instance.id)
        ).all()
        same = next((one for one in known if one.digest == file.digest), None)
        used = next((one for one in known if not one.quarantined), None)
        fault = _fault_of(session, used, identity) if used is not None and used is not same else None
        if same is not None and fault is None:
            _note_resent(same, association)
            return StoreOutcome.KNOWN
        aside = bool(known) and fault is None
        series = known[0].series if aside else self._open_series(session, identity, calling_ae)
        if used is not None and fault is not None:
            used.quarantined = True
            self._audit_replacement(session, series, used, file, fault)
        if same is not None:
            same.quarantined = False
            same.association_id = association.id if association else None
            return StoreOutcome.STORED
        instance = Instance(
            association_id=association.id if association else None,
            sop_instance_uid=identity.sop_instance_uid,
            sop_class_uid=identity.sop_class_uid,
            transfer_syntax_uid=identity.transfer_syntax_uid,
            digest=file.digest,
            path=file.path,
            size=file.size,
            received_at=audit.utc_now(),
            quarantined=aside,
        )
        instance.series_id = series.id
        session.add(instance)
        if aside:
            self._audit_quarantine(session, series, instance)
            return StoreOutcome.QUARANTINED
        return StoreOutcome.STORED

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
            session,
            process=self.process,
            subject_kind="series",
            subject=series.series_instance_uid,
            event="QUARANTINED",
            from_state=series.state,
            to_state=series.state,
            reason_code=OTHER_BYTES.code,
            facts={"sop_instance_uid": instance.sop_instance_uid, "digest": instance.digest},
        )

    def _audit_replacement(
        self, session: Session, series: Series, old: Instance, new: SpooledFile, reason_code: str
    ) -> None:
        audit.append(
            session,
            process=self.process,
            subject_kind="series",
            subject=series.series_instance_uid,
            event="REPLACED",
            from_state=series.state,
            to_state=series.state,
            reason_code=reason_code,
            facts={"sop_instance_uid": old.sop_instance_uid, "old_digest": old.digest, "new_digest": new.digest},
        )


def _fault_of(session: Session, used: Instance, identity: InstanceIdentity) -> str | None:
    """Why the bytes in use were refused, where other bytes under the same UID are the cure; else None.

    Judged by the last decision about the stack that used them: of bytes that were refused no result exists that others
    could contradict. Everything else is kept aside (C2).
    """
    series = used.series
    if (series.study_instance_uid, series.series_instance_uid) != (
        identity.study_instance_uid,
        identity.series_instance_uid,
    ):
        return None
    last = select(func.max(Stack.revision)).where(Stack.series_id == series.id).scalar_subquery()
    decided = session.scalars(select(Stack).where(Stack.series_id == series.id, Stack.revision == last))
    stack = next((one for one in decided if used.id in one.instance_ids), None)
    if stack is None:
        return None
    refused_cases = (
        select(Case.reason_code)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == series.id, Stack.input_digest == stack.input_digest)
        .where(Case.state == CaseState.REFUSED)
    )
    codes = {stack.reason_code, *session.scalars(refused_cases)} & CURED_BY_OTHER_BYTES
    return min(codes) if codes else None


def _note_resent(instance: Instance, association: Association | None) -> None:
    """A sender that begins a series anew is still sending it: the series waits for what has not come yet."""
    if instance.series.state != SeriesState.RECEIVING:
        return
    instance.series.last_received_at = audit.utc_now()
    if association is not None:
        # How the series' sending ended is told by the association that brought it last.
        instance.association_id = association.id
