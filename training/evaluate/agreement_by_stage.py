"""What every stage of the engine achieves on phantoms whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from dissm_engine.delineator import Delineator
from dissm_engine.errors import DelineationError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.agent import stage_poses
from dissm_engine.volume import Volume
from training.evaluate.metrics import NOTHING_FOUND, Agreement, Truth

MEAN_SHAPE = "mean shape at the final pose"
REFINED = "refined"


def evaluate_case(engine: Delineator, volume: Volume, truth_mesh: TriangleMesh) -> dict[str, Agreement]:
    """Agreement after every stage, by the stage's name, in order."""
    truth = Truth(truth_mesh)
    path = engine.find_pose(volume)
    results: dict[str, Agreement] = {}
    for stage, (pose, loadings) in stage_poses(path).items():
        results[str(stage)] = truth.compare(engine.prior(pose, loadings))
    results[MEAN_SHAPE] = truth.compare(engine.prior(path.pose, np.zeros_like(path.loadings)))
    try:
        results[REFINED] = truth.compare_mesh(engine.delineate(volume).mesh)
    except DelineationError:
        results[REFINED] = NOTHING_FOUND
    return results


def summarise(cases: Sequence[Mapping[str, Agreement]]) -> dict[str, dict[str, float]]:
    """Mean and worst of every stage."""
    summary: dict[str, dict[str, float]] = {}
    for stage in cases[0]:
        rows = [asdict(case[stage]) for case in cases]
        summary[stage] = {
            "dsc": float(np.mean([r["dsc"] for r in rows])),
            "dsc_worst": float(np.min([r["dsc"] for r in rows])),
            "assd_mm": float(np.mean([r["assd_mm"] for r in rows])),
            "assd_mm_worst": float(np.max([r["assd_mm"] for r in rows])),
            "hd95_mm": float(np.mean([r["hd95_mm"] for r in rows])),
            "hd95_mm_worst": float(np.max([r["hd95_mm"] for r in rows])),
        }
    return summary
