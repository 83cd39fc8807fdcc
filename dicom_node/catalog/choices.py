"""The answer of a study becomes rows: its stacks' places, cases queued, withdrawn, current and superseded (C4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Transaction
from dicom_node.catalog.naming import new_case_id
from dicom_node.catalog.series import image_count
from dicom_node.catalog.states import NO_CASE_STATES, CaseEvent, CaseState
from dicom_node.catalog.tables import Case, Series, Stack
from dicom_node.catalog.transitions import advance_case
from dicom_node.reasons import NOT_CHOSEN, OUTRANKED, RESULT_REJECTED
from dicom_node.values.evidence import Evidence, RuleOutcome
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.study_choice import Place, StackRank, StackStanding, StudyChoice, StudyMember

Chooser: TypeAlias = Callable[[Sequence[StudyMember]], StudyChoice]
CHOICE_RULE = "chosen in its study"

_STANDINGS = {
    CaseState.QUEUED: StackStanding.QUEUED,
    CaseState.RUNNING: StackStanding.RUNNING,
    CaseState.DELINEATED: StackStanding.RUNNING,
    CaseState.PROVEN: StackStanding.RESULT,
    CaseState.DELIVERING: StackStanding.RESULT,
    CaseState.DELIVERED: StackStanding.RESULT,
    CaseState.HELD: StackStanding.RESULT,
    CaseState.REFUSED: StackStanding.REFUSED,
    CaseState.CANCELLED: StackStanding.CANCELLED,
    CaseState.PARKED: StackStanding.FAILED,
    CaseState.FAILED: StackStanding.FAILED,
}


@dataclass(frozen=True)
class _Entry:
    """A stack, its case that is neither superseded nor invalid, and what it is in its study."""

    stack: Stack
    case: Case | None
    member: StudyMember


def apply_choice(tx: Transaction, study_instance_uid: str, choose: Chooser) -> list[Stack]:
    """Give each stack that fits its place; cases, evidence and decisions follow. The stacks whose decision changed."""
    entries = [_entry(tx.session, series, stack) for series, stack in _fitting(tx.session, study_instance_uid)]
    choice = choose([entry.member for entry in entries])
    changed = [entry.stack for entry in entries if _set_decision(entry, choice)]
    # Who gives way goes first: at no moment has a study two answers.
    for entry in sorted(entries, key=lambda one: choice.places[one.stack.id] is not Place.OUTRANKED):
        place = choice.places[entry.stack.id]
        if place is Place.OUTRANKED:
            _give_way(tx, entry, choice)
        elif place is Place.NEXT:
            _bring_up(tx, entry)
        elif place is Place.CURRENT:
            _make_current(tx, entry)
    return changed


def study_has_choice(stack: Stack) -> bool:
    """Whether the stack fits by itself, so that only the order of its study speaks for or against it."""
    return bool(stack.admitted) or stack.reason_code == NOT_CHOSEN.code


def _fitting(session: Session, study_instance_uid: str) -> list[tuple[Series, Stack]]:
    """Stacks of the present revisions that fit and whose rank is known."""
    rows = session.execute(
        select(Series, Stack)
        .join(Stack, Stack.series_id == Series.id)
        .where(Series.study_instance_uid == study_instance_uid, Stack.revision == Series.revision)
        .order_by(Series.id, Stack.id)
    )
    return [(series, stack) for series, stack in rows if study_has_choice(stack) and stack.rank is not None]


def _entry(session: Session, series: Series, stack: Stack) -> _Entry:
    cases = session.scalars(
        select(Case)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == stack.series_id, Stack.input_digest == stack.input_digest)
        .order_by(Case.created_at.desc(), Case.id)
    ).all()
    case = next((one for one in cases if one.state not in NO_CASE_STATES), None)
    member = StudyMember(
        stack_id=stack.id,
        series_instance_uid=series.series_instance_uid,
        label=stack.label,
        input_digest=stack.input_digest,
        rank=StackRank.from_json(stack.rank or {}),
        standing=_standing(case),
        # Also of one that is gone: what the image showed once stays known.
        seen_phase=next((one.phase for one in cases if one.phase is not None), None),
    )
    return _Entry(stack, case, member)


def _standing(case: Case | None) -> StackStanding:
    if case is None:
        return StackStanding.UNTRIED
    if case.state == CaseState.HELD and case.reason_code == RESULT_REJECTED.code:
        return StackStanding.FAILED
    return _STANDINGS.get(case.state, StackStanding.UNTRIED)


def _set_decision(entry: _Entry, choice: StudyChoice) -> bool:
    """Admit the stack, or refuse it as NOT_CHOSEN, as its place says; whether that changed."""
    stack, place, first = entry.stack, choice.places[entry.stack.id], choice.first
    if place in {Place.WAITING, Place.OUT} or (entry.case is not None and entry.case.state == CaseState.REFUSED):
        return False
    before = stack.admitted
    stack.admitted = place is not Place.OUTRANKED
    if stack.admitted or first is None:
        stack.reason_code, stack.facts = None, {}
        line = Evidence(CHOICE_RULE, RuleOutcome.YES, "best of those that fit" if first else "every one is processed")
    else:
        stack.reason_code, stack.facts = NOT_CHOSEN.code, {"chosen": first.name}
        said = f"{choice.why.get(stack.id, '')} speaks for {first.name}"
        line = Evidence(CHOICE_RULE, RuleOutcome.NO, said)
    others = [row for row in stack.evidence if row["rule"] != CHOICE_RULE]
    stack.evidence = [*others, line.to_json()]
    return bool(before) != stack.admitted


def _give_way(tx: Transaction, entry: _Entry, choice: StudyChoice) -> None:
    """A queued case is withdrawn; one that has ended is superseded by the result that is current from now on."""
    case, first = entry.case, choice.first
    if case is None or first is None or case.state in {CaseState.REFUSED, CaseState.WITHDRAWN}:
        return
    facts = {"chosen": first.name}
    if case.state == CaseState.QUEUED:
        advance_case(tx, case, CaseEvent.NOT_CHOSEN, reason=RecordedReason(NOT_CHOSEN.code, facts))
    else:
        advance_case(tx, case, CaseEvent.OUTRANKED, reason=RecordedReason(OUTRANKED.code, facts))


def _bring_up(tx: Transaction, entry: _Entry) -> None:
    """The stack is delineated next: its withdrawn case is queued again, or it gets one."""
    if entry.case is None:
        _queue_case(tx, entry.stack)
    elif entry.case.state == CaseState.WITHDRAWN:
        advance_case(tx, entry.case, CaseEvent.CHOSEN)


def _make_current(tx: Transaction, entry: _Entry) -> None:
    case = entry.case
    if case is None or case.current:
        return
    case.current = True
    facts = {"series": entry.member.series_instance_uid, "label": entry.member.label}
    audit.append(tx, AuditEvent.RESULT_CURRENT, SubjectKind.CASE, case.id, facts=facts)


def _queue_case(tx: Transaction, stack: Stack) -> None:
    # Asked before the case is there: a query would flush it without a state.
    images, series_instance_uid = image_count(tx.session, stack), stack.series.series_instance_uid
    case = Case(id=new_case_id(), stack_id=stack.id, created_at=audit.utc_now(), attempt=0, stage_done=0.0)
    tx.session.add(case)
    advance_case(
        tx,
        case,
        CaseEvent.CREATED,
        series=series_instance_uid,
        label=stack.label,
        revision=stack.revision,
        images=images,
        input_digest=stack.input_digest,
    )
