"""One step of the agent: raw encoder outputs become a correction of the current pose (Eq. 6, 7; Table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch

from dissm_engine.pose.similarity import PoseBatch, rotation_from_6d

RIGID_OUTPUTS = 13
LOADING_LIMIT = 3.0
_SHIFT_MM = 20.0
_LOG_SCALE = 0.1
_ROTATION = 0.1
_LOG_SCALE_LIMIT = 0.5


class StageName(StrEnum):
    """Marginal space learning: each stage corrects what the one before it does, and something more."""

    TRANSLATION = "translation"
    SCALE = "scale"
    ROTATION = "rotation"
    NON_RIGID = "non_rigid"

    @property
    def corrects_scale(self) -> bool:
        """Whether the stage corrects the scale (Table 1)."""
        return self is not StageName.TRANSLATION

    @property
    def corrects_rotation(self) -> bool:
        """Whether the stage corrects the rotation (Table 1)."""
        return self in (StageName.ROTATION, StageName.NON_RIGID)

    @property
    def gives_loadings(self) -> bool:
        """Whether the stage gives loadings of the shape model (Table 1)."""
        return self is StageName.NON_RIGID


@dataclass(frozen=True)
class AgentState:
    """Where B trajectories stand.

    Attributes:
        poses: B of them.
        loadings: float32 [B, C], standard deviations.
    """

    poses: PoseBatch
    loadings: torch.Tensor

    @staticmethod
    def at(positions_lps: torch.Tensor, components: int) -> AgentState:
        """The mean shape, upright and of mean size, at B places [B, 3]."""
        count = len(positions_lps)
        upright = torch.eye(3).expand(count, 3, 3).clone()
        poses = PoseBatch(positions_lps.float(), torch.ones(count, 3), upright)
        return AgentState(poses, torch.zeros(count, components))

    def __getitem__(self, chosen: torch.Tensor | list[int]) -> AgentState:
        """The trajectories at these indices."""
        return AgentState(self.poses[chosen], self.loadings[chosen])

    def __len__(self) -> int:
        return len(self.loadings)

    def detached(self) -> AgentState:
        """Cut from the history of gradients, as between steps of an episode."""
        return AgentState(self.poses.detached(), self.loadings.detach())


@dataclass(frozen=True)
class Step:
    """What one observation led to.

    Attributes:
        state: After the correction.
        unclipped_scale: float32 [B, 3], before it is clipped (Eq. 14).
        log_error: float32 [B], natural logarithm of the mean absolute distance error in mm that the encoder expects of
            `state`.
    """

    state: AgentState
    unclipped_scale: torch.Tensor
    log_error: torch.Tensor


def take_step(stage: StageName, state: AgentState, raw: torch.Tensor, accumulate_loadings: bool) -> Step:
    """Apply raw outputs to the state (Eq. 6 and 7; Table 1).

    Args:
        stage: Decides which parts of the pose are corrected.
        state: Of B trajectories.
        raw: Outputs of the stage's encoder, float32 [B, RIGID_OUTPUTS + C].
        accumulate_loadings: Whether the outputs correct the current loadings; otherwise they are the loadings, as in
            the paper's Eq. 6.
    """
    shift = raw[:, 0:3] * _SHIFT_MM
    scale = torch.ones_like(shift)
    if stage.corrects_scale:
        scale = torch.exp((raw[:, 3:6] * _LOG_SCALE).clamp(-_LOG_SCALE_LIMIT, _LOG_SCALE_LIMIT))
    rotation = torch.eye(3).expand(len(raw), 3, 3)
    if stage.corrects_rotation:
        rotation = rotation_from_6d(raw[:, 6:12] * _ROTATION)
    loadings = state.loadings
    if stage.gives_loadings:
        given = raw[:, RIGID_OUTPUTS:]
        loadings = (state.loadings + given if accumulate_loadings else given).clamp(-LOADING_LIMIT, LOADING_LIMIT)
    poses = state.poses.corrected(shift, scale, rotation)
    return Step(AgentState(poses, loadings), state.poses.scale * scale, raw[:, 12])
