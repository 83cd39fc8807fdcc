"""The validation of the refinement measures what it says, and samples are the same wherever they are painted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dissm_engine.mesh import TriangleMesh
from dissm_engine.refine.network import RefinementNetwork
from dissm_engine.volume import SignedDistance, axis_aligned_grid
from dissm_phantom.anatomy import Anatomy
from dissm_phantom.tissue import Tissue
from training.errors import RunError
from training.figures import learning_figure
from training.metrics_file import MetricsFile
from training.phantom.anatomy_files import save_anatomy
from training.refine.crops import LiverCrop
from training.refine.learning_curve import learning_curve
from training.refine.painting import PaintingJob, ProcessPainter, painting
from training.refine.refinement_settings import RefinementPreset
from training.refine.refinement_trainer import RefinementTraining
from training.refine.validation import ValidationPatches, agreement

PRESET = RefinementPreset.smoke().model_copy(update={"batch": 2, "bfloat16": False})


def ball_mm(radius: float, half_width: float = 60.0) -> np.ndarray:
    grid = axis_aligned_grid([-half_width] * 3, [half_width] * 3, 2.0)
    return np.asarray(np.linalg.norm(grid.points_lps(), axis=-1) - radius, dtype=np.float32)


def ball_crop() -> LiverCrop:
    distance = ball_mm(35)
    labels = np.where(distance < 0, Tissue.LIVER, Tissue.FAT).astype(np.uint8)
    return LiverCrop(labels, distance.astype(np.float16), 2.0, (ball_mm(30).astype(np.float16),))


@pytest.fixture(scope="module")
def anatomy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = axis_aligned_grid([-60, -60, -60], [60, 60, 60], 2.0)
    crop, mesh = ball_crop(), TriangleMesh(np.eye(3), np.array([[0, 1, 2]]))
    liver = SignedDistance(ball_mm(35), grid)
    file = tmp_path_factory.mktemp("anatomies") / "0000.npz"
    save_anatomy(file, Anatomy(crop.labels, liver, mesh, np.eye(4), {"truncated": "none"}), "ball", 1)
    return file


def test_a_surface_too_large_or_too_small_has_a_bias_of_that_sign_and_the_distance_of_it() -> None:
    truth, everywhere = ball_mm(35), np.ones((61, 61, 61), dtype=np.bool_)
    for by in (-3.0, 2.0):
        found = agreement(ball_mm(35 + by), truth, everywhere, 2.0)
        assert found.bias_mm == pytest.approx(by, abs=0.1)
        assert found.distance_mm == pytest.approx(abs(by), abs=0.1)
        ratio = ((35 + by) / 35) ** 3
        assert found.dsc == pytest.approx(2 * min(ratio, 1) / (1 + ratio), abs=0.01)


def test_a_shifted_surface_has_a_distance_but_hardly_a_bias() -> None:
    found = agreement(np.roll(ball_mm(35), 2, axis=1), ball_mm(35), np.ones((61, 61, 61), dtype=np.bool_), 2.0)
    assert found.distance_mm == pytest.approx(2.0, abs=0.2)
    assert abs(found.bias_mm) < 0.1


def test_only_what_the_network_may_change_is_measured() -> None:
    truth, where = ball_mm(35), np.ones((61, 61, 61), dtype=np.bool_)
    wrong = truth.copy()
    wrong[40:] = 30.0
    where[38:] = False
    found = agreement(wrong, truth, where, 2.0)
    assert (found.dsc, found.distance_mm) == pytest.approx((1.0, 0.0), abs=0.05)


class Outward(nn.Module):
    """Knows nothing: leaves every prior as it is, or moves it outward by some mm."""

    def __init__(self, outward_mm: float) -> None:
        super().__init__()
        self.outward_mm = outward_mm

    def forward(self, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full_like(channels[:, :1], -self.outward_mm), channels


def test_the_patches_are_the_same_at_every_measurement_and_see_a_network_that_moves_outward() -> None:
    first, again = (ValidationPatches.draw([ball_crop()], PRESET, 4) for _ in range(2))
    unmoved, moved = first.measure(Outward(0.0)), first.measure(Outward(3.0))
    assert unmoved == again.measure(Outward(0.0))
    for name in ("validation_bias_mm", "validation_drawn_bias_mm"):
        assert moved[name] - unmoved[name] == pytest.approx(3.0, abs=1.5)
    # The fitted prior of this ball is 5 mm too small.
    assert unmoved["validation_bias_mm"] < -3
    assert len(first.fitted) == 2


def test_a_measurement_draws_nothing_from_the_global_generators() -> None:
    patches = ValidationPatches.draw([ball_crop()], PRESET, 1)
    network, before = RefinementNetwork(PRESET.architecture), torch.get_rng_state()
    patches.measure(network)
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_painted_in_other_processes_are_those_of_the_training_itself(anatomy_file: Path) -> None:
    job = PaintingJob((anatomy_file,), None, PRESET, 7)
    with ProcessPainter(job, 2) as painter:
        # Two calls, as of two epochs; a run that goes on begins anywhere.
        theirs = [*painter.batches(range(5, 8)), *painter.batches(range(8, 10))]
    ours = list(job.painter().batches(range(5, 10)))
    for own, other in zip(ours, theirs, strict=True):
        for sample, copy in zip(own, other, strict=True):
            for name in ("hu", "prior_mm", "truth_mm", "in_view", "tissue"):
                assert torch.equal(getattr(sample, name), getattr(copy, name)), name


def test_the_weights_do_not_depend_on_who_paints(anatomy_file: Path, tmp_path: Path) -> None:
    preset = PRESET.model_copy(update={"steps": 4, "checkpoint_every": 3})
    trained = []
    for processes in (0, 1):
        folder = tmp_path / str(processes)
        folder.mkdir()
        with painting(PaintingJob((anatomy_file,), None, preset, 7), processes) as painter:
            trained.append(RefinementTraining(preset, painter, 7, folder).train(lambda *_: None))
    for ours, theirs in zip(*(network.parameters() for network in trained), strict=True):
        assert torch.equal(ours, theirs)


def test_a_painting_process_that_died_is_named(tmp_path: Path) -> None:
    job = PaintingJob((tmp_path / "nothing.npz",), None, PRESET, 7)
    with ProcessPainter(job, 1) as painter, pytest.raises(RunError) as died:
        next(painter.batches(range(3)))
    assert died.value.reason.code == "PAINTER_DIED"


def test_the_curve_of_a_run_is_read_from_its_trainings_in_their_order_and_drawn(tmp_path: Path) -> None:
    for stage, dsc in (("finetune", 0.9), ("refine", 0.8)):
        folder = tmp_path / stage
        folder.mkdir()
        task = MetricsFile(folder / "metrics.jsonl", stage)
        task.append({"epoch": 1, "step": 100, "loss": 1.0})
        figures = {"validation_dsc": dsc, "validation_mm": 1.0, "validation_bias_mm": 0.1}
        task.append({"epoch": 2, "step": 200, "loss": 1.0, **figures})
    curve = learning_curve(tmp_path)
    assert [(point.stage, point.step, point.dsc) for point in curve] == [("refine", 200, 0.8), ("finetune", 200, 0.9)]
    assert learning_figure(curve).startswith(b"\x89PNG")
    assert learning_curve(tmp_path / "elsewhere") == []
