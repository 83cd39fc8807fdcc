"""The order in which cases are visited: three ways to play episodes (paper Eq. 8, 11)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.pose.pose_settings import Episodes


@dataclass(frozen=True, slots=True)
class Visit:
    """One batch. cases: their numbers. begins: for each, whether a new episode starts with this step."""

    cases: list[int]
    begins: list[bool]


def visits(episodes: Episodes, cases: int, steps: int, batch_size: int, rng: np.random.Generator) -> Iterator[Visit]:
    """One epoch: every case is visited `steps` times, its pose kept by the caller from visit to visit.

    inverted: step 1 of all cases, then step 2 of all cases, ... (Eq. 11). staggered: the same sweeps, but each case is
    at a step of its own and begins anew within the epoch. plain: all steps of one batch in a row (Eq. 8).
    """
    if episodes == "plain":
        for batch in _batches(cases, batch_size, rng):
            for step in range(steps):
                yield Visit(batch, [step == 0] * len(batch))
        return
    phases = rng.integers(steps, size=cases) if episodes == "staggered" else np.zeros(cases, dtype=int)
    for sweep in range(steps):
        for batch in _batches(cases, batch_size, rng):
            yield Visit(batch, [sweep == 0 or bool((sweep + phases[case]) % steps == 0) for case in batch])


def visits_in_epoch(cases: int, steps: int, batch_size: int) -> int:
    """How many batches `visits` yields."""
    return steps * -(-cases // batch_size)


def _batches(cases: int, batch_size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    order = rng.permutation(cases)
    for first in range(0, cases, batch_size):
        yield [int(case) for case in order[first : first + batch_size]]
