"""Starts of a refinement that are worse than what the pose stage finds, for results that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dissm_engine.pose.agent import PosePath, stage_poses
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.similarity import Pose
from training.evaluate.trust_fit import Start

_SHIFTS_MM = (10.0, 90.0)
_SMALL_SHIFTS_MM = (0.0, 10.0)
_SCALES = (0.75, 1.3)
_LOADINGS_NEAR = 0.5
_LOADINGS_FAR = 1.5


def starts(path: PosePath, rng: np.random.Generator) -> Iterator[tuple[Start, PosePath]]:
    """The path itself, then its rigid end alone, one moved away by 10-90 mm, and one of another size and shape.

    Args:
        path: As the pose stage found it.
        rng: Draws how far.
    """
    yield Start.FOUND, path
    rigid = stage_poses(path).get(StageName.ROTATION)
    if rigid is not None:
        yield Start.RIGID, _ended(path, StageName.ROTATION, *rigid)
    yield Start.SHIFTED, _shifted_away(path, rng)
    yield Start.DEFORMED, _deformed(path, rng)


def starts_to_leave_early(path: PosePath, rng: np.random.Generator) -> Iterator[tuple[Start, PosePath]]:
    """Further wrong starts, of which only the result before the first round is wanted: these are mostly poor."""
    yield Start.SHIFTED, _shifted_away(path, rng)
    yield Start.DEFORMED, _deformed(path, rng)
    yield Start.SHIFTED, _shifted_away(path, rng)


def _shifted_away(path: PosePath, rng: np.random.Generator) -> PosePath:
    loadings = path.loadings + rng.normal(0, _LOADINGS_NEAR, path.loadings.shape)
    return _ended_wrong(path, _shifted(path.pose, _SHIFTS_MM, 1.0, rng), loadings)


def _deformed(path: PosePath, rng: np.random.Generator) -> PosePath:
    scale = float(np.exp(rng.uniform(*np.log(_SCALES))))
    loadings = rng.normal(0, _LOADINGS_FAR, path.loadings.shape)
    return _ended_wrong(path, _shifted(path.pose, _SMALL_SHIFTS_MM, scale, rng), loadings)


def _shifted(pose: Pose, between_mm: tuple[float, float], scale: float, rng: np.random.Generator) -> Pose:
    direction = rng.standard_normal(3)
    shift = rng.uniform(*between_mm) * direction / np.linalg.norm(direction)
    return pose.corrected(shift, np.full(3, scale), np.eye(3))


def _ended_wrong(path: PosePath, pose: Pose, loadings: npt.NDArray[np.float64]) -> PosePath:
    return _ended(path, path.stages[-1], pose, loadings.astype(np.float32))


def _ended(path: PosePath, stage: StageName, pose: Pose, loadings: npt.NDArray[np.float32]) -> PosePath:
    """The path with one pose only, so that one hypothesis is refined."""
    return replace(path, steps=(pose,), stages=(stage,), step_loadings=(loadings,), pose=pose, loadings=loadings)
