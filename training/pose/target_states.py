"""The pose and the loadings that each training case should end with: from alignment, and fitted under that pose."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dissm_engine.pose.correction import LOADING_LIMIT, AgentState
from dissm_engine.pose.observation import ShapeCanvas
from dissm_engine.pose.similarity import PoseBatch
from training.pose.scenes import BAND_MM, Scene

_RIDGE_MM2 = 0.1
_ROBUST_MM = 2.0
_ROUNDS = 4


def target_states(scenes: Sequence[Scene], canvas: ShapeCanvas) -> AgentState:
    """Pose and loadings of every scene."""
    poses = PoseBatch.of([scene.target_pose for scene in scenes])
    loadings = [_fitted_loadings(scene, poses[[number]], canvas) for number, scene in enumerate(scenes)]
    return AgentState(poses, torch.stack(loadings))


def surface_mm_per_loading(canvas: ShapeCanvas) -> torch.Tensor:
    """[C] root mean square change in mm of the distance near the mean surface for one standard deviation."""
    near = canvas.mean_mm.abs() < BAND_MM
    return canvas.basis_mm[:, near].square().mean(dim=1).sqrt()


def _fitted_loadings(scene: Scene, pose: PoseBatch, canvas: ShapeCanvas) -> torch.Tensor:
    """Robust ridge regression [C] of the scene's true distances near the surface on the canvas, linear in loadings.

    Ridge: distances are in mm, loadings in standard deviations; robust: weights fall with the residual (Cauchy-like),
    since a deformed liver has parts that no loading explains.
    """
    samples = torch.from_numpy(scene.samples)
    samples = samples[samples[:, 3].abs() < BAND_MM]
    mean, basis = canvas.mean_and_basis_mm(pose.to_reference(samples[None, :, :3])[0])
    wanted = samples[:, 3] / float(pose.scale.log().mean().exp()) - mean
    weights = torch.ones(len(wanted))
    loadings = torch.zeros(basis.shape[1])
    for _ in range(_ROUNDS):
        weighted = basis * weights[:, None] / len(wanted)
        loadings = torch.linalg.solve(weighted.T @ basis + _RIDGE_MM2 * torch.eye(len(loadings)), weighted.T @ wanted)
        weights = 2 * _ROBUST_MM / ((wanted - basis @ loadings).abs() + _ROBUST_MM)
    return loadings.clamp(-LOADING_LIMIT, LOADING_LIMIT)
