"""Objects stay small enough to be sent, stored and opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dicom_node.settings import ResultSettings
from dissm_engine.preprocessing import FIELD_SPACING_MM
from dissm_engine.volume import Volume
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.result_case import case_in_memory, written_case

MAX_SURFACE_BYTES = 2_000_000
LARGEST_USUAL_LIVER_ML = 3000


def test_the_surface_of_a_liver_beyond_the_usual_stays_within_two_megabytes(tmp_path: Path) -> None:
    ct = Volume(np.zeros((64, 64, 64), np.int16), np.diag([5.0, 5.0, 5.0, 1.0]))
    stack = case_in_memory(tmp_path / "ct", ct, ResultSettings(objects=["seg"])).stack
    found = ellipsoid_delineation(ct.grid, size=1.1, field_spacing_mm=FIELD_SPACING_MM)
    assert found.volume_ml > LARGEST_USUAL_LIVER_ML
    case = written_case(tmp_path, stack, delineation=found)
    case.prove()
    assert case.surface.stat().st_size <= MAX_SURFACE_BYTES
