"""Leases: one worker, one case; a worker that is gone loses its case."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import func, select, update

from dicom_node.catalog import audit
from dicom_node.catalog.database import Recorder, Transaction, View
from dicom_node.catalog.states import CASE_TRANSITIONS, CaseEvent, CaseState
from dicom_node.catalog.tables import Case
from dicom_node.catalog.transitions import ForbiddenTransition, advance_case
from dicom_node.reasons import (
    ATTEMPTS_EXHAUSTED,
    LEASE_LOST,
    NOT_FOUND,
    NOT_RETRIABLE,
    NOTHING_SENT,
    WORKER_LOST,
    NodeError,
)
from dicom_node.values.lease import HeldCase, Lease
from dicom_node.values.recorded_reason import RecordedReason

_HELD = (CaseState.RUNNING, CaseState.DELINEATED)
_UNFINISHED = (CaseState.QUEUED, *_HELD)


class LeaseLost(NodeError):  # noqa: N818
    """The case was given to another worker, or overtaken by a newer revision, while this one computed."""


def take_lease(recorder: Recorder, owner: str, seconds: float) -> Lease | None:
    """The next queued case, now RUNNING and this owner's for so many seconds; None when nothing waits.

    Those that a person put first come first, then the oldest.
    """
    with recorder.write() as tx:
        case = tx.session.scalar(
            select(Case)
            .where(Case.state == CaseState.QUEUED)
            .order_by(Case.priority.desc(), Case.created_at, Case.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if case is None:
            return None
        case.attempt += 1
        case.lease_owner, case.lease_until = owner, audit.utc_now() + timedelta(seconds=seconds)
        case.stage, case.stage_done = None, 0.0
        advance_case(tx, case, CaseEvent.LEASED, attempt=case.attempt, owner=owner)
        return Lease(case.id, case.attempt, owner)


def renew_lease(recorder: Recorder, lease: Lease, seconds: float, stage: str | None, done: float) -> bool:
    """Hold the case for `seconds` more and note what is being done to it; False when it is no longer ours."""
    with recorder.write() as tx:
        renewed = tx.session.execute(
            update(Case)
            .where(Case.id == lease.case_id, Case.lease_owner == lease.owner, Case.attempt == lease.attempt)
            .where(Case.state.in_(_HELD))
            .values(lease_until=audit.utc_now() + timedelta(seconds=seconds), stage=stage, stage_done=done)
            .returning(Case.id)
        ).first()
        return renewed is not None


def held_case(view: View, lease: Lease) -> Case:
    """The row of a lease that still holds, for this room. Raises LeaseLost."""
    case = view.session.get(Case, lease.case_id)
    if case is None or case.lease_owner != lease.owner or case.attempt != lease.attempt or case.state not in _HELD:
        raise LeaseLost(LEASE_LOST, case=lease.case_id)
    return case


def end_lease(case: Case) -> None:
    """The work on the case is over, however it ended."""
    case.lease_owner, case.lease_until = None, None
    case.stage, case.stage_done = None, 0.0


def abandon_lease(recorder: Recorder, lease: Lease, max_attempts: int | None, *, problem: str) -> None:
    """A worker that cannot go on gives its case back; nothing happens if it is no longer its own.

    max_attempts: how many the case has in all; None when the case is not at fault and this one shall not count.
    """
    with recorder.write() as tx:
        case = tx.session.get(Case, lease.case_id)
        own = case is not None and (case.lease_owner, case.attempt) == (lease.owner, lease.attempt)
        if case is not None and own and case.state in _HELD:
            if max_attempts is None:
                case.attempts_forgiven += 1
            _give_up(tx, case, max_attempts, problem)


def requeue_cases(recorder: Recorder, max_attempts: int, is_lost: Callable[[HeldCase], bool]) -> int:
    """Queue again, or park after `max_attempts`, the cases whose worker is lost; how many it were.

    is_lost: tells of a held case whether its worker is gone or silent.
    """
    with recorder.read() as view:
        held = [_as_value(case) for case in view.session.scalars(select(Case).where(Case.state.in_(_HELD)))]
    lost = [case for case in held if is_lost(case)]
    if not lost:
        return 0
    with recorder.write() as tx:
        for seen in lost:
            case = tx.session.get_one(Case, seen.case_id)
            if case.state in _HELD and case.attempt == seen.attempt and is_lost(_as_value(case)):
                _give_up(tx, case, max_attempts, "the worker is gone or silent")
    return len(lost)


def retry_case(recorder: Recorder, case_id: str) -> CaseState:
    """A person asks for another round of attempts; of a case nothing was sent of, for its delivery. The new state.

    Raises NodeError (NOT_FOUND), ForbiddenTransition.
    """
    with recorder.write() as tx:
        case = tx.session.get(Case, case_id)
        if case is None:
            raise NodeError(NOT_FOUND, kind="case", name=case_id)
        sent = case.state == CaseState.DELIVERED and case.reason_code != NOTHING_SENT.code
        if sent or (case.state, CaseEvent.RETRIED) not in CASE_TRANSITIONS:
            raise ForbiddenTransition(NOT_RETRIABLE, case=case_id, state=case.state)
        case.attempts_forgiven = case.attempt
        advance_case(tx, case, CaseEvent.RETRIED)
        return case.state


def unfinished_cases(view: View) -> int:
    """How many cases a worker has still to do or to finish."""
    return view.session.scalar(select(func.count()).select_from(Case).where(Case.state.in_(_UNFINISHED))) or 0


def attempts_in_all(view: View) -> int:
    """How often any case was ever taken."""
    return view.session.scalar(select(func.sum(Case.attempt))) or 0


def _as_value(case: Case) -> HeldCase:
    return HeldCase(case.id, case.attempt, case.lease_owner, case.lease_until)


def _give_up(tx: Transaction, case: Case, max_attempts: int | None, problem: str) -> None:
    spent = case.attempt - case.attempts_forgiven
    end_lease(case)
    if max_attempts is not None and spent >= max_attempts:
        reason = RecordedReason(ATTEMPTS_EXHAUSTED.code, {"attempts": spent, "case": case.id, "problem": problem})
        advance_case(tx, case, CaseEvent.ATTEMPTS_EXHAUSTED, reason=reason)
    else:
        reason = RecordedReason(WORKER_LOST.code, {"attempt": case.attempt, "problem": problem})
        advance_case(tx, case, CaseEvent.WORKER_LOST, reason=reason)
