"""A learning rate for a training whose length nobody has to know beforehand: warm-up, constant, then down to zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, slots=True)
class StableThenDecay:
    """Warm-up, then a constant rate (the stable phase), then a straight line down to zero (the decay).

    The stable phase may end at any checkpoint: when the validation curve is flat, or when whoever trains says so. What
    the constant rate still costs, the decay gains back within a small share of the steps (Hägele et al. 2024,
    arXiv 2405.18392), so that no total has to be fixed before the training begins.

    Attributes:
        warmup_steps: Steps on which the rate rises in a straight line.
        max_stable_steps: The decay begins here at the latest; the warm-up counts.
        decay_steps: Steps from the full rate down to zero; 0 ends the training with its stable phase.
    """

    warmup_steps: int
    max_stable_steps: int
    decay_steps: int

    def factor(self, step: int, decay_begins: int) -> float:
        """Factor on the learning rates at a step (from 0) of a training whose decay begins at `decay_begins`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if step <= decay_begins:
            return warm
        return warm * max(0.0, (decay_begins + self.decay_steps - step) / max(1, self.decay_steps))


@dataclass(frozen=True, slots=True)
class FlatRule:
    """When a validation curve counts as flat.

    Attributes:
        min_gain: What the best of the last evaluations must be above the best of all before them. 0.0005 of DSC is a
            twentieth of a point.
        evaluations: How many evaluations are the last ones.
        falling: Whether the value gains by becoming less, as an error does.
    """

    min_gain: float = 0.0005
    evaluations: int = 4
    falling: bool = False

    def holds(self, values: Sequence[float]) -> bool:
        """Whether the curve is flat. Never before there are more evaluations than the rule looks back on."""
        if len(values) <= self.evaluations:
            return False
        rising = [-value for value in values] if self.falling else values
        return max(rising[-self.evaluations :]) - max(rising[: -self.evaluations]) < self.min_gain


@dataclass(frozen=True)
class Validation:
    """How a training is measured on what it does not learn from.

    Attributes:
        measure: Figures of a network by name. It must not draw from PyTorch's global generators.
        every_steps: Steps between two evaluations; each is made at the first checkpoint after them.
        watched: Name of the figure that has to gain.
        flat: When it no longer does. It ends the stable phase of `StableThenDecay` and nothing else.
    """

    measure: Callable[[nn.Module], Mapping[str, float]]
    every_steps: int
    watched: str
    flat: FlatRule = FlatRule()
