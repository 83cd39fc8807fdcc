"""The story of a case or a series, told from the catalogue alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from dicom_node.catalog.audit import row_as_json
from dicom_node.catalog.tables import AuditRow, Case, Delivery, ResultObject, Series, Stack
from dicom_node.reasons import ALL_REASONS, NO_SUCH_SERIES, NOT_FOUND, NodeError

Story = dict[str, Any]


def case_lines(session: Session, newest: int) -> list[Story]:
    """The newest cases, newest first, one line each."""
    cases = session.scalars(select(Case).order_by(Case.created_at.desc(), Case.id).limit(newest))
    return [_case_line(case) for case in cases]


def series_lines(session: Session, newest: int) -> list[Story]:
    """The newest series, newest first, one line each; those that were refused have no case."""
    found = session.scalars(select(Series).order_by(Series.last_received_at.desc(), Series.id.desc()).limit(newest))
    return [_series_line(series) for series in found]


def case_story(session: Session, case_id: str) -> Story:
    """Everything about one case: series, stack, findings, objects, deliveries, audit. Raises NodeError(NOT_FOUND)."""
    case = session.get(Case, case_id)
    if case is None:
        raise NodeError(NOT_FOUND, kind="case", name=case_id)
    series = case.stack.series
    uid = series.series_instance_uid
    concerns = or_(
        AuditRow.subject == case_id, (AuditRow.subject_kind == "series") & (AuditRow.subject == uid)
    )  # the deliveries' rows carry the case's id
    return {
        **_case_line(case),
        "bundle_digest": case.bundle_digest,
        "results": case.results,
        "series": _series_line(series),
        "stack": _stack_story(case.stack),
        "objects": [_object_line(session, item) for item in case.objects],
        "audit": _audit_rows(session, concerns),
    }


def series_story(session: Session, uid: str) -> Story:
    """One series, its stacks rule by rule, and their cases. Raises NodeError(NO_SUCH_SERIES)."""
    series = session.scalar(select(Series).where(Series.series_instance_uid == uid))
    if series is None:
        raise NodeError(NO_SUCH_SERIES, name=uid)
    stacks = sorted(series.stacks, key=lambda stack: (-stack.revision, stack.id))
    cases = session.scalars(select(Case).where(Case.stack_id.in_([stack.id for stack in stacks])))
    by_stack: dict[int, list[Story]] = {}
    for case in cases:
        by_stack.setdefault(case.stack_id, []).append(_case_line(case))
    return {
        **_series_line(series),
        "stacks": [{**_stack_story(stack), "cases": by_stack.get(stack.id, [])} for stack in stacks],
        "audit": _audit_rows(session, (AuditRow.subject_kind == "series") & (AuditRow.subject == uid)),
    }


def say_reason(code: str | None, facts: Story) -> str | None:
    """The sentence of a reason and what to do about it; None without a reason."""
    reason = ALL_REASONS.get(code or "")
    if reason is None:
        return code
    try:
        return f"{reason.say(**facts)}; {reason.cure}"
    except (KeyError, ValueError, IndexError):
        # The facts were written by another release.
        return f"{reason.code} {facts}; {reason.cure}"


def _case_line(case: Case) -> Story:
    return {
        "case": case.id,
        "state": str(case.state),
        "reason_code": case.reason_code,
        "reason": say_reason(case.reason_code, case.facts),
        "attempt": case.attempt,
        "stage": case.stage,
        "stage_done": round(case.stage_done, 3),
        "phase": case.phase,
        "verdict": case.verdict,
        "volume_ml": None if case.volume_ml is None else round(case.volume_ml, 1),
        "created_at": _time(case.created_at),
        "changed_at": _time(case.changed_at),
        "series_instance_uid": case.stack.series.series_instance_uid,
    }


def _series_line(series: Series) -> Story:
    return {
        "series_instance_uid": series.series_instance_uid,
        "study_instance_uid": series.study_instance_uid,
        "state": str(series.state),
        "reason_code": series.reason_code,
        "revision": series.revision,
        "completeness": series.completeness,
        "calling_ae": series.calling_ae,
        "instances": sum(not item.quarantined for item in series.instances),
        "quarantined": sum(item.quarantined for item in series.instances),
        "first_received_at": _time(series.first_received_at),
        "last_received_at": _time(series.last_received_at),
    }


def _stack_story(stack: Stack) -> Story:
    return {
        "stack": stack.id,
        "label": stack.label,
        "revision": stack.revision,
        "images": len(stack.instance_ids),
        "admitted": stack.admitted,
        "reason_code": stack.reason_code,
        "reason": say_reason(stack.reason_code, stack.facts),
        "evidence": stack.evidence,
    }


def _object_line(session: Session, item: ResultObject) -> Story:
    deliveries = session.scalars(select(Delivery).where(Delivery.object_id == item.id).order_by(Delivery.id))
    return {
        "kind": item.kind,
        "attempt": item.attempt,
        "sop_class_uid": item.sop_class_uid,
        "sop_instance_uid": item.sop_instance_uid,
        "path": item.path,
        "digest": item.digest,
        "proof": item.proof,
        "deliveries": [
            {
                "destination": delivery.destination,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "last_status": delivery.last_status,
                "last_error": delivery.last_error,
                "next_attempt_at": _time(delivery.next_attempt_at),
                "sent_at": _time(delivery.sent_at),
            }
            for delivery in deliveries
        ],
    }


def _audit_rows(session: Session, concerns: ColumnElement[bool]) -> list[Story]:
    return [row_as_json(row) for row in session.scalars(select(AuditRow).where(concerns).order_by(AuditRow.id))]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds") + "Z"
