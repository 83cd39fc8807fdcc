"""One pose of the shape model with what the refinement makes of it, and which of two is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dissm_engine.pose.agent import PosePath, stage_poses
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.similarity import Pose
from dissm_engine.refine.refiner import Refinement
from dissm_engine.volume import Volume

MIN_AGREEMENT_GAIN = 0.015
"""Only so much more agreement with the tissue head is a reason to take a less likely hypothesis."""


@dataclass(frozen=True)
class Hypothesis:
    """The shape model at one pose, and what the refinement makes of it.

    Attributes:
        pose, loadings: Of the shape model; the loadings are float32 [C] in standard deviations.
        working: The CT on the grid of the refinement's field.
        refinement: The refined field with the tissues around it.
        agreement: Share of the field's inside that the tissue head calls liver, 0 to 1.
    """

    pose: Pose
    loadings: npt.NDArray[np.float32]
    working: Volume
    refinement: Refinement
    agreement: float


def rigid_and_non_rigid(path: PosePath) -> list[tuple[Pose, npt.NDArray[np.float32]]]:
    """Pose and loadings after the rotation stage and after the non-rigid stage."""
    ends = stage_poses(path)
    return [ends[stage] for stage in (StageName.ROTATION, StageName.NON_RIGID) if stage in ends]


def unless_clearly_worse(hypothesis: Hypothesis, alternative: Hypothesis) -> Hypothesis:
    """The hypothesis, or the alternative where the tissue head agrees with that one clearly more."""
    return alternative if alternative.agreement > hypothesis.agreement + MIN_AGREEMENT_GAIN else hypothesis
