"""The trained parts that delineate together, wherever they come from: a bundle, or the folder of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field

from dissm_engine.pose.agent import PoseAgent
from dissm_engine.refine.refiner import Refiner
from dissm_engine.shape.model import ShapeModel
from dissm_engine.trust import TrustModel


@dataclass(frozen=True)
class TrainedModel:
    """Everything that a `Delineator` computes with.

    Attributes:
        shape: The deep implicit statistical shape model (paper 3.1).
        agent: Finds the pose and the loadings of the shape in a CT (paper 3.2).
        refiner: Refines the posed shape locally (paper 3.3).
        surface_bias_mm: How far the refined surface lies outside the true one in the mean; taken off the final field.
        trust: Judges the findings; as long as it is not fitted, nothing is trusted.
    """

    shape: ShapeModel
    agent: PoseAgent
    refiner: Refiner
    surface_bias_mm: float = 0.0
    trust: TrustModel = field(default_factory=TrustModel.unfitted)
