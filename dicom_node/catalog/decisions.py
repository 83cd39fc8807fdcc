"""Decisions about stacks become rows: stacks decided, the choice in their study made, series moved (C4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.choices import Chooser, apply_choice, study_has_choice
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.invalid_sources import INVALID_CODES
from dicom_node.catalog.leases import end_lease
from dicom_node.catalog.series import SeriesRevision, image_count
from dicom_node.catalog.states import NO_CASE_STATES, CaseEvent, SeriesEvent, SeriesState
from dicom_node.catalog.tables import Case, Instance, Series, Stack, StackImage, Study
from dicom_node.catalog.transitions import advance_case, advance_series
from dicom_node.reasons import OVERTAKEN
from dicom_node.values.evidence import Evidence
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.study_choice import StackRank
from dissm_engine.json_value import JsonValue


@dataclass(frozen=True)
class StudyArrival:
    """A study in which something is to be decided, and what came of it. Times are UTC.

    incoming: a series of it is being received, or has no stacks yet. process_now: a person did not want to wait for a
    series that has its stacks. waits_since: when the first image came of the series that has waited longest for its
    decision. calling_aes: who sent it.
    """

    study_instance_uid: str
    incoming: bool
    process_now: bool
    waits_since: datetime
    last_received_at: datetime
    calling_aes: frozenset[str]


@dataclass(frozen=True)
class StudyStack:
    """One stack of the present revision of a series, as the decision about its study needs it.

    admitted, reason, evidence: what assembling wrote. undecided: this round decides about it. unranked: it fits, by a
    decision of an older release that kept no rank. middle_instance_id, middle_path: of its middle image; the path is
    relative to the spool.
    """

    id: int
    series: SeriesRevision
    admitted: bool | None
    reason: RecordedReason | None
    evidence: tuple[Evidence, ...]
    middle_instance_id: int
    middle_path: str
    undecided: bool
    unranked: bool


@dataclass(frozen=True)
class Decision:
    """About a stack by itself: it fits, or is refused for its reason.

    evidence: all lines of the stack, old and new. rank: what the order of its study compares, where it fits.
    """

    stack_id: int
    admitted: bool
    reason: RecordedReason | None
    evidence: tuple[Evidence, ...]
    rank: StackRank | None = None


@dataclass(frozen=True)
class StudyDecisions:
    """What one round decided about a study.

    decided: the revisions that the decisions are about. older_ranks: by stack id, of those decided by older releases.
    """

    study_instance_uid: str
    decisions: Sequence[Decision]
    decided: Sequence[SeriesRevision]
    older_ranks: Mapping[int, StackRank] = field(default_factory=dict)


def studies_to_decide(view: View) -> list[StudyArrival]:
    """The studies with settled series that have their stacks, and those in which the choice is to be made anew."""
    has_stack = exists().where(Stack.series_id == Series.id, Stack.revision == Series.revision)
    settled = select(Series.study_instance_uid).where(Series.state == SeriesState.SETTLED, has_stack)
    due = select(Study.study_instance_uid).where(Study.choice_due)
    studies = sorted({*view.session.scalars(settled), *view.session.scalars(due)})
    return [_arrival(view.session, study) for study in studies]


def stacks_of_study(view: View, study_instance_uid: str) -> list[StudyStack]:
    """Every stack of the present revisions of the study's series."""
    rows = view.session.execute(
        select(Series, Stack)
        .join(Stack, Stack.series_id == Series.id)
        .where(Series.study_instance_uid == study_instance_uid, Stack.revision == Series.revision)
        .order_by(Series.id, Stack.id)
    )
    return [_study_stack(view.session, series, stack) for series, stack in rows]


def record_decisions(tx: Transaction, found: StudyDecisions, choose: Chooser) -> int:
    """Write what was decided about one study, and who gives its answer; how many series were decided.

    Where a series moved on meanwhile nothing is written: the next round decides about all of them.
    """
    decided = [tx.session.get_one(Series, one.series_id) for one in found.decided]
    for series, one in zip(decided, found.decided, strict=True):
        if series.state != SeriesState.SETTLED or series.revision != one.revision:
            return 0
    for stack_id, rank in found.older_ranks.items():
        tx.session.get_one(Stack, stack_id).rank = dict(rank.to_json())
    stacks = [_write_decision(tx, decision) for decision in found.decisions]
    for series in decided:
        _overtake_older_cases(tx, series)
    tx.session.flush()
    changed = apply_choice(tx, found.study_instance_uid, choose)
    for stack in (*stacks, *(one for one in changed if one not in stacks)):
        _audit_decision(tx, stack)
    for series in decided:
        _move_decided_series(tx, series)
    for series in {stack.series for stack in changed} - set(decided):
        _follow_the_choice(tx, series)
    tx.session.merge(Study(study_instance_uid=found.study_instance_uid, choice_due=False))
    return len(decided)


def _arrival(session: Session, study_instance_uid: str) -> StudyArrival:
    has_stack = exists().where(Stack.series_id == Series.id, Stack.revision == Series.revision)
    of_study = Series.study_instance_uid == study_instance_uid
    incoming = exists().where(
        of_study, (Series.state == SeriesState.RECEIVING) | ((Series.state == SeriesState.SETTLED) & ~has_stack)
    )
    waits = select(func.min(Series.first_received_at)).where(of_study, Series.state == SeriesState.SETTLED, has_stack)
    last = session.scalar(select(func.max(Series.last_received_at)).where(of_study)) or audit.utc_now()
    return StudyArrival(
        study_instance_uid,
        incoming=bool(session.scalar(select(incoming))),
        process_now=bool(session.scalar(select(exists().where(of_study, Series.process_now, has_stack)))),
        waits_since=session.scalar(waits) or last,
        last_received_at=last,
        calling_aes=frozenset(session.scalars(select(Series.calling_ae).where(of_study))),
    )


def _study_stack(session: Session, series: Series, stack: Stack) -> StudyStack:
    count = image_count(session, stack)
    middle = session.execute(
        select(Instance.id, Instance.path)
        .join(StackImage, StackImage.instance_id == Instance.id)
        .where(StackImage.stack_id == stack.id, StackImage.position == count // 2)
    ).one()
    undecided = series.state == SeriesState.SETTLED
    return StudyStack(
        id=stack.id,
        series=SeriesRevision(series.id, series.revision),
        admitted=stack.admitted,
        reason=RecordedReason(stack.reason_code, stack.facts) if stack.reason_code else None,
        evidence=tuple(Evidence.from_json(row) for row in stack.evidence),
        middle_instance_id=middle.id,
        middle_path=middle.path,
        undecided=undecided,
        unranked=not undecided and study_has_choice(stack) and stack.rank is None,
    )


def _write_decision(tx: Transaction, decision: Decision) -> Stack:
    stack = tx.session.get_one(Stack, decision.stack_id)
    if stack.reason_code in INVALID_CODES:
        # Withdrawn by its source while it was decided about.
        withdrawn = RecordedReason(stack.reason_code, stack.facts)
        decision = replace(decision, admitted=False, reason=withdrawn, rank=None)
    reason = decision.reason
    stack.admitted, stack.reason_code = decision.admitted, reason.code if reason else None
    stack.facts = dict(reason.facts) if reason else {}
    stack.evidence = [line.to_json() for line in decision.evidence]
    stack.rank = dict(decision.rank.to_json()) if decision.rank else None
    return stack


def _audit_decision(tx: Transaction, stack: Stack) -> None:
    facts: dict[str, JsonValue] = {
        "stack": stack.id,
        "label": stack.label,
        "revision": stack.revision,
        "images": image_count(tx.session, stack),
        "outcomes": {row["rule"]: row["outcome"] for row in stack.evidence},
        **stack.facts,
    }
    audit.append(
        tx,
        AuditEvent.STACK_ADMITTED if stack.admitted else AuditEvent.STACK_REFUSED,
        SubjectKind.SERIES,
        stack.series.series_instance_uid,
        reason_code=stack.reason_code,
        facts=facts,
    )


def _overtake_older_cases(tx: Transaction, series: Series) -> None:
    """Cases of earlier revisions whose set of images is no stack of the series any more."""
    digests = {stack.input_digest for stack in series.stacks if stack.revision == series.revision}
    older = tx.session.scalars(
        select(Case)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == series.id, Stack.revision < series.revision, Case.state.not_in(NO_CASE_STATES))
        .order_by(Case.created_at)
    ).all()
    for case in older:
        if case.stack.input_digest not in digests:
            # Its worker, if it has one, hears of it when it next asks for its case.
            end_lease(case)
            reason = RecordedReason(OVERTAKEN.code, {"revision": series.revision})
            advance_case(tx, case, CaseEvent.OVERTAKEN, reason=reason)


def _move_decided_series(tx: Transaction, series: Series) -> None:
    stacks = [stack for stack in series.stacks if stack.revision == series.revision]
    admitted = sum(bool(stack.admitted) for stack in stacks)
    event, reason_code, series.facts = SeriesEvent.STACK_ADMITTED, None, {}
    if not admitted:
        decisive = _decisive(tx, stacks)
        event, reason_code, series.facts = SeriesEvent.NO_STACK_ADMITTED, decisive.reason_code, dict(decisive.facts)
    advance_series(
        tx,
        series,
        event,
        reason_code=reason_code,
        stacks=len(stacks),
        admitted=admitted,
        revision=series.revision,
    )


def _follow_the_choice(tx: Transaction, series: Series) -> None:
    """A series that was decided earlier, and of which the order of its study says something else now."""
    stacks = [stack for stack in series.stacks if stack.revision == series.revision]
    admitted = any(stack.admitted for stack in stacks)
    if admitted and series.state == SeriesState.REFUSED:
        series.facts = {}
        advance_series(tx, series, SeriesEvent.CHOSEN, revision=series.revision)
    elif not admitted and series.state == SeriesState.ADMITTED:
        decisive = _decisive(tx, stacks)
        series.facts = dict(decisive.facts)
        advance_series(tx, series, SeriesEvent.NOT_CHOSEN, reason_code=decisive.reason_code, revision=series.revision)


def _decisive(tx: Transaction, stacks: Sequence[Stack]) -> Stack:
    """The one whose reason stands for its series: the largest."""
    return max(stacks, key=lambda stack: (image_count(tx.session, stack), -stack.id))
