"""A run folder keeps to what it was begun with, and any source of surfaces can be judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from training import pipeline
from training.context import RunContext
from training.errors import RunError
from training.evaluate.evaluation_stage import phantoms_to_judge
from training.pose.curriculum import split_scenes
from training.pose.scenes import Scene
from training.presets import Preset
from training.run_record import require_recorded_settings
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


OLD_NAMES = {
    ("shape", "max_shapes"): "most_shapes",
    ("shape", "max_held_out"): "most_held_out",
    ("shape", "decoder_learning_rate"): "decoder_rate",
    ("shape", "code_learning_rate"): "latent_rate",
    ("pose", "bfloat16"): "bf16",
    ("refine", "ema_decay"): "average",
    ("refine", "bfloat16"): "native_half",
    ("finetune", "ema_decay"): "average",
    ("finetune", "bfloat16"): "native_half",
}


def begun_with_0_3_0(folder: Path) -> RunContext:
    """A run whose record is as version 0.3.0 wrote it."""
    begun = context(folder, ["liver_0"])
    preset = begun.preset.model_dump(mode="json")
    for (section, new), old in OLD_NAMES.items():
        preset[section][old] = preset[section].pop(new)
    for stage in ("translation", "scale", "rotation", "non_rigid"):
        preset["pose"][stage]["supervised"] = preset["pose"][stage].pop("supervision_weight")
    record = {"preset": preset, "seed": begun.seed, "surfaces": begun.surfaces.name}
    (begun.folder / "run.json").write_text(json.dumps(record))
    return begun


def test_a_run_begun_with_0_3_0_goes_on_and_its_old_settings_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # A command of the node that ran in this process before may have silenced warnings.
    caplog.set_level("WARNING")
    begun = begun_with_0_3_0(tmp_path)
    (begun.folder / "shape").mkdir()
    (begun.folder / "shape" / "autodecoder.pt").touch()
    (begun.folder / "shape.done").touch()
    require_recorded_settings(begun)
    assert "the run's setting most_shapes is now called max_shapes" in caplog.text
    assert "the run's setting supervised is now called supervision_weight" in caplog.text
    caplog.clear()
    require_recorded_settings(begun)
    assert not caplog.text
    with pytest.raises(RunError, match="seed was 2026 and is 1"):
        require_recorded_settings(replace(begun, seed=1))


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("shape", "autodecoder.pt"),
        ("pose", "scale.checkpoint.pt"),
        ("refine", "checkpoint.pt"),
        ("finetune", "checkpoint.pt"),
    ],
)
def test_a_stage_half_done_by_0_3_0_is_refused_with_its_cure(tmp_path: Path, stage: str, file: str) -> None:
    begun = begun_with_0_3_0(tmp_path)
    (begun.folder / stage).mkdir()
    (begun.folder / stage / file).touch()
    with pytest.raises(
        RunError, match=f"half-done stage {stage} .* {stage}/{file} cannot be read any more; .* to begin the stage anew"
    ):
        require_recorded_settings(begun)
    (begun.folder / stage / file).unlink()
    require_recorded_settings(begun)


def test_a_run_begun_with_a_newer_version_is_refused(tmp_path: Path) -> None:
    begun = context(tmp_path, ["liver_0"])
    require_recorded_settings(begun)
    record = json.loads((begun.folder / "run.json").read_text())
    (begun.folder / "run.json").write_text(json.dumps(record | {"layout": 99}))
    with pytest.raises(RunError, match="newer version"):
        require_recorded_settings(begun)


def test_a_run_that_is_asked_to_stop_ends_after_the_stage_and_goes_on_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(pipeline, "STAGES", {name: lambda _, name=name: done.append(name) for name in ("a", "b")})
    begun = context(tmp_path, ["liver_0"])
    with pytest.raises(RunError, match="did so after stage a"):
        pipeline.run(replace(begun, stop=lambda: True))
    assert done == ["a"]
    pipeline.run(begun)
    assert done == ["a", "b"]


@pytest.mark.parametrize("name", ["liver_0", "case_0001"])
def test_livers_of_any_name_are_judged_on_those_kept_out(tmp_path: Path, name: str) -> None:
    ((entry, mesh),) = phantoms_to_judge(context(tmp_path, [name, "other"]))
    assert (entry.liver, entry.edition) == (name, 0)
    assert mesh.closed
    assert mesh.volume_ml == pytest.approx(ball(50.0).volume_ml, rel=1e-3)


def test_a_published_liver_with_an_open_surface_is_closed_before_it_is_judged(tmp_path: Path) -> None:
    run = context(tmp_path, ["amos_001"])
    whole = ball()
    write_mesh(tmp_path / "source" / "amos_001.npz", TriangleMesh(whole.vertices, whole.faces[1:]))
    (entry, mesh), *_ = phantoms_to_judge(run)
    assert (entry.liver, entry.edition) == ("amos_001", 1)
    assert mesh.closed


def test_a_handful_of_livers_still_leaves_most_for_training() -> None:
    def scene(name: str) -> Scene:
        return Scene(name, (), np.eye(4), np.zeros((1, 4), dtype=np.float32), target_pose=None)  # type: ignore[arg-type]

    training, validation = split_scenes([scene(f"liver_{n}") for n in range(5)], 6)
    assert (len(training), len(validation)) == (4, 1)
