"""Decisions become rows: stacks decided, cases queued, older cases overtaken, series moved; one transaction a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.naming import new_case_id
from dicom_node.catalog.states import CaseEvent, CaseState, SeriesEvent, SeriesState
from dicom_node.catalog.tables import Case, Series, Stack
from dicom_node.catalog.transitions import advance_case, advance_series
from dicom_node.reasons import ALL_REASONS, OVERTAKEN


@dataclass(frozen=True)
class Decision:
    """admitted, or refused for reason_code with its facts; evidence: all lines of the stack, old and new."""

    stack_id: int
    admitted: bool
    reason_code: str | None
    facts: dict[str, Any]
    evidence: list[dict[str, Any]]


def record_decisions(
    session: Session, decisions: Sequence[Decision], revisions: Mapping[int, int], *, process: str
) -> int:
    """Write the decisions of one study; how many series were decided.

    revisions: series id to the revision the decisions are about. A series that moved on meanwhile is left alone.
    """
    decided = 0
    by_stack = {decision.stack_id: decision for decision in decisions}
    for series_id, revision in revisions.items():
        series = session.get_one(Series, series_id)
        if series.state != SeriesState.SETTLED or series.revision != revision:
            continue
        stacks = [stack for stack in series.stacks if stack.revision == revision]
        for stack in stacks:
            _write_decision(session, stack, by_stack[stack.id], process)
        _overtake_older_cases(session, series, stacks, process)
        for stack in stacks:
            if stack.admitted:
                _queue_case(session, stack, process)
        _move_series(session, series, stacks, process)
        decided += 1
    return decided


def _write_decision(session: Session, stack: Stack, decision: Decision, process: str) -> None:
    stack.admitted, stack.reason_code = decision.admitted, decision.reason_code
    stack.facts, stack.evidence = decision.facts, decision.evidence
    outcomes = {line["rule"]: line["outcome"] for line in decision.evidence}
    audit.append(
        session,
        process=process,
        subject_kind="series",
        subject=stack.series.series_instance_uid,
        event="STACK_ADMITTED" if decision.admitted else "STACK_REFUSED",
        reason_code=decision.reason_code,
        facts={
            "stack": stack.id,
            "label": stack.label,
            "revision": stack.revision,
            "images": len(stack.instance_ids),
            "outcomes": outcomes,
            **decision.facts,
        },
    )


def _queue_case(session: Session, stack: Stack, process: str) -> None:
    """A case for the stack, unless one of the same series has the same images."""
    known = session.scalars(
        select(Case)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == stack.series_id, Stack.input_digest == stack.input_digest)
        .where(Case.state != CaseState.SUPERSEDED)
    ).first()
    if known is not None:
        return
    now = audit.utc_now()
    case = Case(
        id=new_case_id(),
        stack_id=stack.id,
        state=CaseState.QUEUED,
        created_at=now,
        changed_at=now,
        attempt=0,
        stage_done=0.0,
    )
    session.add(case)
    session.flush()
    audit.append(
        session,
        process=process,
        subject_kind="case",
        subject=case.id,
        event="CREATED",
        to_state=CaseState.QUEUED,
        facts={
            "series": stack.series.series_instance_uid,
            "label": stack.label,
            "revision": stack.revision,
            "images": len(stack.instance_ids),
            "input_digest": stack.input_digest,
        },
    )


def _overtake_older_cases(session: Session, series: Series, stacks: Sequence[Stack], process: str) -> None:
    """Cases of earlier revisions whose set of images is no stack of the series any more."""
    digests = {stack.input_digest for stack in stacks}
    older = session.scalars(
        select(Case)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == series.id, Stack.revision < series.revision, Case.state != CaseState.SUPERSEDED)
        .order_by(Case.created_at)
    ).all()
    for case in older:
        if case.stack.input_digest not in digests:
            # Its worker, if it has one, hears of it when it next asks for its case.
            case.lease_owner, case.lease_until = None, None
            case.stage, case.stage_done = None, 0.0
            advance_case(
                session, case, CaseEvent.OVERTAKEN, process=process, reason=OVERTAKEN, revision=series.revision
            )


def _move_series(session: Session, series: Series, stacks: Sequence[Stack], process: str) -> None:
    admitted = sum(bool(stack.admitted) for stack in stacks)
    counts: dict[str, Any] = {"stacks": len(stacks), "admitted": admitted, "revision": series.revision}
    if admitted:
        series.facts = {}
        advance_series(session, series, SeriesEvent.STACK_ADMITTED, process=process, **counts)
        return
    largest = max(stacks, key=lambda stack: (len(stack.instance_ids), -stack.id))
    series.facts = dict(largest.facts)
    reason = ALL_REASONS[largest.reason_code] if largest.reason_code else None
    advance_series(session, series, SeriesEvent.NO_STACK_ADMITTED, process=process, reason=reason, **counts)
