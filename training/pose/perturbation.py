"""Random pose perturbations before each step of an episode (Eq. 9, 10; Tables 6-8)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from dissm_engine.pose.correction import LOADING_LIMIT, AgentState
from training.pose.pose_settings import PerturbationRange


def perturbed(
    state: AgentState, standard: PerturbationRange, fine: PerturbationRange, rng: np.random.Generator
) -> AgentState:
    """Every pose composed with a uniform perturbation from the standard or the fine range, with equal odds."""
    chosen = [standard if rng.random() < 0.5 else fine for _ in range(len(state))]
    shift = np.stack([rng.uniform(-r.translation_mm, r.translation_mm, 3) for r in chosen])
    scale = np.stack([rng.uniform(*r.scale, 3) for r in chosen])
    degrees = np.stack([rng.uniform(-r.rotation_deg, r.rotation_deg, 3) for r in chosen])
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    noise = np.stack([r.loadings * rng.standard_normal(state.loadings.shape[1]) for r in chosen])
    poses = state.poses.corrected(_tensor(shift), _tensor(scale), _tensor(rotation))
    return AgentState(poses, (state.loadings + _tensor(noise)).clamp(-LOADING_LIMIT, LOADING_LIMIT))


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
