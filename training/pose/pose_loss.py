"""The agent's loss through the frozen decoder (Eq. 8, 12, 14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dissm_engine.pose.correction import AgentState, StageName, Step
from dissm_engine.pose.observation import ImplicitShape
from dissm_engine.pose.similarity import SCALE_LIMITS
from training.pose.scenes import SDF_LIMIT_MM

_LOG_ERROR_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Each [scalar]. distance_mm: mean absolute distance error; total: what is minimised."""

    total: torch.Tensor
    distance_mm: torch.Tensor


def predicted_sdf_mm(shape: ImplicitShape, state: AgentState, points_lps: torch.Tensor) -> torch.Tensor:
    """Signed distance [B, P] in mm of the posed shapes at LPS points [B, P, 3].

    Beyond the sphere the decoder was trained in, the way to that sphere is added. Under anisotropic scale the decoder's
    distance is taken to image mm by the mean factor: exact at the surface, first order beside it.
    """
    canonical = state.poses.to_reference(points_lps) / shape.mm_per_unit
    radius = canonical.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    within = canonical * (shape.trained_radius / radius).clamp(max=1.0)
    sdf = shape.canonical_sdf(within, shape.latent(state.loadings)) + (canonical - within).norm(dim=-1)
    mean_scale = state.poses.scale.log().mean(dim=-1).exp()
    sdf_mm: torch.Tensor = sdf * shape.mm_per_unit * mean_scale[:, None]
    return sdf_mm


def distance_error_mm(shape: ImplicitShape, state: AgentState, samples: torch.Tensor) -> torch.Tensor:
    """[B] mean absolute error at samples [B, P, 4] (LPS mm, true signed distance in mm)."""
    predicted = predicted_sdf_mm(shape, state, samples[..., :3]).clamp(-SDF_LIMIT_MM, SDF_LIMIT_MM)
    return (predicted - samples[..., 3]).abs().mean(dim=-1)


def agent_loss(
    shape: ImplicitShape,
    stage: StageName,
    step: Step,
    samples: torch.Tensor,
    target: AgentState,
    loading_mm: torch.Tensor,
    supervision_weight: float,
    latent_sigma: float,
) -> LossTerms:
    """Eq. 8 (Eq. 12 for the non-rigid stage) in canonical units, and Eq. 14.

    target: poses from alignment and loadings fitted under them, used with weight `supervision_weight`; loading_mm: [C],
    what one standard deviation of each loading moves the surface. The expected error is trained beside, on a detached
    target, so that it steers nothing but itself.
    """
    error_mm = distance_error_mm(shape, step.state, samples)
    low, high = SCALE_LIMITS
    excess = (step.unclipped_scale - high).clamp(min=0) + (low - step.unclipped_scale).clamp(min=0)
    total = error_mm.mean() / shape.mm_per_unit + excess.sum(dim=-1).mean()
    if stage.gives_loadings:
        total = total + shape.latent(step.state.loadings).square().sum(dim=-1).mean() / latent_sigma**2
    if supervision_weight:
        apart_mm = step.state.poses.distance_mm(target.poses)
        if stage.gives_loadings:
            apart_mm = apart_mm + ((step.state.loadings - target.loadings) * loading_mm).norm(dim=-1)
        total = total + supervision_weight * apart_mm.mean() / shape.mm_per_unit
    surprise = (step.log_error - error_mm.detach().clamp(min=0.1).log()).abs().mean()
    return LossTerms(total + _LOG_ERROR_WEIGHT * surprise, error_mm.mean().detach())
