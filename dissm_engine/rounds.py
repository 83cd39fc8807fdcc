"""Rounds of fit and refinement, in turn until the surface stands still.

The refinement sees far more of the image than the pose stage did: the shape model, fitted to what it found, lies nearer
to the organ, and what lay deeper than rho in a wrong prior comes within reach. The result of every round is again
SDF + r with |r| <= rho (paper 3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dissm_engine.hypothesis import MIN_AGREEMENT_GAIN, Hypothesis
from dissm_engine.refine.refiner import Refinement

MAX_ROUNDS = 5
STILL_MM = 0.6
"""A round that moves the surface by less in the mean is the last one."""
DRIFT_SHARE = 0.75
"""A round beyond the first that moves the surface outward by more than this share of its whole movement only drifts."""
MORE_COMPONENTS_MM = 1.6
"""Mean distance between the fitted model and the found surface above which further components may move."""
MORE_COMPONENTS_AT_RHO = 0.01
"""Share of the surface at rho above which further components may move: the model was too far from the organ there."""
_COMPONENT_FACTOR = 1.6
_AT_RHO_MM = 1.0


@dataclass(frozen=True, slots=True)
class Movement:
    """How a refined surface differs from the one before, where the CT shows it.

    Attributes:
        mean_mm: Mean absolute distance.
        outward_mm: Mean signed distance, positive where the later one lies further out.
    """

    mean_mm: float
    outward_mm: float


@dataclass(frozen=True, slots=True)
class Round:
    """One fit and one refinement.

    Attributes:
        components: How many components of the shape model moved in the fit.
        fit_residual_mm: Mean distance that the fit left.
        movement: How far the surface moved.
        at_rho_share: Share of the refined surface whose change is as large as it may be.
        kept: Whether its result was taken.
    """

    components: int
    fit_residual_mm: float
    movement: Movement
    at_rho_share: float
    kept: bool

    @property
    def is_still(self) -> bool:
        """Whether the surface moved so little that a further round would change nothing."""
        return self.movement.mean_mm < STILL_MM


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one fit and one refinement from it gave.

    Attributes:
        hypothesis: The refinement from the fitted shape.
        components: How many components of the shape model moved in the fit.
        fit_residual_mm: Mean distance that the fit left.
    """

    hypothesis: Hypothesis
    components: int
    fit_residual_mm: float


def until_still(
    found: Hypothesis, attempt: Callable[[Hypothesis, int], Attempt], rho_mm: float
) -> tuple[Hypothesis, tuple[Round, ...]]:
    """Make rounds until one moves the surface by less than `STILL_MM`, or is not kept, or `MAX_ROUNDS` are made.

    Args:
        found: What the first round begins from.
        attempt: Makes a round, from what is kept so far and the number of the round from 0.
        rho_mm: The bound on the refinement's change.

    Returns:
        What is kept, and every round in order.
    """
    rounds: list[Round] = []
    while len(rounds) < MAX_ROUNDS:
        made = attempt(found, len(rounds))
        later = made.hypothesis
        moved = movement(found.refinement, later.refinement)
        kept = is_kept(found, later, moved, first=not rounds)
        at_rho = at_rho_share(later.refinement, rho_mm)
        rounds.append(Round(made.components, made.fit_residual_mm, moved, at_rho, kept))
        found = later if kept else found
        if not kept or rounds[-1].is_still:
            break
    return found, tuple(rounds)


def movement(before: Refinement, after: Refinement) -> Movement:
    """How far the surface moved from one refinement to the next; the two may lie on different grids."""
    grid, shell = after.field.grid, _shell(after)
    if not shell.any():
        return Movement(0.0, 0.0)
    points = grid.to_lps(np.argwhere(shell)[:, ::-1])
    further_out = before.field.at(points) - after.field.mm[shell]
    return Movement(float(np.abs(further_out).mean()), float(further_out.mean()))


def at_rho_share(refinement: Refinement, rho_mm: float) -> float:
    """Share of the surface, where the CT shows it, whose change is as large as it may be, within a millimetre."""
    shell = _shell(refinement)
    return float(at_rho(refinement, rho_mm).sum() / shell.sum()) if shell.any() else 0.0


def at_rho(refinement: Refinement, rho_mm: float) -> npt.NDArray[np.bool_]:
    """Where the surface, as far as the CT shows it, was moved as far as it may be; bool [K, J, I]."""
    return _shell(refinement) & (np.abs(refinement.change_mm) > rho_mm - _AT_RHO_MM)


def _shell(refinement: Refinement) -> npt.NDArray[np.bool_]:
    """Voxels at the surface, where the CT shows it."""
    field = refinement.field
    return np.asarray((np.abs(field.mm) < float(field.grid.spacing.mean())) & refinement.in_view)


def more_components(now: int, all_of_them: int, residual_mm: float, at_rho: float) -> int:
    """How many components may move in a fit that leaves this residual: more than now where the shape needs them."""
    needed = residual_mm > MORE_COMPONENTS_MM or at_rho > MORE_COMPONENTS_AT_RHO
    return min(all_of_them, int(np.ceil(now * _COMPONENT_FACTOR))) if needed else now


def is_kept(earlier: Hypothesis, later: Hypothesis, moved: Movement, first: bool) -> bool:
    """Whether a round's result takes the place of what it began from.

    Not where the tissue head agrees with it clearly less, and not where it does nothing but drift outward: each
    refinement lies a little outside its prior where the image is coarse, and rounds would add that up.
    """
    if later.agreement + MIN_AGREEMENT_GAIN < earlier.agreement:
        return False
    drifts = moved.mean_mm >= STILL_MM and moved.outward_mm > DRIFT_SHARE * moved.mean_mm
    return first or not drifts
