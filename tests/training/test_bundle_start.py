"""A run that begins with a bundle takes its parts over, says so, and does not take what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dissm_engine.bundle import Bundle
from dissm_engine.errors import BundleError
from dissm_engine.pose.similarity import Pose
from dissm_engine.shape.distance import surface_distance_mm
from dissm_engine.shape.model import ShapeModel
from dissm_engine.volume import axis_aligned_grid
from dissm_phantom.tissue import Tissue
from training import cli
from training.bundle_start import BundleStart, Part
from training.context import RunContext
from training.errors import RunError
from training.pose.agent_files import load_agent
from training.pose.pose_stage import run_pose
from training.presets import Preset
from training.refine import refinement_stage
from training.refine.crops import LiverCrop
from training.refine.painting import InProcessPainter
from training.refine.refinement_stage import run_finetune, run_fits, run_refine
from training.refine.refinement_trainer import RefinementTraining
from training.refine.refiner_files import load_refiner
from training.run_record import require_recorded_settings
from training.shape.aligned_livers import load_livers
from training.shape.shape_stage import run_shape
from training.sources.meshes import write_mesh


@pytest.fixture(scope="module")
def shipped() -> BundleStart:
    return BundleStart.read("shipped", ["shape", "pose"])


def run_with(folder: Path, start: BundleStart) -> RunContext:
    folder.mkdir(exist_ok=True)
    return RunContext(folder, Path("livers.npz"), Preset.named("smoke"), start=start)


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_kept_parts_are_written_as_they_are_and_nothing_is_trained(tmp_path: Path, shipped: BundleStart) -> None:
    everything = replace(shipped, kept=frozenset(Part))
    context = run_with(tmp_path, everything)
    for stage in (run_shape, run_pose, run_refine, run_fits, run_finetune):
        stage(context)
    model = shipped.bundle.model
    assert same(ShapeModel.load(tmp_path / "shape").state_tensors(), model.shape.state_tensors())
    assert same(load_agent(tmp_path / "pose").state_tensors(), model.agent.state_tensors())
    assert same(load_refiner(tmp_path / "refine").state_tensors(), model.refiner.state_tensors())
    assert not (tmp_path / "fits").exists()
    assert not (tmp_path / "finetune").exists()


def test_a_refinement_that_is_not_kept_begins_with_the_bundles_weights(
    tmp_path: Path, shipped: BundleStart, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, torch.Tensor]] = []

    def train_nothing(task: RefinementTraining, *_: object) -> None:
        begun.append({name: value.clone() for name, value in task.model.state_dict().items()})

    monkeypatch.setattr(RefinementTraining, "train", train_nothing)
    monkeypatch.setattr(refinement_stage, "PaintingJob", BallJob)
    context = run_with(tmp_path, shipped)
    small = context.preset.model_copy(update={"refine": Preset.named("small").refine})
    run_refine(replace(context, preset=small))
    assert same(begun[0], shipped.bundle.model.refiner.state_tensors())


class BallJob:
    """A painting job without files."""

    def __init__(self, files: object, fits: object, preset: object, seed: int) -> None:
        self.preset, self.seed = preset, seed

    def painter(self) -> InProcessPainter:
        grid = axis_aligned_grid([-90, -90, -90], [90, 90, 90], 2.0)
        distance = np.linalg.norm(grid.points_lps(), axis=-1) - 35
        labels = np.where(distance < 0, Tissue.LIVER, Tissue.FAT).astype(np.uint8)
        return InProcessPainter([LiverCrop(labels, distance.astype(np.float16), 2.0)], self.preset, self.seed)  # type: ignore[arg-type]


def test_a_network_of_another_architecture_is_refused_and_the_difference_named(
    tmp_path: Path, shipped: BundleStart
) -> None:
    with pytest.raises(RunError, match=r"widths .* instead of \(8, 16\)") as refused:
        run_refine(run_with(tmp_path, shipped))
    assert refused.value.reason.code == "START_DIFFERS"


def test_the_run_record_names_the_bundle_and_what_is_kept_and_a_run_with_another_start_is_refused(
    tmp_path: Path, shipped: BundleStart
) -> None:
    context = run_with(tmp_path, shipped)
    require_recorded_settings(context)
    require_recorded_settings(context)
    recorded = json.loads((tmp_path / "run.json").read_text())["start"]
    assert recorded["sha256"] == Bundle.load().digest
    assert recorded["kept"] == ["pose", "shape"]
    with pytest.raises(RunError, match=r"start was"):
        require_recorded_settings(replace(context, start=None))


def test_a_start_tells_the_starts_before_it_and_the_card_has_it_in_words(shipped: BundleStart) -> None:
    manifest = replace(shipped.bundle.manifest, provenance={"started_from": {"name": "earlier"}})
    later = replace(shipped, bundle=replace(shipped.bundle, manifest=manifest))
    assert later.to_json()["started_from"] == {"name": "earlier"}
    assert "kept as they were: pose, shape" in later.sentence()
    assert "kept" not in replace(later, kept=frozenset()).sentence()


@pytest.mark.parametrize(("keep", "code"), [(["liver"], "START_PART_UNKNOWN"), (["pose"], "START_WITHOUT_SHAPE")])
def test_a_keep_that_makes_no_sense_is_refused(keep: list[str], code: str) -> None:
    with pytest.raises(RunError) as refused:
        BundleStart.read("shipped", keep)
    assert refused.value.reason.code == code


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        BundleStart.read(str(tmp_path / "nothing"))


def test_with_a_kept_shape_the_training_livers_are_fitted_for_the_pose_stage_and_each_only_once(
    tmp_path: Path, shipped: BundleStart
) -> None:
    shape = shipped.bundle.model.shape
    pose = Pose(np.array([10.0, -20.0, 30.0]), np.array([1.1, 1.0, 0.95]), np.eye(3))
    liver = shape.mesh(np.array([1.0, -0.5]), pose, spacing_mm=6.0)
    (tmp_path / "surfaces" / "training").mkdir(parents=True)
    write_mesh(tmp_path / "surfaces" / "training" / "liver.npz", liver)
    context = run_with(tmp_path, replace(shipped, kept=frozenset({Part.SHAPE})))
    run_shape(context)
    (found,) = load_livers(tmp_path / "shape").values()
    again = shape.mesh_of_code(torch.from_numpy(found.code), found.pose, 6.0)
    assert surface_distance_mm(again, liver) < 1.5
    before = (tmp_path / "shape" / "livers.json").read_bytes()
    run_shape(context)
    assert (tmp_path / "shape" / "livers.json").read_bytes() == before


def test_the_command_begins_with_a_bundle_and_passes_on_what_is_asked_of_a_refinement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts: list[RunContext] = []
    monkeypatch.setattr(cli, "run_stages", lambda context, *_: contexts.append(context))
    command = ["run", "--preset", "smoke", "--surfaces", str(tmp_path), "--out", str(tmp_path / "run")]
    options = ["--from-bundle", "shipped", "--keep", "shape,pose", "--decay-now", "--painters", "2"]
    assert CliRunner().invoke(cli.app, [*command, *options, "--validation", str(tmp_path)]).exit_code == 0
    (context,) = contexts
    assert context.start is not None
    assert context.start.kept == {Part.SHAPE, Part.POSE}
    assert (context.decay_now, context.painters, context.validation) == (True, 2, tmp_path)
    assert "--from-bundle" in CliRunner().invoke(cli.app, [*command, "--keep", "shape"]).output
