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
        surface_bias_mm: Median over the bodies of `signed_mm`; taken off, half of them end inside.
        cases: On how many bodies it was measured.
        mean_dsc: Mean DSC by offset in mm, which the bias is not fitted to.
        signed_mm: Signed mean distance of each body's refined surface from the true one, positive outside of it. None
            in a run that an older version calibrated, which fitted the bias to the DSC.
    """

    surface_bias_mm: float
    cases: int
    mean_dsc: Mapping[float, float]
    signed_mm: tuple[float, ...] = ()


def write_calibration(run_folder: Path, calibration: Calibration) -> None:
    """Write `calibrate/calibration.json`; the bias has the key that it has in a bundle's manifest."""
    content: JsonObject = {
        "outward_mm": calibration.surface_bias_mm,
        "cases": calibration.cases,
        "mean_dsc": {str(offset): dsc for offset, dsc in calibration.mean_dsc.items()},
        "signed_mm": list(calibration.signed_mm),
    }
    write_json(run_folder / "calibrate" / CALIBRATION_FILE, content)


def read_calibration(run_folder: Path) -> Calibration | None:
    """What `write_calibration` wrote; None before it."""
    path = run_folder / "calibrate" / CALIBRATION_FILE
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    mean_dsc = {float(offset): float(dsc) for offset, dsc in content["mean_dsc"].items()}
    signed_mm = tuple(float(value) for value in content.get("signed_mm", ()))
    return Calibration(float(content["outward_mm"]), int(content["cases"]), mean_dsc, signed_mm)
