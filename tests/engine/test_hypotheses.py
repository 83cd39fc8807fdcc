"""Which of the refined hypotheses the engine keeps, and what it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest

from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.errors import NO_SURFACE, DelineationError
from dissm_engine.hypothesis import Hypothesis
from dissm_engine.pose.agent import PosePath
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.similarity import Pose
from dissm_engine.progress import Monitor
from dissm_engine.refine.refiner import Refinement
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid

RIGID, NON_RIGID = Pose.at(np.zeros(3)), Pose.at(np.ones(3))
Score = float | None


def kept(scores: Mapping[str, Score], asked: list[str] | None = None) -> str:
    """What is kept of hypotheses of these agreements; None: one whose prior has no inside."""
    loadings = np.zeros(2, dtype=np.float32)
    ends = {"rigid": RIGID, "non_rigid": NON_RIGID}
    path = PosePath(
        steps=(RIGID, NON_RIGID),
        stages=(StageName.ROTATION, StageName.NON_RIGID),
        step_loadings=(loadings, loadings),
        pose=NON_RIGID,
        loadings=loadings,
        expected_error_mm=1.0,
        spread_mm=0.0,
    )

    def refined(_: object, pose: Pose, given: np.ndarray, _monitor: Monitor) -> Hypothesis:
        if asked is not None:
            asked.append("rigid" if pose is RIGID else "non_rigid")
        score = scores["rigid" if pose is RIGID else "non_rigid"]
        if score is None:
            raise DelineationError(NO_SURFACE)
        return Hypothesis(pose, given, None, None, score)  # type: ignore[arg-type]

    engine = SimpleNamespace(refine_from=refined)
    best = Delineator.best_hypothesis(engine, None, path)  # type: ignore[arg-type]
    return next(name for name, pose in ends.items() if pose is best.pose)


def test_a_leak_into_other_tissue_loses_to_the_rigid_fit() -> None:
    assert kept({"rigid": 0.989, "non_rigid": 0.970}) == "rigid"


def test_the_non_rigid_fit_is_kept_where_the_rigid_one_is_not_clearly_better() -> None:
    assert kept({"rigid": 0.983, "non_rigid": 0.998}) == "non_rigid"
    assert kept({"rigid": 0.997, "non_rigid": 0.991}) == "non_rigid"
    assert kept({"rigid": 0.99999, "non_rigid": 0.99982}) == "non_rigid"


def test_the_rigid_fit_is_not_refined_where_it_could_not_agree_clearly_more() -> None:
    asked: list[str] = []
    assert kept({"rigid": 1.0, "non_rigid": 0.99}, asked) == "non_rigid"
    assert asked == ["non_rigid"]
    asked.clear()
    assert kept({"rigid": 1.0, "non_rigid": 0.98}, asked) == "rigid"
    assert asked == ["non_rigid", "rigid"]


def test_one_hypothesis_without_a_surface_does_not_take_the_other_with_it() -> None:
    assert kept({"rigid": 0.5, "non_rigid": None}) == "rigid"
    assert kept({"rigid": None, "non_rigid": 0.5}) == "non_rigid"
    with pytest.raises(DelineationError):
        kept({"rigid": None, "non_rigid": None})


def fitted(engine: Delineator, found: Hypothesis, ct_grid: Grid) -> tuple[Pose, np.ndarray]:
    fit, components = engine.fit_shape(found, ct_grid)
    return fit.pose, fit.loadings(engine.model.shape.latent_space, components)[:3]


def test_the_model_is_fitted_to_the_found_surface_only_where_the_ct_shows_it() -> None:
    engine = Delineator(Bundle.load(None))
    loadings = np.array([0.8, -0.5, 0.3], dtype=np.float32)
    truth = Pose.at(np.array([-60.0, 10.0, 20.0]))
    field = engine.prior(truth, loadings)
    low, high = field.grid.to_lps([0, 0, 0]), field.grid.to_lps(np.array(field.grid.shape[::-1]) - 1)
    middle = (low[2] + high[2]) / 2
    wrong = field.mm.copy()
    below = field.grid.points_lps()[..., 2] < middle - 10
    wrong[below] -= 18.0
    seen = axis_aligned_grid([low[0], low[1], middle], high, 2.0)
    refinement = Refinement(
        SignedDistance(wrong, field.grid), np.zeros_like(wrong), np.zeros(wrong.shape, np.uint8), wrong < np.inf
    )
    start = Pose.at(truth.translation + np.array([9.0, -7.0, 8.0]))
    found = Hypothesis(start, np.zeros(3, dtype=np.float32), None, refinement, 1.0)  # type: ignore[arg-type]
    everywhere = fitted(engine, found, field.grid)
    where_seen = fitted(engine, found, seen)
    points = seen.points_lps()
    near = np.abs(field.at(points)) < 3

    def off(fit: tuple[Pose, np.ndarray]) -> float:
        return float(np.abs(engine.prior(*fit).at(points)[near] - field.at(points)[near]).mean())

    assert len(where_seen[1]) == 3
    assert off(where_seen) < 0.8
    assert off(everywhere) > 2 * off(where_seen)
