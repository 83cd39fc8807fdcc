"""What stage "calibrate" found, and its file in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dissm_engine.atomic_file import write_json
from dissm_engine.json_value import JsonObject

CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """By how much the refined surface lies outside the true one.

    Attributes:
        surface_bias_mm: The offset of the final field that serves the mean DSC best.
        cases: On how many bodies it was measured.
        mean_dsc: Mean DSC by offset in mm.
    """

    surface_bias_mm: float
    cases: int
    mean_dsc: Mapping[float, float]


def write_calibration(run_folder: Path, calibration: Calibration) -> None:
    """Write `calibrate/calibration.json`; the bias has the key that it has in a bundle's manifest."""
    content: JsonObject = {
        "outward_mm": calibration.surface_bias_mm,
        "cases": calibration.cases,
        "mean_dsc": {str(offset): dsc for offset, dsc in calibration.mean_dsc.items()},
    }
    write_json(run_folder / "calibrate" / CALIBRATION_FILE, content)


def read_calibration(run_folder: Path) -> Calibration | None:
    """What `write_calibration` wrote; None before it."""
    path = run_folder / "calibrate" / CALIBRATION_FILE
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    mean_dsc = {float(offset): float(dsc) for offset, dsc in content["mean_dsc"].items()}
    return Calibration(float(content["outward_mm"]), int(content["cases"]), mean_dsc)
