"""An image becomes a row, and its series is received (again): what is new, known, kept aside or replaced (C2, C3)."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.invalid_sources import note_other_patient
from dicom_node.catalog.states import CaseState, SeriesEvent, SeriesState
from dicom_node.catalog.tables import Association, Case, Instance, Series, Stack, StackImage
from dicom_node.catalog.transitions import ForbiddenTransition, advance_series
from dicom_node.reasons import (
    NO_FRAME_OF_REFERENCE,
    NO_POSITIONS,
    NO_SUCH_SERIES,
    NOT_HOUNSFIELD,
    ORIENTATION_NOT_ORTHONORMAL,
    OTHER_BYTES,
    SERIES_NOT_RETRIABLE,
    TRUNCATED_FILE,
    UNREADABLE_HEADER,
    UNREADABLE_PIXELS,
    UNSUPPORTED_SYNTAX,
    NodeError,
)
from dicom_node.values.facts import Facts
from dicom_node.values.received import InstanceIdentity, InstanceUse, SpooledFile, StoreOutcome
from dissm_engine.json_value import JsonValue

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


def bytes_of_series(view: View, series_instance_uid: str) -> int:
    """How many bytes the series has in the spool; 0 where it is unknown."""
    stored = select(Series.stored_bytes).where(Series.series_instance_uid == series_instance_uid)
    return view.session.scalar(stored) or 0


def record_instance(
    tx: Transaction, identity: InstanceIdentity, file: SpooledFile, calling_ae: str, association_id: int | None = None
) -> StoreOutcome:
    """The row of an image whose bytes lie durably in the spool.

    association_id: of the association that brought it; None for what came without a network.
    """
    session = tx.session
    association = session.get_one(Association, association_id) if association_id is not None else None
    if association is not None:
        association.stored += 1
    known = session.scalars(
        select(Instance).where(Instance.sop_instance_uid == identity.sop_instance_uid).order_by(Instance.id)
    ).all()
    same = next((one for one in known if one.digest == file.digest), None)
    used = next((one for one in known if one.use is InstanceUse.IN_USE), None)
    fault = _fault_of(session, used, identity) if used is not None and used is not same else None
    if same is not None and fault is None:
        _note_resent(same.series, same, association)
        return StoreOutcome.KNOWN
    aside = bool(known) and fault is None
    series = known[0].series if aside else _open_series(tx, identity, calling_ae)
    note_other_patient(tx, series, identity)
    if used is not None and fault is not None:
        change_use(used, InstanceUse.QUARANTINED)
        for duplicate in (one for one in known if one.use is InstanceUse.DUPLICATE):
            # Of what is no longer in use: it is compared with what takes its place.
            change_use(duplicate, InstanceUse.WAITING)
            duplicate.comparisons = 0
        _audit_replacement(tx, series, used, file, fault)
    if same is not None:
        change_use(same, InstanceUse.IN_USE)
        same.association_id = association_id
        return StoreOutcome.STORED
    use = InstanceUse.WAITING if aside else InstanceUse.IN_USE
    instance = _add_instance(tx, series, identity, file, association_id, use)
    if aside:
        _note_resent(series, instance, association)
        _audit_set_aside(tx, series, instance)
        return StoreOutcome.SET_ASIDE
    return StoreOutcome.STORED


def retry_series(tx: Transaction, series_instance_uid: str) -> None:
    """Begin the next revision of a refused series with the images it has; it is decided as if they had come now.

    Of use after a setting was changed that its refusal named. Raises NodeError (NO_SUCH_SERIES), ForbiddenTransition
    where it was not refused.
    """
    series = tx.session.scalar(select(Series).where(Series.series_instance_uid == series_instance_uid))
    if series is None:
        raise NodeError(NO_SUCH_SERIES, name=series_instance_uid)
    if series.state != SeriesState.REFUSED:
        raise ForbiddenTransition(SERIES_NOT_RETRIABLE, name=series_instance_uid, state=series.state)
    advance_series(tx, series, SeriesEvent.RETRIED, revision=series.revision + 1)
    series.revision += 1
    series.invalid_code, series.process_now = None, False
    series.first_received_at = series.last_received_at = audit.utc_now()


def _add_instance(
    tx: Transaction,
    series: Series,
    identity: InstanceIdentity,
    file: SpooledFile,
    association_id: int | None,
    use: InstanceUse,
) -> Instance:
    instance = Instance(
        series_id=series.id,
        association_id=association_id,
        sop_instance_uid=identity.sop_instance_uid,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=identity.transfer_syntax_uid,
        digest=file.digest,
        path=file.path,
        size=file.size,
        received_at=audit.utc_now(),
        use=use,
        comparisons=0,
    )
    tx.session.add(instance)
    _count(series, use, file.size, 1)
    return instance


def change_use(instance: Instance, use: InstanceUse) -> None:
    """Give an instance another use; its series counts what is in use, what is kept aside, and their bytes."""
    _count(instance.series, instance.use, instance.size, -1)
    instance.use = use
    _count(instance.series, use, instance.size, 1)


def _count(series: Series, use: InstanceUse, size: int, number: int) -> None:
    if use is InstanceUse.IN_USE:
        series.image_count += number
    elif use is not InstanceUse.DUPLICATE:
        series.quarantined_count += number
    if use is not InstanceUse.DUPLICATE:
        series.stored_bytes += number * size


def _open_series(tx: Transaction, identity: InstanceIdentity, calling_ae: str) -> Series:
    """The series of a new instance, receiving; a late slice of a settled one begins its next revision."""
    now = audit.utc_now()
    series = tx.session.scalar(select(Series).where(Series.series_instance_uid == identity.series_instance_uid))
    if series is None:
        series = Series(
            series_instance_uid=identity.series_instance_uid,
            study_instance_uid=identity.study_instance_uid,
            calling_ae=calling_ae,
            first_received_at=now,
            last_received_at=now,
            revision=1,
            image_count=0,
            quarantined_count=0,
            stored_bytes=0,
            patient_digest=identity.patient_digest,
            accession_digest=identity.accession_digest,
        )
        tx.session.add(series)
    elif series.state != SeriesState.RECEIVING:
        series.revision += 1
        series.first_received_at = now
        series.process_now = False
    series.calling_ae = calling_ae
    series.last_received_at = now
    advance_series(tx, series, SeriesEvent.INSTANCE_STORED, revision=series.revision)
    tx.session.flush()
    return series


def _audit_set_aside(tx: Transaction, series: Series, instance: Instance) -> None:
    facts: dict[str, JsonValue] = {"sop_instance_uid": instance.sop_instance_uid, "digest": instance.digest}
    audit_image(tx, AuditEvent.IMAGE_SET_ASIDE, series, OTHER_BYTES.code, facts)


def _audit_replacement(tx: Transaction, series: Series, old: Instance, new: SpooledFile, reason_code: str) -> None:
    facts: dict[str, JsonValue] = {
        "sop_instance_uid": old.sop_instance_uid,
        "old_digest": old.digest,
        "new_digest": new.digest,
    }
    audit_image(tx, AuditEvent.IMAGE_REPLACED, series, reason_code, facts)


def audit_image(tx: Transaction, event: AuditEvent, series: Series, reason_code: str | None, facts: Facts) -> None:
    """A row about an image of a series, which stays in its state."""
    audit.append(
        tx,
        event,
        SubjectKind.SERIES,
        series.series_instance_uid,
        from_state=series.state,
        to_state=series.state,
        reason_code=reason_code,
        facts=facts,
    )


def _fault_of(session: Session, used: Instance, identity: InstanceIdentity) -> str | None:
    """Why the bytes in use were refused, where other bytes under the same UID are the cure; else None.

    The last decision about the stack that used them says so: of bytes that were refused no result exists that others
    could contradict. Everything else is kept aside (C2).
    """
    series = used.series
    theirs = (identity.study_instance_uid, identity.series_instance_uid)
    if (series.study_instance_uid, series.series_instance_uid) != theirs:
        return None
    last = select(func.max(Stack.revision)).where(Stack.series_id == series.id).scalar_subquery()
    stack = session.scalars(
        select(Stack)
        .join(StackImage)
        .where(Stack.series_id == series.id, Stack.revision == last, StackImage.instance_id == used.id)
    ).first()
    if stack is None:
        return None
    refused_cases = (
        select(Case.reason_code)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == series.id, Stack.input_digest == stack.input_digest)
        .where(Case.state == CaseState.REFUSED)
    )
    codes = {code for code in (stack.reason_code, *session.scalars(refused_cases)) if code in CURED_BY_OTHER_BYTES}
    return min(codes) if codes else None


def _note_resent(series: Series, instance: Instance, association: Association | None) -> None:
    """A sender that begins a series anew is still sending it: the series waits for what has not come yet."""
    if series.state != SeriesState.RECEIVING:
        return
    series.last_received_at = audit.utc_now()
    if association is not None:
        # How the series' sending ended is told by the association that brought it last.
        instance.association_id = association.id
