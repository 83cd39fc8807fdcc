"""Every stack of a settled series is admitted or refused, and an admitted one becomes a case (C4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.admit.choice import Candidate, candidate_of, choose
from dicom_node.admit.decisions import Decision, record_decisions
from dicom_node.admit.eligibility import check_eligibility
from dicom_node.admit.evidence import Evidence, RuleOutcome
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseState, SeriesState
from dicom_node.catalog.tables import Case, Instance, Series, Stack
from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header, unreadable
from dicom_node.reasons import NOT_CHOSEN, UNREADABLE_HEADER, NodeError, RefusalError, plain_facts
from dicom_node.settings import AdmitSettings, Settings

_STANDING = tuple(state for state in CaseState if state not in {CaseState.SUPERSEDED, CaseState.REFUSED})


@dataclass(frozen=True)
class StudyStack:
    """One stack of the present revision of a series, as the decision needs it."""

    stack: Stack
    series: Series
    middle: Path
    standing: bool

    @property
    def undecided(self) -> bool:
        """Whether this round decides about it; the stacks of a series that is decided stay as they are."""
        return self.series.state == SeriesState.SETTLED

    @property
    def name(self) -> str:
        """What `explain` calls it."""
        return f"{self.series.series_instance_uid}, {self.stack.label}"


def admit_stacks(catalog: Catalog, settings: Settings, *, process: str) -> int:
    """Decide about the stacks of every study of which no series is being received; how many series were decided.

    Studies wait for their slow series because the choice among series needs all of them.
    """
    decided = 0
    for study in _studies_to_decide(catalog, settings.admit):
        with catalog.read() as session:
            stacks = _stacks_of(session, study, settings.node.spool)
        decisions = decide(stacks, settings.admit)
        revisions = {entry.series.id: entry.series.revision for entry in stacks if entry.undecided}
        with catalog.write() as session:
            decided += record_decisions(session, decisions, revisions, process=process)
    return decided


def decide(stacks: Sequence[StudyStack], settings: AdmitSettings) -> list[Decision]:
    """Judge each undecided stack of one study by itself, then choose among those that fit."""
    own = [(entry, _judged(entry, settings)) for entry in stacks if entry.undecided]
    if settings.process_all:
        return [decision for _, decision in own]
    candidates = [_candidate(entry) for entry, decision in own if decision.admitted]
    # A standing one whose images left the spool needs no choice any more.
    candidates += [_candidate(entry) for entry in stacks if not entry.undecided and entry.standing]
    chosen = choose([one for one in candidates if one is not None])
    return [_after_choice(decision, chosen, entry) if decision.admitted else decision for entry, decision in own]


def _candidate(entry: StudyStack) -> Candidate | None:
    """For the choice; None where the header cannot be read."""
    try:
        header = read_header(entry.middle, entry.stack.id)
        return candidate_of(entry.stack.id, entry.name, header, _numbers(entry.stack), standing=entry.standing)
    except (UnreadableDicomError, *PARSE_ERRORS):
        return None


def _judged(entry: StudyStack, settings: AdmitSettings) -> Decision:
    """What it is goes before how it lies: a localizer is refused as one, not for its two slices."""
    stack = entry.stack
    name = stack.instance_ids[len(stack.instance_ids) // 2]
    try:
        judgement = check_eligibility(read_header(entry.middle, name), settings)
    except UnreadableDicomError as problem:
        return _refused(stack, problem, list(stack.evidence))
    except PARSE_ERRORS as problem:
        # One series that nobody foresaw is refused: it must not end the job that every other series waits for.
        return _refused(stack, unreadable(problem, name), list(stack.evidence))
    evidence = [*stack.evidence, *judgement.evidence_json()]
    if judgement.kind_refusal is not None:
        return _refused(stack, judgement.kind_refusal, evidence)
    if stack.admitted is False:
        return Decision(stack.id, False, stack.reason_code, dict(stack.facts), evidence)
    if judgement.rule_refusal is not None:
        return _refused(stack, judgement.rule_refusal, evidence)
    return Decision(stack.id, True, None, {}, evidence)


def _refused(stack: Stack, refusal: NodeError, evidence: list[dict[str, Any]]) -> Decision:
    return Decision(stack.id, False, refusal.reason.code, plain_facts(refusal), evidence)


def _after_choice(decision: Decision, choice: Mapping[int, Candidate], entry: StudyStack) -> Decision:
    if entry.stack.id not in choice:
        name = entry.stack.instance_ids[len(entry.stack.instance_ids) // 2]
        gone = UnreadableDicomError(UNREADABLE_HEADER, instance=name, problem="only the first reading succeeded")
        return _refused(entry.stack, gone, decision.evidence)
    chosen = choice[entry.stack.id].name
    if chosen == entry.name:
        line = Evidence("chosen in its study", RuleOutcome.YES, "best of those that fit")
        return replace(decision, evidence=[*decision.evidence, line.to_json()])
    line = Evidence("chosen in its study", RuleOutcome.NO, f"chosen: {chosen}")
    refusal = RefusalError(NOT_CHOSEN, chosen=chosen)
    return replace(
        decision,
        admitted=False,
        reason_code=refusal.reason.code,
        facts=plain_facts(refusal),
        evidence=[*decision.evidence, line.to_json()],
    )


def _numbers(stack: Stack) -> dict[str, float]:
    """The geometry's numbers that assembling left in the evidence."""
    return next((dict(line["numbers"]) for line in stack.evidence if line.get("rule") == "geometry"), {})


def _studies_to_decide(catalog: Catalog, settings: AdmitSettings) -> list[str]:
    with catalog.read() as session:
        settled = session.scalars(select(Series).where(Series.state == SeriesState.SETTLED).order_by(Series.id)).all()
        ready = {one.study_instance_uid for one in settled if _has_stacks(one)}
        receiving = session.scalars(select(Series.study_instance_uid).where(Series.state == SeriesState.RECEIVING))
        waiting = {one.study_instance_uid for one in settled if not _has_stacks(one)} | set(receiving)
    return sorted(ready if settings.process_all else ready - waiting)


def _has_stacks(series: Series) -> bool:
    return any(stack.revision == series.revision for stack in series.stacks)


def _stacks_of(session: Session, study: str, spool: Path) -> list[StudyStack]:
    found = []
    for series in session.scalars(select(Series).where(Series.study_instance_uid == study).order_by(Series.id)):
        for stack in series.stacks:
            if stack.revision != series.revision:
                continue
            middle = session.get_one(Instance, stack.instance_ids[len(stack.instance_ids) // 2])
            found.append(StudyStack(stack, series, spool / middle.path, _has_case(session, stack)))
    return found


def _has_case(session: Session, stack: Stack) -> bool:
    """Also one of an earlier revision whose images are the same: it was carried over."""
    standing = (
        select(Case.id)
        .join(Stack, Case.stack_id == Stack.id)
        .where(Stack.series_id == stack.series_id, Stack.input_digest == stack.input_digest)
        .where(Case.state.in_(_STANDING))
    )
    return session.scalar(standing.limit(1)) is not None
