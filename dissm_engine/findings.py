"""What the engine says of its own result: named numbers with limits, an estimate, and a verdict.

Plain values without any dependency; `dissm_engine.measurement` takes the numbers and `dissm_engine.trust` judges them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How far the result may be trusted before a person has looked at it."""

    ACCEPT = "ACCEPT"
    REVIEW = "REVIEW"
    REJECT = "REJECT"


@dataclass(frozen=True, slots=True)
class Finding:
    """A number with a name, and the limits within which it is unremarkable.

    Examples:
        >>> Finding("volume", 3400.0, "ml", 600.0, 3000.0).remarkable
        True
    """

    name: str
    value: float
    unit: str
    low: float
    high: float

    @property
    def remarkable(self) -> bool:
        """Whether the value lies outside its limits, or is no number."""
        return not self.low <= self.value <= self.high


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the engine noticed about its own result (D7).

    Attributes:
        items: The findings, in a fixed order.
        estimated_dsc: Estimate of the Dice similarity coefficient with the true organ, 0 to 1.
        verdict: How far the result may be trusted.
        reasons: What speaks against trusting it, one sentence each.
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
