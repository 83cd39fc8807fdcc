"""One study, several fitting stacks: one deterministic choice an acquisition (C4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.admit.header_values import text_of
from dicom_node.admit.phase_text import phase_from_text, seconds_of_day
from dicom_node.values.evidence import StackMeasures
from dicom_node.values.phase import Phase

THIN_MM = 3.0
SAME_ACQUISITION_SECONDS = 8.0
"""Reconstructions of one helical scan name times a few seconds apart; phases lie further from each other."""
_SHARP = re.compile(
    r"LUNG|BONE|EDGE|SHARP|DETAIL|ULTRA|Y-SHARP|FC5\d|FC8\d|YA|YC|[BHT][R-V]?(5[5-9]|[6-9]\d)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stack that fits. standing: it has a case already, from an earlier decision."""

    stack_id: int
    name: str
    phase: Phase
    acquisition_number: str
    acquired_at: float | None
    spacing_mm: float
    extent_mm: float
    sharp: bool
    standing: bool

    @property
    def rank(self) -> tuple[object, ...]:
        """Smaller is better: venous, at most 3 mm, soft kernel, thin, complete; the name decides what is equal."""
        return (
            _PHASE_RANK.get(self.phase, 2),
            self.spacing_mm > THIN_MM,
            self.sharp,
            round(self.spacing_mm, 2),
            -round(self.extent_mm),
            self.name,
        )


_PHASE_RANK: Mapping[Phase, int] = {Phase.VENOUS: 0, Phase.UNKNOWN: 1}


def candidate_of(stack_id: int, name: str, header: Dataset, measures: StackMeasures, *, standing: bool) -> Candidate:
    """header: the stack's middle image. measures: of its geometry."""
    return Candidate(
        stack_id=stack_id,
        name=name,
        phase=phase_from_text(header).phase,
        acquisition_number=text_of(header, "AcquisitionNumber"),
        acquired_at=seconds_of_day(text_of(header, "AcquisitionTime")),
        spacing_mm=measures.spacing_mm or 0.0,
        extent_mm=measures.extent_mm or 0.0,
        sharp=bool(_SHARP.fullmatch(text_of(header, "ConvolutionKernel").split("\\")[0])),
        standing=standing,
    )


def choose(candidates: Sequence[Candidate]) -> dict[int, Candidate]:
    """For each stack id, the candidate that was chosen in its place (or itself).

    Where a text says venous, one venous stack is chosen for the whole study. Where none does, only the image can tell
    the phase: then the best stack of each acquisition goes on to the phase gate, those called otherwise left out as
    long as there are others. A standing choice stays unless a newcomer is truly better.
    """
    best_phase = min((_PHASE_RANK.get(one.phase, 2) for one in candidates), default=2)
    contenders = [one for one in candidates if _PHASE_RANK.get(one.phase, 2) == best_phase]
    groups = [contenders] if best_phase == 0 else _acquisitions(contenders)
    chosen: dict[int, Candidate] = {}
    winners = [min(group, key=_rank_with_standing) for group in groups if group]
    for group, winner in zip([group for group in groups if group], winners, strict=True):
        chosen.update({one.stack_id: winner for one in group})
    for one in candidates:
        chosen.setdefault(one.stack_id, min(winners, key=lambda winner: winner.rank))
    return chosen


def _rank_with_standing(candidate: Candidate) -> tuple[object, ...]:
    *quality, name = candidate.rank
    return (*quality, not candidate.standing, name)


def _acquisitions(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Group reconstructions of the same acquisition: by its number, and by its time where that is known."""
    groups: list[list[Candidate]] = []
    for one in sorted(candidates, key=lambda item: (item.acquisition_number, item.acquired_at or 0.0, item.name)):
        last = groups[-1][-1] if groups else None
        if last is not None and _same_acquisition(last, one):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _same_acquisition(one: Candidate, other: Candidate) -> bool:
    if one.acquisition_number != other.acquisition_number:
        return False
    if one.acquired_at is None or other.acquired_at is None:
        return one.acquired_at is other.acquired_at
    return abs(one.acquired_at - other.acquired_at) <= SAME_ACQUISITION_SECONDS
