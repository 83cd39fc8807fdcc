"""What the engine says of its own result: named numbers with limits, where to look, an estimate, and a verdict.

Plain values without any dependency; `dissm_engine.measurement` takes the numbers and `dissm_engine.trust` judges them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class Verdict(StrEnum):
    """How far the result may be trusted before a person has looked at it."""

    ACCEPT = "ACCEPT"
    REVIEW = "REVIEW"
    REJECT = "REJECT"


class Side(StrEnum):
    """A direction from the middle of the outline, as the patient's own; the value is how a sentence says it."""

    LEFT = "on the left"
    RIGHT = "on the right"
    FRONT = "in front"
    BACK = "at the back"
    TOP = "at the top"
    BOTTOM = "at the bottom"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the CT to look.

    Attributes:
        sides: On which sides of the outline it lies, the patient's own, at least one.
        first_slice, last_slice: The slices of the CT that show it. The engine counts from 1 in the order of the volume.
        point_lps: The vertex of the surface that lies nearest to it, LPS mm.
        counted: What the numbers count: "slices" of the volume, or "images" by the numbers that a viewer shows.

    Examples:
        >>> Place((Side.LEFT, Side.TOP), 40, 55, (80.0, -20.0, 130.0)).words
        'on the left, at the top, slices 40-55'
    """

    sides: tuple[Side, ...]
    first_slice: int
    last_slice: int
    point_lps: tuple[float, float, float]
    counted: str = "slices"

    @property
    def words(self) -> str:
        """Sides and slices as a sentence says them."""
        if self.first_slice == self.last_slice:
            numbers = f"{self.counted.removesuffix('s')} {self.first_slice}"
        else:
            numbers = f"{self.counted} {self.first_slice}-{self.last_slice}"
        return ", ".join([*self.sides, numbers])

    def with_image_numbers(self, numbers: Sequence[int]) -> Place:
        """The same place, its slices named by the number of each image, in the order of the volume."""
        ends = sorted((numbers[self.first_slice - 1], numbers[self.last_slice - 1]))
        return replace(self, first_slice=ends[0], last_slice=ends[1], counted="images")


@dataclass(frozen=True, slots=True)
class Finding:
    """A number with a name, and the limits within which it is unremarkable.

    Attributes:
        name: For machines.
        value, unit: The number; the unit is empty for a share.
        low, high: The lowest and the highest unremarkable value.
        place: Where to look; None where the finding is of the whole.
        statement: What it says to a person, without the place; empty: name and value.

    Examples:
        >>> Finding("volume", 3400.0, "ml", 600.0, 3000.0).remarkable
        True
        >>> Finding("volume", 3400.0, "ml", 600.0, 3000.0).sentence
        'volume is 3.4e+03 ml (usual 600 to 3000)'
    """

    name: str
    value: float
    unit: str
    low: float
    high: float
    place: Place | None = None
    statement: str = ""

    @property
    def remarkable(self) -> bool:
        """Whether the value lies outside its limits, or is no number."""
        return not self.low <= self.value <= self.high

    @property
    def stated(self) -> str:
        """What it says to a person, and where: the sentence without the limits."""
        said = self.statement or f"{self.name} is {self.value:.3g} {self.unit}".rstrip()
        if self.place is None:
            return said
        return f"{said}, {self.place.words}"

    @property
    def sentence(self) -> str:
        """The same with what is usual; where the statement says a share in percent, so do its limits."""
        unit = f" {self.unit}" if self.unit and self.statement else ""
        factor, sign = (100, "%") if not self.unit and "%" in self.statement else (1, "")
        low, high = (f"{factor * limit:.4g}{sign}" for limit in (self.low, self.high))
        if math.isinf(self.high):
            return f"{self.stated} (usual at least {low}{unit})"
        if math.isinf(self.low):
            return f"{self.stated} (usual at most {high}{unit})"
        return f"{self.stated} (usual {low} to {high}{unit})"


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the engine noticed about its own result (D7).

    Attributes:
        items: The findings, in a fixed order.
        estimated_dsc: Estimate of the Dice similarity coefficient with the true organ, 0 to 1.
        verdict: How far the result may be trusted.
        reasons: What speaks against trusting it, one sentence each; a sentence of a finding says where to look.
    """

    items: tuple[Finding, ...]
    estimated_dsc: float
    verdict: Verdict
    reasons: tuple[str, ...]

    def value(self, name: str) -> float:
        """The value of the finding called `name`. Raises KeyError when there is none."""
        for item in self.items:
            if item.name == name:
                return item.value
        raise KeyError(name)

    @property
    def remarkable(self) -> tuple[Finding, ...]:
        """The findings that lie outside their limits, in their order."""
        return tuple(item for item in self.items if item.remarkable)

    def with_image_numbers(self, numbers: Sequence[int]) -> Findings:
        """The same findings, in the places of which slices have the numbers of their images.

        Args:
            numbers: Of every slice's image, in the order of the volume.
        """
        renamed: dict[str, str] = {}
        items = []
        for item in self.items:
            place = None if item.place is None else item.place.with_image_numbers(numbers)
            items.append(replace(item, place=place))
            renamed[item.sentence] = items[-1].sentence
        return replace(self, items=tuple(items), reasons=tuple(renamed.get(each, each) for each in self.reasons))
