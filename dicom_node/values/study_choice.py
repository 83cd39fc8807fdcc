"""One answer for each study: what the order of its stacks is made from, and the place that each of them has in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.values.facts import Facts
from dicom_node.values.phase import Phase


class StackStanding(StrEnum):
    """How far the work on a stack that fits has come."""

    UNTRIED = "untried"
    """It has no case, or one that was withdrawn, superseded, or invalid by its source and is retried."""
    QUEUED = "queued"
    RUNNING = "running"
    RESULT = "result"
    """Its objects were proven."""
    REFUSED = "refused"
    """The image spoke against it: another phase, no liver."""
    FAILED = "failed"
    """It waits for a person: failed, parked, or rejected by the engine."""
    CANCELLED = "cancelled"
    """A person wants no result of it."""


class Place(StrEnum):
    """What the order of a study says of one of its stacks."""

    CURRENT = "current"
    """Its result is the study's answer."""
    NEXT = "next"
    """The best that may still give the answer: it is delineated now."""
    WAITING = "waiting"
    """It has a result, or is being worked on; a better one is not proven yet."""
    OUTRANKED = "outranked"
    """A better one has taken its place, or goes first."""
    OUT = "out"
    """It gives no result, and the order says nothing about it."""


@dataclass(frozen=True, slots=True)
class StackRank:
    """What the order of a study compares, as the headers and the geometry tell it.

    text_phase: of the texts alone. spacing_mm: between planes. extent_mm: of all planes. sharp: a kernel for bone or
    lung.
    """

    text_phase: Phase
    spacing_mm: float
    extent_mm: float
    sharp: bool

    def to_json(self) -> Facts:
        """As it stands in the catalogue."""
        return {
            "text_phase": self.text_phase.value,
            "spacing_mm": self.spacing_mm,
            "extent_mm": self.extent_mm,
            "sharp": self.sharp,
        }

    @staticmethod
    def from_json(row: Facts) -> StackRank:
        """The inverse of `to_json`. Raises KeyError, ValueError."""
        return StackRank(
            Phase(str(row["text_phase"])),
            float(str(row["spacing_mm"])),
            float(str(row["extent_mm"])),
            bool(row["sharp"]),
        )


@dataclass(frozen=True, slots=True)
class StudyMember:
    """A stack that fits, among the others of its study.

    series_instance_uid, label, input_digest: who it is, whenever it came. seen_phase: of text and image together, once
    it was delineated.
    """

    stack_id: int
    series_instance_uid: str
    label: str
    input_digest: str
    rank: StackRank
    standing: StackStanding
    seen_phase: Phase | None = None

    @property
    def name(self) -> str:
        """What `explain` calls it."""
        return f"{self.series_instance_uid}, {self.label}"


@dataclass(frozen=True)
class StudyChoice:
    """The places of a study's stacks, by stack id.

    first: the one that is current or next; None where none can give a result. why: for the others, in words, by what
    the first one is better.
    """

    places: Mapping[int, Place]
    why: Mapping[int, str]
    first: StudyMember | None = None
