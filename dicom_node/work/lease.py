"""Leases: one worker, one case; a worker that is gone loses its case."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
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
from dicom_node.work.process_identity import process_identity_from

_HELD = (CaseState.RUNNING, CaseState.DELINEATED)


class LeaseLost(NodeError):  # noqa: N818
    """The case was given to another worker, or overtaken by a newer revision, while this one computed."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one case until it runs out. owner: `str(owner.this_process())`."""

    case_id: str
    attempt: int
    owner: str


def take_lease(catalog: Catalog, owner: str, seconds: float, *, process: str) -> Lease | None:
    """The oldest queued case, now RUNNING and this owner's; None when nothing waits."""
    with catalog.write() as session:
        case = session.scalar(
            select(Case)
            .where(Case.state == CaseState.QUEUED)
            .order_by(Case.created_at, Case.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        if case is None:
            return None
        case.attempt += 1
        case.lease_owner, case.lease_until = owner, audit.utc_now() + timedelta(seconds=seconds)
        case.stage, case.stage_done = None, 0.0
        advance_case(session, case, CaseEvent.LEASED, process=process, attempt=case.attempt, owner=owner)
        return Lease(case.id, case.attempt, owner)


def renew_lease(catalog: Catalog, lease: Lease, seconds: float, stage: str | None, done: float) -> bool:
    """Hold the case for `seconds` more and note what is being done to it; False when it is no longer ours."""
    with catalog.write() as session:
        renewed = session.execute(
            update(Case)
            .where(Case.id == lease.case_id, Case.lease_owner == lease.owner, Case.attempt == lease.attempt)
            .where(Case.state.in_(_HELD))
            .values(lease_until=audit.utc_now() + timedelta(seconds=seconds), stage=stage, stage_done=done)
            .returning(Case.id)
        ).first()
        return renewed is not None


def held_case(session: Session, lease: Lease) -> Case:
    """The case of a lease that still holds. Raises LeaseLost."""
    case = session.get(Case, lease.case_id)
    if case is None or case.lease_owner != lease.owner or case.attempt != lease.attempt or case.state not in _HELD:
        raise LeaseLost(LEASE_LOST, case=lease.case_id)
    return case


def end_lease(case: Case) -> None:
    """The work on the case is over, however it ended."""
    case.lease_owner, case.lease_until = None, None
    case.stage, case.stage_done = None, 0.0


def abandon_lease(catalog: Catalog, lease: Lease, attempts: int | None, *, process: str, problem: str) -> None:
    """A worker that cannot go on gives its case back; nothing happens if it is no longer its own.

    attempts: how many the case has in all; None when the case is not at fault and this one shall not count.
    """
    with catalog.write() as session:
        case = session.get(Case, lease.case_id)
        own = case is not None and (case.lease_owner, case.attempt) == (lease.owner, lease.attempt)
        if case is not None and own and case.state in _HELD:
            if attempts is None:
                case.attempts_forgiven += 1
            _give_up(session, case, attempts, process=process, problem=problem)


def requeue_lost_cases(catalog: Catalog, attempts: int, *, process: str) -> int:
    """Queue again, or park after `attempts`, the cases whose worker is gone or silent. Returns how many."""
    with catalog.read() as session:
        held = session.scalars(select(Case).where(Case.state.in_(_HELD))).all()
    lost = [case for case in held if _is_lost(case)]
    if not lost:
        return 0
    with catalog.write() as session:
        for seen in lost:
            case = session.get_one(Case, seen.id)
            if case.state in _HELD and case.attempt == seen.attempt and _is_lost(case):
                _give_up(session, case, attempts, process=process, problem="the worker is gone or silent")
    return len(lost)


def retry_case(catalog: Catalog, case_id: str, *, process: str) -> CaseState:
    """A person asks for another round of attempts; of a case nothing was sent of, for its delivery. The new state.

    Raises NodeError (NOT_FOUND), ForbiddenTransition.
    """
    with catalog.write() as session:
        case = session.get(Case, case_id)
        if case is None:
            raise NodeError(NOT_FOUND, kind="case", name=case_id)
        sent = case.state == CaseState.DELIVERED and case.reason_code != NOTHING_SENT.code
        if sent or (case.state, CaseEvent.RETRIED) not in CASE_TRANSITIONS:
            raise ForbiddenTransition(NOT_RETRIABLE, case=case_id, state=case.state)
        case.attempts_forgiven = case.attempt
        advance_case(session, case, CaseEvent.RETRIED, process=process)
        return CaseState(case.state)


def _is_lost(case: Case) -> bool:
    """Of a process of this place, whether it is gone; of all others, whether their lease ran out.

    The clock is not asked where there is something better: set forward, it would take the case of a living worker. One
    that lives and hangs gives its case back by itself (`LeaseRenewer`).
    """
    if case.lease_owner is None or case.lease_until is None:
        return True
    owner = process_identity_from(case.lease_owner)
    return owner.is_gone if owner.is_here else case.lease_until < audit.utc_now()


def _give_up(session: Session, case: Case, attempts: int | None, *, process: str, problem: str) -> None:
    spent = case.attempt - case.attempts_forgiven
    end_lease(case)
    if attempts is not None and spent >= attempts:
        advance_case(
            session,
            case,
            CaseEvent.ATTEMPTS_EXHAUSTED,
            process=process,
            reason=ATTEMPTS_EXHAUSTED,
            attempts=spent,
            case=case.id,
            problem=problem,
        )
    else:
        advance_case(
            session,
            case,
            CaseEvent.WORKER_LOST,
            process=process,
            reason=WORKER_LOST,
            attempt=case.attempt,
            problem=problem,
        )
