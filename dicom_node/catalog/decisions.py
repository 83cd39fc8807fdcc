"""Decisions about stacks become rows: stacks decided, cases queued, older cases overtaken, series moved (C4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.invalid_sources import INVALID_CODES
from dicom_node.catalog.naming import new_case_id
from dicom_node.catalog.series import SeriesRevision, image_count
from dicom_node.catalog.states import CaseEvent, CaseState, SeriesEvent, SeriesState
from dicom_node.catalog.tables import Case, Instance, Series, Stack, StackImage
from dicom_node.catalog.transitions import advance_case, advance_series
from dicom_node.reasons import OVERTAKEN
from dicom_node.values.evidence import Evidence
from dicom_node.values.recorded_reason import RecordedReason
from dissm_engine.json_value import JsonValue

_GONE = (CaseState.SUPERSEDED, CaseState.INVALID)
_STANDING = tuple(state for state in CaseState if state not in {*_GONE, CaseState.REFUSED})


@dataclass(frozen=True)
class StudyStack:
    """One stack of the present revision of a series, as the decision about its study needs it.

    admitted, reason, evidence: what assembling wrote. undecided: this round decides about it. standing: it has a case
    from an earlier decision. middle_instance_id, middle_path: of its middle image; the path is relative to the spool.
    """

    id: int
    label: str
    series: SeriesRevision
    series_instance_uid: str
    admitted: bool | None
    reason: RecordedReason | None
    evidence: tuple[Evidence, ...]
    middle_instance_id: int
    middle_path: str
    undecided: bool
    standing: bool

    @property
    def name(self) -> str:
        """What `explain` calls it."""
        return f"{self.series_instance_uid}, {self.label}"


@dataclass(frozen=True)
class Decision:
    """admitted, or refused for its reason; evidence: all lines of the stack, old and new."""

    stack_id: int
    admitted: bool
    reason: RecordedReason | None
    evidence: tuple[Evidence, ...]


def studies_to_decide(view: View, *, wait_for_all_series: bool) -> list[str]:
    """UIDs of the studies with settled series that have their stacks.

    wait_for_all_series: leave out those of which another series is still being received or assembled, unless a person
    did not want to wait.
    """
    has_stack = exists().where(Stack.series_id == Series.id, Stack.revision == Series.revision)
    settled = select(Series.study_instance_uid).where(Series.state == SeriesState.SETTLED)
    ready = set(view.session.scalars(settled.where(has_stack)))
    now = set(view.session.scalars(settled.where(has_stack, Series.process_now)))
    if wait_for_all_series:
        ready -= set(view.session.scalars(settled.where(~has_stack)))
        receiving = select(Series.study_instance_uid).where(Series.state == SeriesState.RECEIVING)
        ready -= set(view.session.scalars(receiving))
    return sorted(ready | now)


def stacks_of_study(view: View, study_instance_uid: str) -> list[StudyStack]:
    """Every stack of the present revisions of the study's series."""
    rows = view.session.execute(
        select(Series, Stack)
        .join(Stack, Stack.series_id == Series.id)
        .where(Series.study_instance_uid == study_instance_uid, Stack.revision == Series.revision)
        .order_by(Series.id, Stack.id)
    )
    return [_study_stack(view.session, series, stack) for series, stack in rows]


def record_decisions(tx: Transaction, decisions: Sequence[Decision], decided: Sequence[SeriesRevision]) -> int:
    """Write the decisions of one study; how many series were decided.

    decided: the revisions that the decisions are about. A series that moved on meanwhile is left alone.
    """
    count = 0
    by_stack = {decision.stack_id: decision for decision in decisions}
    for one in decided:
        series = tx.session.get_one(Series, one.series_id)
        if series.state != SeriesState.SETTLED or series.revision != one.revision:
            continue
        stacks = [stack for stack in series.stacks if stack.revision == one.revision]
        for stack in stacks:
            _write_decision(tx, stack, by_stack[stack.id])
        _overtake_older_cases(tx, series, stacks)
        for stack in stacks:
            if stack.admitted:
                _queue_case(tx, stack)
        _move_series(tx, series, stacks)
        count += 1
    return count


def _study_stack(session: Session, series: Series, stack: Stack) -> StudyStack:
    count = image_count(session, stack)
    middle = session.execute(
        select(Instance.id, Instance.path)
        .join(StackImage, StackImage.instance_id == Instance.id)
        .where(StackImage.stack_id == stack.id, StackImage.position == count // 2)
    ).one()
    return StudyStack(
        id=stack.id,
        label=stack.label,
        series=SeriesRevision(series.id, series.revision),
        series_instance_uid=series.series_instance_uid,
        admitted=stack.admitted,
        reason=RecordedReason(stack.reason_code, stack.facts) if stack.reason_code else None,
        evidence=tuple(Evidence.from_json(row) for row in stack.evidence),
        middle_instance_id=middle.id,
        middle_path=middle.path,
        undecided=series.state == SeriesState.SETTLED,
        standing=_has_standing_case(session, stack),
    )


def _has_standing_case(session: Session, stack: Stack) -> bool:
    """Also one of an earlier revision whose images are the same: it was carried over."""
    standing = (
        select(Case.id)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == stack.series_id, Stack.input_digest == stack.input_digest)
        .where(Case.state.in_(_STANDING))
    )
    return session.scalar(standing.limit(1)) is not None


def _write_decision(tx: Transaction, stack: Stack, decision: Decision) -> None:
    reason = decision.reason
    if stack.reason_code in INVALID_CODES:
        # Withdrawn while it was decided about.
        reason = RecordedReason(stack.reason_code, stack.facts)
        decision = replace(decision, admitted=False, reason=reason)
    stack.admitted, stack.reason_code = decision.admitted, reason.code if reason else None
    stack.facts = dict(reason.facts) if reason else {}
    stack.evidence = [line.to_json() for line in decision.evidence]
    facts: dict[str, JsonValue] = {
        "stack": stack.id,
        "label": stack.label,
        "revision": stack.revision,
        "images": image_count(tx.session, stack),
        "outcomes": {line.rule: line.outcome.value for line in decision.evidence},
        **(reason.facts if reason else {}),
    }
    audit.append(
        tx,
        AuditEvent.STACK_ADMITTED if decision.admitted else AuditEvent.STACK_REFUSED,
        SubjectKind.SERIES,
        stack.series.series_instance_uid,
        reason_code=stack.reason_code,
        facts=facts,
    )


def _queue_case(tx: Transaction, stack: Stack) -> None:
    """A case for the stack, unless one of the same series has the same images."""
    known = tx.session.scalars(
        select(Case)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == stack.series_id, Stack.input_digest == stack.input_digest)
        .where(Case.state.not_in(_GONE))
    ).first()
    if known is not None:
        return
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


def _overtake_older_cases(tx: Transaction, series: Series, stacks: Sequence[Stack]) -> None:
    """Cases of earlier revisions whose set of images is no stack of the series any more."""
    digests = {stack.input_digest for stack in stacks}
    older = tx.session.scalars(
        select(Case)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == series.id, Stack.revision < series.revision, Case.state.not_in(_GONE))
        .order_by(Case.created_at)
    ).all()
    for case in older:
        if case.stack.input_digest not in digests:
            # Its worker, if it has one, hears of it when it next asks for its case.
            case.lease_owner, case.lease_until = None, None
            case.stage, case.stage_done = None, 0.0
            reason = RecordedReason(OVERTAKEN.code, {"revision": series.revision})
            advance_case(tx, case, CaseEvent.OVERTAKEN, reason=reason)


def _move_series(tx: Transaction, series: Series, stacks: Sequence[Stack]) -> None:
    admitted = sum(bool(stack.admitted) for stack in stacks)
    event, reason_code, series.facts = SeriesEvent.STACK_ADMITTED, None, {}
    if not admitted:
        decisive = max(stacks, key=lambda stack: (image_count(tx.session, stack), -stack.id))
        event, reason_code, series.facts = (
            SeriesEvent.NO_STACK_ADMITTED,
            decisive.reason_code,
            dict(decisive.facts),
        )
    advance_series(
        tx,
        series,
        event,
        reason_code=reason_code,
        stacks=len(stacks),
        admitted=admitted,
        revision=series.revision,
    )
