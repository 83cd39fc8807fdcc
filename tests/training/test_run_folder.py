"""A run folder keeps to what it was begun with, and any source of surfaces can be judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from training.context import RunContext
from training.evaluate.evaluation_stage import phantoms_to_judge
from training.pose.curriculum import split_scenes
from training.pose.scenes import Scene
from training.presets import Preset
from training.run_record import RunError, require_recorded_settings
from training.sources.meshes import write_mesh


def ball(radius: float = 60.0) -> TriangleMesh:
    sphere = trimesh.creation.icosphere(3, radius)
    return TriangleMesh(np.asarray(sphere.vertices), np.asarray(sphere.faces, dtype=np.int64))


def context(folder: Path, names: list[str]) -> RunContext:
    """A run of the smoke preset from a folder of balls; the first of them is held out."""
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_mesh(source / f"{name}.npz", ball())
    kept = folder / "run" / "surfaces" / "held_out"
    kept.mkdir(parents=True, exist_ok=True)
    write_mesh(kept / f"{names[0]}.npz", ball(50.0))
    return RunContext(folder / "run", source, Preset.named("smoke"))


def test_a_run_goes_on_with_its_own_settings_and_other_threads(tmp_path: Path) -> None:
    begun = context(tmp_path, ["liver_0"])
    require_recorded_settings(begun)
    require_recorded_settings(replace(begun, threads=7))


def test_a_run_begun_with_another_preset_or_seed_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    begun = context(tmp_path, ["liver_0"])
    require_recorded_settings(begun)
    refine = begun.preset.refine.model_copy(update={"steps": 13})
    with pytest.raises(RunError, match=r"preset\.refine\.steps was 12 and is 13"):
        require_recorded_settings(replace(begun, preset=begun.preset.model_copy(update={"refine": refine})))
    with pytest.raises(RunError, match="seed was 2026 and is 1"):
        require_recorded_settings(replace(begun, seed=1))


@pytest.mark.parametrize("name", ["liver_0", "amos_0001"])
def test_livers_of_any_name_are_judged_on_those_kept_out(tmp_path: Path, name: str) -> None:
    ((entry, mesh),) = phantoms_to_judge(context(tmp_path, [name, "other"]))
    assert (entry["liver"], entry["edition"]) == (name, 0)
    assert mesh.closed
    assert mesh.volume_ml == pytest.approx(ball(50.0).volume_ml, rel=1e-3)


def test_a_published_liver_with_an_open_surface_is_closed_before_it_is_judged(tmp_path: Path) -> None:
    run = context(tmp_path, ["amos_001"])
    whole = ball()
    write_mesh(tmp_path / "source" / "amos_001.npz", TriangleMesh(whole.vertices, whole.faces[1:]))
    (entry, mesh), *_ = phantoms_to_judge(run)
    assert (entry["liver"], entry["edition"]) == ("amos_001", 1)
    assert mesh.closed


def test_a_handful_of_livers_still_leaves_most_for_training() -> None:
    def scene(name: str) -> Scene:
        return Scene(name, (), np.eye(4), np.zeros((1, 4), dtype=np.float32), target_pose=None)  # type: ignore[arg-type]

    training, validation = split_scenes([scene(f"liver_{n}") for n in range(5)], 6)
    assert (len(training), len(validation)) == (4, 1)
