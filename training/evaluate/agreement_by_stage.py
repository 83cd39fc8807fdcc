"""What every stage of the engine achieves on phantoms whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dissm_engine.delineation import Delineation
from dissm_engine.delineator import Delineator
from dissm_engine.errors import DelineationError
from dissm_engine.json_value import JsonObject
from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.agent import stage_poses
from dissm_engine.volume import Volume
from training.evaluate.metrics import NOTHING_FOUND, Agreement, Truth

MEAN_SHAPE = "mean shape at the final pose"
REFINED = "refined"

StageAgreements = Mapping[str, Agreement]
"""Agreement after every stage of the engine by the stage's name, in the order of the stages."""


@dataclass(frozen=True, slots=True)
class AgreementSummary:
    """Mean and worst agreement over cases; DSC 0 to 1, distances in mm, as in `Agreement`."""

    dsc: float
    dsc_worst: float
    assd_mm: float
    assd_mm_worst: float
    hd95_mm: float
    hd95_mm_worst: float

    @staticmethod
    def of(cases: Sequence[Agreement]) -> AgreementSummary:
        """The summary of at least one case."""
        return AgreementSummary(
            dsc=float(np.mean([case.dsc for case in cases])),
            dsc_worst=float(np.min([case.dsc for case in cases])),
            assd_mm=float(np.mean([case.assd_mm for case in cases])),
            assd_mm_worst=float(np.max([case.assd_mm for case in cases])),
            hd95_mm=float(np.mean([case.hd95_mm for case in cases])),
            hd95_mm_worst=float(np.max([case.hd95_mm for case in cases])),
        )

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> AgreementSummary:
        """The inverse of `to_json`. Raises TypeError if a field is missing or unknown."""
        return AgreementSummary(**content)


@dataclass(frozen=True)
class EvaluatedCase:
    """One CT, delineated and held against its true surface.

    Attributes:
        stages: Agreement after every stage; `NOTHING_FOUND` after the last one where the engine found no organ.
        found: The result; None where there is none.
        problem: Why there is none, code and sentence; empty where there is one.
    """

    stages: StageAgreements
    found: Delineation | None
    problem: str = ""


def evaluate_case(engine: Delineator, volume: Volume, truth_mesh: TriangleMesh) -> EvaluatedCase:
    """Delineate a CT and compare what every stage leaves with the true surface (closed, LPS mm)."""
    truth = Truth(truth_mesh)
    path = engine.find_pose(volume)
    results: dict[str, Agreement] = {}
    for stage, (pose, loadings) in stage_poses(path).items():
        results[str(stage)] = truth.compare(engine.prior(pose, loadings))
    results[MEAN_SHAPE] = truth.compare(engine.prior(path.pose, np.zeros_like(path.loadings)))
    try:
        found = engine.delineate(volume, path=path)
    except DelineationError as problem:
        return EvaluatedCase({**results, REFINED: NOTHING_FOUND}, None, f"{problem.reason.code}: {problem}")
    return EvaluatedCase({**results, REFINED: truth.compare_mesh(found.mesh)}, found)


def summarise(cases: Sequence[StageAgreements]) -> dict[str, AgreementSummary]:
    """Mean and worst of every stage, over at least one case."""
    return {stage: AgreementSummary.of([case[stage] for case in cases]) for stage in cases[0]}
