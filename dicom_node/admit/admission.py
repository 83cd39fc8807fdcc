"""Every stack of a settled series is decided by itself, then the one answer of its study is chosen (C4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dicom_node.admit.choice import choose_all, choose_one, rank_of
from dicom_node.admit.eligibility import check_eligibility
from dicom_node.admit.patience import study_may_be_decided
from dicom_node.catalog import audit
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.decisions import (
    Decision,
    StudyDecisions,
    StudyStack,
    record_decisions,
    stacks_of_study,
    studies_to_decide,
)
from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header, unreadable
from dicom_node.reasons import NodeError
from dicom_node.settings import AdmitSettings, AssembleSettings
from dicom_node.values.evidence import Evidence, StackMeasures
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.study_choice import StackRank


@dataclass(frozen=True)
class Admission:
    """Decides about stacks. spool: the folder that their images' paths count from."""

    settings: AdmitSettings
    spool: Path

    def decide(self, study_instance_uid: str, stacks: Sequence[StudyStack]) -> StudyDecisions:
        """Each undecided stack of one study by itself, and what the choice among those that fit compares."""
        older = {entry.id: self._older_rank(entry) for entry in stacks if entry.unranked}
        return StudyDecisions(
            study_instance_uid,
            decisions=[self._by_itself(entry) for entry in stacks if entry.undecided],
            decided=tuple(dict.fromkeys(entry.series for entry in stacks if entry.undecided)),
            older_ranks={stack_id: rank for stack_id, rank in older.items() if rank is not None},
        )

    def _by_itself(self, entry: StudyStack) -> Decision:
        """What it is goes before how it lies: a localizer is refused as one, not for its two slices."""
        name = entry.middle_instance_id
        try:
            header = read_header(self.spool / entry.middle_path, name)
            found, rank = check_eligibility(header, self.settings), rank_of(header, _measures(entry))
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
        return Decision(entry.id, True, None, evidence, rank)

    def _older_rank(self, entry: StudyStack) -> StackRank | None:
        """None where the header cannot be read any more: such a stack needs no choice."""
        try:
            return rank_of(read_header(self.spool / entry.middle_path, entry.id), _measures(entry))
        except (UnreadableDicomError, *PARSE_ERRORS):
            return None


def admit_stacks(
    recorder: Recorder,
    settings: AdmitSettings,
    spool: Path,
    *,
    wait: AssembleSettings | None = None,
    now: datetime | None = None,
) -> int:
    """Decide about every study that may be decided, and choose anew where a case ended; how many series were decided.

    A study waits for its series that are being received, because the choice needs all of them, and for its own quiet
    time. wait: the settings of that; None where everything is there. now: UTC; None for the catalogue's clock.
    """
    moment, choose = now or audit.utc_now(), choose_all if settings.process_all else choose_one
    with recorder.read() as view:
        arrivals = studies_to_decide(view)
    admission, decided = Admission(settings, spool), 0
    for arrival in arrivals:
        if not settings.process_all and not study_may_be_decided(arrival, wait, moment):
            continue
        with recorder.read() as view:
            stacks = stacks_of_study(view, arrival.study_instance_uid)
        found = admission.decide(arrival.study_instance_uid, stacks)
        with recorder.write() as tx:
            decided += record_decisions(tx, found, choose)
    return decided


def _refused(entry: StudyStack, refusal: NodeError, evidence: tuple[Evidence, ...]) -> Decision:
    return Decision(entry.id, False, RecordedReason.of(refusal), evidence)


def _measures(entry: StudyStack) -> StackMeasures:
    """The geometry that assembling left in the evidence."""
    return next((line.measures for line in entry.evidence if line.measures is not None), StackMeasures(0))
