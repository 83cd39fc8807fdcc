"""What a rule said and what it saw: three values, because a missing attribute is neither true nor false (C4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dicom_node.values.facts import Facts
from dissm_engine.json_value import JsonValue

MAX_SEEN_CHARACTERS = 120


class RuleOutcome(StrEnum):
    """The three values."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    def negated(self) -> RuleOutcome:
        """Unknown stays unknown."""
        return {RuleOutcome.YES: RuleOutcome.NO, RuleOutcome.NO: RuleOutcome.YES}.get(self, self)


@dataclass(frozen=True, slots=True)
class StackMeasures:
    """The geometry of a stack in numbers; a refused one only has its number of slices.

    spacing_mm: between planes along their normal. extent_mm: of all planes. tilt_degrees: of the gantry.
    """

    slices: int
    spacing_mm: float | None = None
    extent_mm: float | None = None
    tilt_degrees: float | None = None

    def to_json(self) -> Facts:
        """As it stands in the catalogue; what is not known is left out."""
        given: dict[str, JsonValue] = {
            "slices": self.slices,
            "spacing_mm": self.spacing_mm,
            "extent_mm": self.extent_mm,
            "tilt_degrees": self.tilt_degrees,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line of `dissm-node explain`. measures: of the geometry's line, which later decisions read."""

    rule: str
    outcome: RuleOutcome
    seen: str
    measures: StackMeasures | None = None

    def to_json(self) -> Facts:
        """As it stands in the catalogue and is printed by `--json`."""
        row: dict[str, JsonValue] = {
            "rule": self.rule,
            "outcome": self.outcome.value,
            "seen": self.seen[:MAX_SEEN_CHARACTERS],
        }
        return row | {"numbers": self.measures.to_json()} if self.measures else row

    @staticmethod
    def from_json(row: Facts) -> Evidence:
        """The inverse of `to_json`, also for rows of older releases. Raises ValueError for an unknown outcome."""
        numbers = row.get("numbers")
        measures = None
        if isinstance(numbers, dict) and "slices" in numbers:
            known = StackMeasures.__dataclass_fields__
            measures = StackMeasures(**{name: value for name, value in numbers.items() if name in known})
        return Evidence(str(row["rule"]), RuleOutcome(str(row["outcome"])), str(row["seen"]), measures)
