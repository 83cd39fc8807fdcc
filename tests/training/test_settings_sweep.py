"""Short trainings that compare settings at the same processor time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import SignedDistance, axis_aligned_grid
from dissm_phantom.anatomy import Anatomy
from dissm_phantom.tissue import Tissue
from training.errors import RunError
from training.phantom.anatomy_files import save_anatomy
from training.refine import settings_sweep
from training.refine.crops import load_crops
from training.refine.refinement_settings import RefinementPreset
from training.refine.settings_sweep import sweep, sweep_table, variants
from training.refine.validation import ValidationPatches

BASE = RefinementPreset.smoke().model_copy(update={"bfloat16": False, "checkpoint_every": 2})


def test_every_value_of_every_setting_is_one_variant_of_the_base() -> None:
    found = variants(BASE, ["learning_rate=3e-4,1e-3", "widths=4-8", "errors.centring=0", "bfloat16=true"])
    assert [variant.name for variant in found] == [
        "base",
        "learning_rate=3e-4",
        "learning_rate=1e-3",
        "widths=4-8",
        "errors.centring=0",
        "bfloat16=true",
    ]
    assert found[1].preset == BASE.model_copy(update={"learning_rate": 3e-4})
    assert found[3].preset.widths == (4, 8)
    assert found[4].preset.errors.centring == 0
    assert found[5].preset.bfloat16


@pytest.mark.parametrize("text", ["learning=1", "widths=broad", "errors.size=1", "batch=", "steps.more=1"])
def test_a_setting_that_does_not_exist_or_has_no_such_value_is_named(text: str) -> None:
    with pytest.raises(RunError, match="does not vary a setting") as refused:
        variants(BASE, [text])
    assert refused.value.reason.code == "SETTING_UNKNOWN"


def test_a_sweep_gives_each_variant_its_time_and_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = axis_aligned_grid([-60, -60, -60], [60, 60, 60], 2.0)
    distance = np.asarray(np.linalg.norm(grid.points_lps(), axis=-1) - 35, dtype=np.float32)
    labels = np.where(distance < 0, Tissue.LIVER, Tissue.FAT).astype(np.uint8)
    mesh = TriangleMesh(np.eye(3), np.array([[0, 1, 2]]))
    file = tmp_path / "0000.npz"
    save_anatomy(file, Anatomy(labels, SignedDistance(distance, grid), mesh, np.eye(4), {"truncated": "none"}), "b", 1)
    held = ValidationPatches.draw(load_crops([file], BASE.tile), BASE, 1)
    chosen = variants(BASE, ["batch=2"])

    class Killed(Exception):
        pass

    steps: list[float] = []

    def kill_when_one_is_done(_: str, done: float) -> None:
        steps.append(done)
        if done > 0.6:
            raise Killed

    monkeypatch.setattr(settings_sweep, "_KEPT_EVERY_SECONDS", 0.0)
    with pytest.raises(Killed):
        sweep(chosen, [file], held, 2.0, tmp_path, 3, kill_when_one_is_done)
    made = len(steps)
    rows = sweep(chosen, [file], held, 2.0, tmp_path, 3, lambda _, done: steps.append(done))
    assert sum(row.steps for row in rows) == len(steps) > made
    assert [row.samples / row.steps for row in rows] == [1, 2]
    # Each had its time, and no more beyond it than its last step took.
    assert all(2 <= row.cpu_seconds < 2 + 4 * row.cpu_seconds / row.steps for row in rows)
    assert all(0 < row.painting_share < 1 for row in rows)
    assert sweep_table(rows).count("\n") == 4
    assert sweep(chosen, [file], held, 2.0, tmp_path, 3, pytest.fail) == rows
