"""The bias that is taken off the final field is a distance between surfaces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from training.evaluate.calibration import Calibration, read_calibration, write_calibration
from training.evaluate.calibration_stage import signed_distance_mm


def ball(radius: float, shift: float = 0.0) -> TriangleMesh:
    sphere = trimesh.creation.icosphere(4, radius)
    return TriangleMesh(np.asarray(sphere.vertices) + np.array([shift, 0, 0]), np.asarray(sphere.faces, dtype=np.int64))


def test_the_signed_distance_is_positive_outside_negative_inside_and_zero_for_a_shift() -> None:
    assert signed_distance_mm(ball(52), ball(50)) == pytest.approx(2.0, abs=0.05)
    assert signed_distance_mm(ball(49), ball(50)) == pytest.approx(-1.0, abs=0.05)
    assert signed_distance_mm(ball(50, shift=4), ball(50)) == pytest.approx(0.0, abs=0.05)


def test_a_calibration_is_read_as_it_was_written_and_one_of_an_older_version_as_well(tmp_path: Path) -> None:
    assert read_calibration(tmp_path) is None
    (tmp_path / "calibrate").mkdir()
    calibration = Calibration(0.25, 3, {-0.5: 0.94, 0.0: 0.95}, (0.1, 0.25, 0.4))
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path) == calibration
    path = tmp_path / "calibrate" / "calibration.json"
    content = json.loads(path.read_text())
    assert content["outward_mm"] == 0.25
    del content["signed_mm"]
    path.write_text(json.dumps(content))
    assert read_calibration(tmp_path) == Calibration(0.25, 3, {-0.5: 0.94, 0.0: 0.95})
