"""The validation curve of a run's refinement, read from the lines that its trainings wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dissm_engine.json_value import JsonObject
from training.refine.refinement_trainer import METRICS_FILE
from training.refine.validation import WATCHED


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One evaluation of the averaged weights.

    Attributes:
        stage: "refine" or "finetune".
        step: Of its stage.
        dsc, distance_mm, bias_mm: As `ValidationPatches.measure` names them.
    """

    stage: str
    step: int
    dsc: float
    distance_mm: float
    bias_mm: float


def learning_curve(run_folder: Path) -> list[CurvePoint]:
    """Every evaluation of "refine" and then of "finetune"; empty where nothing was validated."""
    points = []
    for stage in ("refine", "finetune"):
        file = run_folder / stage / METRICS_FILE
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            record = json.loads(line)
            if WATCHED in record:
                dsc, mm, bias = (float(record[f"validation_{name}"]) for name in ("dsc", "mm", "bias_mm"))
                points.append(CurvePoint(stage, int(record["step"]), dsc, mm, bias))
    return points


def curve_to_json(points: list[CurvePoint]) -> list[JsonObject]:
    """The curve as the provenance of a bundle keeps it."""
    return [
        {
            "stage": point.stage,
            "step": point.step,
            "dsc": point.dsc,
            "distance_mm": point.distance_mm,
            "bias_mm": point.bias_mm,
        }
        for point in points
    ]
