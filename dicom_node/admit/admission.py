"""Every stack of a settled series is admitted or refused, and an admitted one becomes a case (C4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.admit.choice import Candidate, candidate_of, choose
from dicom_node.admit.eligibility import check_eligibility
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.decisions import (
    Decision,
    StudyStack,
    record_decisions,
    stacks_of_study,
    studies_to_decide,
)
from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header, unreadable
from dicom_node.reasons import NOT_CHOSEN, UNREADABLE_HEADER, NodeError, RefusalError
from dicom_node.settings import AdmitSettings
from dicom_node.values.evidence import Evidence, RuleOutcome, StackMeasures
from dicom_node.values.recorded_reason import RecordedReason


@dataclass(frozen=True)
class Admission:
    """Decides about stacks. spool: the folder that their images' paths count from."""

    settings: AdmitSettings
    spool: Path

    def decide(self, stacks: Sequence[StudyStack]) -> list[Decision]:
        """Check each undecided stack of one study by itself, then choose among those that fit."""
        own = [(entry, self._by_itself(entry)) for entry in stacks if entry.undecided]
        if self.settings.process_all:
            return [decision for _, decision in own]
        candidates = [self._candidate(entry) for entry, decision in own if decision.admitted]
        # A standing one whose images left the spool needs no choice any more.
        candidates += [self._candidate(entry) for entry in stacks if not entry.undecided and entry.standing]
        chosen = choose([one for one in candidates if one is not None])
        return [_after_choice(decision, chosen, entry) if decision.admitted else decision for entry, decision in own]

    def _by_itself(self, entry: StudyStack) -> Decision:
        """What it is goes before how it lies: a localizer is refused as one, not for its two slices."""
        name = entry.middle_instance_id
        try:
            found = check_eligibility(read_header(self.spool / entry.middle_path, name), self.settings)
        except UnreadableDicomError as problem:
            return _refused(entry, problem, entry.evidence)
        except PARSE_ERRORS as problem:
            # One series that nobody foresaw is refused: it must not end the job that every other series waits for.
            return _refused(entry, unreadable(problem, name), entry.evidence)
        evidence = (*entry.evidence, *found.evidence)
        if found.kind_refusal is not None:
            return _refused(entry, found.kind_refusal, evidence)
        if entry.admitted is False:
            return Decision(entry.id, False, entry.reason, evidence)
        if found.rule_refusal is not None:
            return _refused(entry, found.rule_refusal, evidence)
        return Decision(entry.id, True, None, evidence)

    def _candidate(self, entry: StudyStack) -> Candidate | None:
        """For the choice; None where the header cannot be read."""
        try:
            header = read_header(self.spool / entry.middle_path, entry.id)
            return candidate_of(entry.id, entry.name, header, _measures(entry), standing=entry.standing)
        except (UnreadableDicomError, *PARSE_ERRORS):
            return None


def admit_stacks(recorder: Recorder, settings: AdmitSettings, spool: Path) -> int:
    """Decide about the stacks of every study of which no series is being received; how many series were decided.

    Studies wait for their slow series because the choice among series needs all of them.
    """
    with recorder.read() as view:
        studies = studies_to_decide(view, wait_for_all_series=not settings.process_all)
    admission, decided = Admission(settings, spool), 0
    for study in studies:
        with recorder.read() as view:
            stacks = stacks_of_study(view, study)
        decisions = admission.decide(stacks)
        revisions = tuple(dict.fromkeys(entry.series for entry in stacks if entry.undecided))
        with recorder.write() as tx:
            decided += record_decisions(tx, decisions, revisions)
    return decided


def _refused(entry: StudyStack, refusal: NodeError, evidence: tuple[Evidence, ...]) -> Decision:
    return Decision(entry.id, False, RecordedReason.of(refusal), evidence)


def _after_choice(decision: Decision, choice: Mapping[int, Candidate], entry: StudyStack) -> Decision:
    if entry.id not in choice:
        gone = UnreadableDicomError(
            UNREADABLE_HEADER, instance=entry.middle_instance_id, problem="only the first reading succeeded"
        )
        return _refused(entry, gone, decision.evidence)
    chosen = choice[entry.id].name
    if chosen == entry.name:
        line = Evidence("chosen in its study", RuleOutcome.YES, "best of those that fit")
        return replace(decision, evidence=(*decision.evidence, line))
    line = Evidence("chosen in its study", RuleOutcome.NO, f"chosen: {chosen}")
    return _refused(entry, RefusalError(NOT_CHOSEN, chosen=chosen), (*decision.evidence, line))


def _measures(entry: StudyStack) -> StackMeasures:
    """The geometry that assembling left in the evidence."""
    return next((line.measures for line in entry.evidence if line.measures is not None), StackMeasures(0))
