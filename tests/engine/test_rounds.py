"""When rounds of fit and refinement go on, when they end, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dissm_engine.hypothesis import Hypothesis
from dissm_engine.pose.similarity import Pose
from dissm_engine.refine.refiner import Refinement
from dissm_engine.rounds import (
    MAX_ROUNDS,
    MORE_COMPONENTS_AT_RHO,
    MORE_COMPONENTS_MM,
    Attempt,
    Movement,
    at_rho_share,
    is_kept,
    more_components,
    movement,
    until_still,
)
from dissm_engine.volume import SignedDistance, axis_aligned_grid

GRID = axis_aligned_grid([-60.0] * 3, [60.0] * 3, 3.0)


def ball(radius_mm: float, change_mm: float = 0.0) -> Refinement:
    """A ball that the refinement grew by `change_mm`."""
    mm = (np.linalg.norm(GRID.points_lps(), axis=-1) - radius_mm).astype(np.float32)
    full = np.ones(mm.shape, dtype=np.bool_)
    return Refinement(SignedDistance(mm, GRID), np.full_like(mm, -change_mm), np.ones(mm.shape, np.uint8), full)


def hypothesis(radius_mm: float, agreement: float = 1.0) -> Hypothesis:
    return Hypothesis(Pose.at(np.zeros(3)), np.zeros(2, np.float32), None, ball(radius_mm), agreement)  # type: ignore[arg-type]


def test_a_surface_that_grew_by_three_millimetres_moved_outward_by_three() -> None:
    moved = movement(ball(30.0), ball(33.0))
    assert moved.mean_mm == pytest.approx(3.0, abs=0.05)
    assert moved.outward_mm == pytest.approx(3.0, abs=0.05)
    assert movement(ball(33.0), ball(30.0)).outward_mm == pytest.approx(-3.0, abs=0.05)


def test_a_surface_that_moved_sideways_moved_but_not_outward() -> None:
    aside = GRID.points_lps() - [4.0, 0.0, 0.0]
    mm = (np.linalg.norm(aside, axis=-1) - 30.0).astype(np.float32)
    moved = movement(ball(30.0), replace(ball(30.0), field=SignedDistance(mm, GRID)))
    assert moved.mean_mm > 1.5
    assert abs(moved.outward_mm) < 0.2


def test_only_what_the_ct_shows_counts_as_movement() -> None:
    later = ball(33.0)
    hidden = replace(later, in_view=np.zeros_like(later.in_view))
    assert movement(ball(30.0), hidden) == Movement(0.0, 0.0)


def test_the_share_of_the_surface_at_rho_is_that_whose_change_was_bounded() -> None:
    half = ball(30.0)
    half.change_mm[: len(half.change_mm) // 2] = 20.0
    assert at_rho_share(half, rho_mm=20.0) == pytest.approx(0.5, abs=0.06)
    assert at_rho_share(ball(30.0, change_mm=5.0), rho_mm=20.0) == 0.0


def test_further_components_move_only_where_the_shape_needs_them_and_never_more_than_there_are() -> None:
    assert more_components(28, 64, MORE_COMPONENTS_MM - 0.1, 0.0) == 28
    assert more_components(28, 64, MORE_COMPONENTS_MM + 0.1, 0.0) > 28
    assert more_components(28, 64, 0.5, MORE_COMPONENTS_AT_RHO * 2) > 28
    assert more_components(60, 64, 9.0, 1.0) == 64


def test_a_round_that_leaves_the_liver_or_only_drifts_outward_is_not_kept() -> None:
    still, drift, bulge = Movement(0.2, 0.2), Movement(2.0, 1.9), Movement(2.0, 0.4)
    good, worse = hypothesis(30.0, agreement=0.99), hypothesis(33.0, agreement=0.95)
    assert is_kept(good, good, bulge, first=False)
    assert is_kept(good, good, drift, first=True)
    assert is_kept(good, good, still, first=False)
    assert not is_kept(good, good, drift, first=False)
    assert not is_kept(good, worse, bulge, first=True)


def rounds_of(radii_mm: list[float], agreements: list[float] | None = None) -> tuple[float, list[bool]]:
    """The radius that is kept when each refinement in turn ends with these, and which rounds were kept."""
    given = [hypothesis(*one) for one in zip(radii_mm, agreements or [1.0] * len(radii_mm), strict=True)]
    found, rounds = until_still(given[0], lambda _, number: Attempt(given[number + 1], 28, 1.0), rho_mm=20.0)
    middle = tuple(n // 2 for n in GRID.shape)
    return -float(found.refinement.field.mm[middle]), [one.kept for one in rounds]


def test_rounds_end_when_the_surface_stands_still() -> None:
    assert rounds_of([30.0, 35.0, 33.0, 33.1, 50.0]) == (pytest.approx(33.1, abs=0.1), [True, True, True])


def test_rounds_end_before_one_that_only_drifts_outward() -> None:
    assert rounds_of([30.0, 35.0, 37.0, 39.0]) == (pytest.approx(35.0, abs=0.1), [True, False])


def test_rounds_end_before_one_that_leaves_the_liver() -> None:
    assert rounds_of([30.0, 27.0, 24.0], [0.99, 0.99, 0.9]) == (pytest.approx(27.0, abs=0.1), [True, False])


def test_there_are_never_more_rounds_than_the_maximum() -> None:
    shrinking = [50.0 - 2 * number for number in range(MAX_ROUNDS + 5)]
    assert rounds_of(shrinking)[1] == [True] * MAX_ROUNDS
