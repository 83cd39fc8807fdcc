"""One study, several fitting stacks: one order of them all, whatever the order in which they came (C4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydicom.dataset import Dataset

from dicom_node.admit.header_values import text_of
from dicom_node.admit.phase_text import phase_from_text
from dicom_node.values.evidence import StackMeasures
from dicom_node.values.phase import Phase
from dicom_node.values.study_choice import Place, StackRank, StackStanding, StudyChoice, StudyMember

THIN_MM = 3.0
_SHARP = re.compile(
    r"LUNG|BONE|EDGE|SHARP|DETAIL|ULTRA|Y-SHARP|FC5\d|FC8\d|YA|YC|[BHT][R-V]?(5[5-9]|[6-9]\d)", re.IGNORECASE
)
_NO_RESULT = frozenset({StackStanding.REFUSED, StackStanding.FAILED, StackStanding.CANCELLED})
_Key: TypeAlias = tuple[str, ...] | float


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of the order. name: what `explain` says the better one is better by. key: smaller is better."""

    name: str
    key: Callable[[StudyMember], _Key]


def _best_phase(member: StudyMember) -> float:
    """0 venous, 1 unknown, 2 another: as the image showed it, and until then the best that it can still show.

    A text that names another phase can be outweighed by the image to unknown at best (`phase_gate.combine`).
    """
    if member.seen_phase is not None:
        return {Phase.VENOUS: 0, Phase.UNKNOWN: 1}.get(member.seen_phase, 2)
    return {Phase.VENOUS: 0, Phase.UNKNOWN: 0}.get(member.rank.text_phase, 1)


def _text_phase(member: StudyMember) -> float:
    return {Phase.VENOUS: 0, Phase.UNKNOWN: 1}.get(member.rank.text_phase, 2)


ORDER: tuple[Criterion, ...] = (
    Criterion("the contrast phase", _best_phase),
    Criterion("the contrast phase that the texts name", _text_phase),
    Criterion(f"slices at most {THIN_MM:g} mm apart", lambda one: one.rank.spacing_mm > THIN_MM),
    Criterion("a soft kernel", lambda one: one.rank.sharp),
    Criterion("thinner slices", lambda one: round(one.rank.spacing_mm, 2)),
    Criterion("a longer scan", lambda one: -round(one.rank.extent_mm)),
    Criterion("nothing: the UID decides", lambda one: (one.series_instance_uid, one.label, one.input_digest)),
)
"""The one order of a study's stacks, read from the top: the first line in which two differ decides. It knows nothing
of when they came."""


def rank_of(header: Dataset, measures: StackMeasures) -> StackRank:
    """header: the stack's middle image. measures: of its geometry."""
    return StackRank(
        text_phase=phase_from_text(header).phase,
        spacing_mm=measures.spacing_mm or 0.0,
        extent_mm=measures.extent_mm or 0.0,
        sharp=bool(_SHARP.fullmatch(text_of(header, "ConvolutionKernel").split("\\")[0])),
    )


def choose_one(members: Sequence[StudyMember]) -> StudyChoice:
    """The first in the order that has a result, or may still get one, is the study's answer.

    What the image refused, a person cancelled or has to look at gives its turn to the next. A result stands until that
    of a better one is proven; a running one ends first. The answer depends on what the stacks are, not on when they
    came: each is delineated for itself, and what is known of one only ever moves it down.
    """
    ranked = sorted(members, key=_key)
    first = next((one for one in ranked if one.standing not in _NO_RESULT), None)
    if first is None:
        return StudyChoice({one.stack_id: Place.OUT for one in ranked}, {})
    proven, behind = first.standing is StackStanding.RESULT, ranked.index(first)
    places = {one.stack_id: _place(one, proven=proven, behind=n > behind) for n, one in enumerate(ranked)}
    places[first.stack_id] = Place.CURRENT if proven else Place.NEXT
    why = {one.stack_id: _difference(first, one) for one in ranked[behind + 1 :]}
    return StudyChoice(places, why, first)


def choose_all(members: Sequence[StudyMember]) -> StudyChoice:
    """Every stack for itself: no answer of one stands for another."""
    places = {
        StackStanding.RESULT: Place.CURRENT,
        StackStanding.REFUSED: Place.OUT,
        StackStanding.FAILED: Place.OUT,
        StackStanding.CANCELLED: Place.OUT,
    }
    return StudyChoice({one.stack_id: places.get(one.standing, Place.NEXT) for one in members}, {})


def _place(member: StudyMember, *, proven: bool, behind: bool) -> Place:
    """Of one that is not the first. proven: the first has its result. behind: the first is better than this one."""
    if member.standing in {StackStanding.REFUSED, StackStanding.CANCELLED}:
        return Place.OUT
    if member.standing is StackStanding.FAILED:
        return Place.OUTRANKED if proven and behind else Place.OUT
    if member.standing is StackStanding.RUNNING:
        return Place.WAITING
    if member.standing is StackStanding.RESULT and not proven:
        return Place.WAITING
    return Place.OUTRANKED


def _key(member: StudyMember) -> tuple[_Key, ...]:
    return tuple(criterion.key(member) for criterion in ORDER)


def _difference(better: StudyMember, other: StudyMember) -> str:
    """The first criterion in which the two differ."""
    return next((each.name for each in ORDER if each.key(better) != each.key(other)), ORDER[-1].name)
