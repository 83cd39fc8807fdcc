"""The history of a case or a series, told from the catalogue alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.audit import SubjectKind, entry_of
from dicom_node.catalog.database import View
from dicom_node.catalog.lookup import LookedUp
from dicom_node.catalog.series import image_count
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import AuditRow, Case, Delivery, Instance, ResultObject, Series, Stack
from dicom_node.reasons import NO_SUCH_SERIES, NOT_FOUND, NodeError
from dicom_node.values.case_history import (
    AuditEntry,
    CaseHistory,
    CaseRecord,
    DeliveryRecord,
    ObjectRecord,
    SeriesHistory,
    SeriesRecord,
    StackHistory,
    StackRecord,
)
from dicom_node.values.evidence import Evidence
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.results import CaseResults


def newest_cases(view: View, count: int | None = None, asked: LookedUp | None = None) -> list[CaseRecord]:
    """The newest cases, newest first; all of them without a count. asked: only those of series that it fits."""
    query = select(Case, Series.series_instance_uid).join(Case.stack).join(Stack.series)
    query = query.where(*(asked.conditions() if asked else ()))
    rows = view.session.execute(query.order_by(Case.created_at.desc(), Case.id).limit(count))
    return [_case_record(case, uid) for case, uid in rows]


def cases_in_motion(view: View, since: datetime) -> list[CaseRecord]:
    """Cases that a worker has now, and those that moved at or after `since` (UTC); oldest first."""
    moving = Case.state.in_((CaseState.RUNNING, CaseState.DELINEATED)) | (Case.changed_at >= since)
    query = select(Case, Series.series_instance_uid).join(Case.stack).join(Stack.series).where(moving)
    return [_case_record(case, uid) for case, uid in view.session.execute(query.order_by(Case.created_at, Case.id))]


def newest_series(view: View, count: int | None = None, asked: LookedUp | None = None) -> list[SeriesRecord]:
    """The newest series, newest first; those that were refused have no case. asked: only those that it fits."""
    query = select(Series).where(*(asked.conditions() if asked else ()))
    found = view.session.scalars(query.order_by(Series.last_received_at.desc(), Series.id.desc()).limit(count))
    return [_series_record(series) for series in found]


def images_to_describe(view: View, series: Sequence[SeriesRecord]) -> dict[str, str]:
    """By SeriesInstanceUID the path of its first image, relative to the spool, for what its header says."""
    uids = [one.series_instance_uid for one in series]
    first = select(func.min(Instance.id)).group_by(Instance.series_id)
    rows = view.session.execute(
        select(Series.series_instance_uid, Instance.path)
        .join(Instance, Instance.series_id == Series.id)
        .where(Series.series_instance_uid.in_(uids), Instance.id.in_(first))
    )
    return {row.series_instance_uid: row.path for row in rows}


def all_series_histories(view: View) -> list[SeriesHistory]:
    """Every series in the order in which they came."""
    return [_series_history(view, series) for series in view.session.scalars(select(Series).order_by(Series.id))]


def case_history(view: View, case_id: str) -> CaseHistory:
    """Everything about one case. Raises NodeError(NOT_FOUND)."""
    case = view.session.get(Case, case_id)
    if case is None:
        raise NodeError(NOT_FOUND, kind="case", name=case_id)
    series = case.stack.series
    uid = series.series_instance_uid
    # The deliveries' rows bear the case's id.
    about_series = (AuditRow.subject_kind == SubjectKind.SERIES.value) & (AuditRow.subject == uid)
    concerns = or_(AuditRow.subject == case_id, about_series)
    return CaseHistory(
        case=_case_record(case, uid),
        bundle_digest=case.bundle_digest,
        results=CaseResults.from_json(case.results) if case.results else None,
        series=_series_record(series),
        stack=_stack_record(view.session, case.stack),
        objects=tuple(_object_record(view.session, item) for item in case.objects),
        audit=_audit_entries(view.session, concerns),
    )


def series_history(view: View, series_instance_uid: str) -> SeriesHistory:
    """One series, its stacks rule by rule, and their cases. Raises NodeError(NO_SUCH_SERIES)."""
    series = view.session.scalar(select(Series).where(Series.series_instance_uid == series_instance_uid))
    if series is None:
        raise NodeError(NO_SUCH_SERIES, name=series_instance_uid)
    return _series_history(view, series)


def _series_history(view: View, series: Series) -> SeriesHistory:
    stacks = sorted(series.stacks, key=lambda stack: (-stack.revision, stack.id))
    cases = view.session.scalars(select(Case).where(Case.stack_id.in_([stack.id for stack in stacks])))
    by_stack: dict[int, list[CaseRecord]] = {}
    for case in cases:
        by_stack.setdefault(case.stack_id, []).append(_case_record(case, series.series_instance_uid))
    return SeriesHistory(
        series=_series_record(series),
        stacks=tuple(
            StackHistory(_stack_record(view.session, stack), tuple(by_stack.get(stack.id, []))) for stack in stacks
        ),
        audit=tuple(audit.rows(view, subject_kind=SubjectKind.SERIES, subject=series.series_instance_uid)),
    )


def _case_record(case: Case, series_instance_uid: str) -> CaseRecord:
    return CaseRecord(
        id=case.id,
        state=case.state,
        reason=_reason(case.reason_code, case.facts),
        attempt=case.attempt,
        stage=case.stage,
        stage_done=case.stage_done,
        phase=case.phase,
        verdict=case.verdict,
        volume_ml=case.volume_ml,
        created_at=case.created_at,
        changed_at=case.changed_at,
        series_instance_uid=series_instance_uid,
        current=case.current,
    )


def _series_record(series: Series) -> SeriesRecord:
    return SeriesRecord(
        series_instance_uid=series.series_instance_uid,
        study_instance_uid=series.study_instance_uid,
        state=series.state,
        reason_code=series.reason_code,
        revision=series.revision,
        completeness=series.completeness,
        calling_ae=series.calling_ae,
        instances=series.image_count,
        quarantined=series.quarantined_count,
        first_received_at=series.first_received_at,
        last_received_at=series.last_received_at,
    )


def _stack_record(session: Session, stack: Stack) -> StackRecord:
    return StackRecord(
        id=stack.id,
        label=stack.label,
        revision=stack.revision,
        images=image_count(session, stack),
        admitted=stack.admitted,
        reason=_reason(stack.reason_code, stack.facts),
        evidence=tuple(Evidence.from_json(row) for row in stack.evidence),
    )


def _object_record(session: Session, item: ResultObject) -> ObjectRecord:
    deliveries = session.scalars(select(Delivery).where(Delivery.object_id == item.id).order_by(Delivery.id))
    return ObjectRecord(
        kind=item.kind,
        attempt=item.attempt,
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        series_instance_uid=item.series_instance_uid,
        path=item.path,
        digest=item.digest,
        proof=item.proof,
        deliveries=tuple(
            DeliveryRecord(
                destination=row.destination,
                state=row.state,
                attempts=row.attempts,
                last_status=row.last_status,
                last_error=row.last_error,
                next_attempt_at=row.next_attempt_at,
                sent_at=row.sent_at,
            )
            for row in deliveries
        ),
    )


def _audit_entries(session: Session, concerns: ColumnElement[bool]) -> tuple[AuditEntry, ...]:
    return tuple(entry_of(row) for row in session.scalars(select(AuditRow).where(concerns).order_by(AuditRow.id)))


def _reason(code: str | None, facts: dict[str, object]) -> RecordedReason | None:
    return RecordedReason(code, facts) if code else None  # type: ignore[arg-type]  # read from JSON
