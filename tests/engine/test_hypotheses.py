"""Which of the refined hypotheses the engine keeps."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest

from dissm_engine.delineator import Delineator, Hypothesis
from dissm_engine.errors import NO_SURFACE, DelineationError
from dissm_engine.pose.agent import PosePath
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.similarity import Pose

RIGID, NON_RIGID = Pose.at(np.zeros(3)), Pose.at(np.ones(3))
Score = float | None


def kept(scores: Mapping[str, Score]) -> str:
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

    def refined(_: object, pose: Pose, given: np.ndarray) -> Hypothesis:
        score = scores["rigid" if pose is RIGID else "non_rigid"]
        if score is None:
            raise DelineationError(NO_SURFACE)
        return Hypothesis(pose, given, None, None, score)  # type: ignore[arg-type]

    engine = SimpleNamespace(refined=refined)
    best = Delineator.best_hypothesis(engine, None, path)  # type: ignore[arg-type]
    return next(name for name, pose in ends.items() if pose is best.pose)


def test_a_leak_into_other_tissue_loses_to_the_rigid_fit() -> None:
    assert kept({"rigid": 0.989, "non_rigid": 0.970}) == "rigid"


def test_the_non_rigid_fit_is_kept_where_the_rigid_one_is_not_clearly_better() -> None:
    assert kept({"rigid": 0.983, "non_rigid": 0.998}) == "non_rigid"
    assert kept({"rigid": 0.997, "non_rigid": 0.991}) == "non_rigid"
    assert kept({"rigid": 0.99999, "non_rigid": 0.99982}) == "non_rigid"


def test_one_hypothesis_without_a_surface_does_not_take_the_other_with_it() -> None:
    assert kept({"rigid": 0.5, "non_rigid": None}) == "rigid"
    assert kept({"rigid": None, "non_rigid": 0.5}) == "non_rigid"
    with pytest.raises(DelineationError):
        kept({"rigid": None, "non_rigid": None})
