from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dissm_engine.refine.tissues import TissueClass
from dissm_engine.volume import axis_aligned_grid
from dissm_phantom.tissue import LIVER_TISSUES, Tissue
from training.refine.crops import LiverCrop, class_table, draw_sample
from training.refine.painting import InProcessPainter
from training.refine.prior_errors import PriorErrors, perturbed_prior
from training.refine.refinement_loss import (
    RefinementBatch,
    RefinementLossWeights,
    eikonal_term,
    overlap_term,
    refinement_loss,
    surface_term,
)
from training.refine.refinement_settings import RefinementPreset
from training.refine.refinement_trainer import RefinementTraining


def ball_crop() -> LiverCrop:
    grid = axis_aligned_grid([-60, -60, -60], [60, 60, 60], 2.0)
    distance = np.linalg.norm(grid.points_lps(), axis=-1) - 35
    labels = np.where(distance < 0, Tissue.LIVER, Tissue.FAT).astype(np.uint8)
    return LiverCrop(labels, distance.astype(np.float16), 2.0)


def training_in(preset: RefinementPreset, folder: Path) -> RefinementTraining:
    return RefinementTraining(preset, InProcessPainter([ball_crop()], preset, 7), 7, folder)


def batch_of(field: torch.Tensor, truth: torch.Tensor) -> RefinementBatch:
    logits = torch.zeros(1, 10, *(n // 2 for n in field.shape[2:]))
    tissue = torch.zeros(1, *(n // 2 for n in field.shape[2:]), dtype=torch.long)
    return RefinementBatch(field, field - truth, truth, torch.ones_like(field), logits, tissue)


def ball_field(radius: float, factor: float = 1.0) -> torch.Tensor:
    grid = axis_aligned_grid([-40, -40, -40], [40, 40, 40], 2.0)
    points = torch.from_numpy(grid.points_lps().astype(np.float32))
    return (factor * (points.norm(dim=-1) - radius))[None, None]


def test_every_term_is_least_at_the_truth() -> None:
    truth = ball_field(25)
    for weights in (RefinementLossWeights(), RefinementLossWeights(surface=1, distance=0, overlap=1)):
        at_truth = refinement_loss(batch_of(truth, truth), weights, 2.0, 12.0)
        for radius in (20, 23, 27, 30):
            assert refinement_loss(batch_of(ball_field(radius), truth), weights, 2.0, 12.0) > at_truth


def test_the_surface_term_alone_prefers_no_surface_at_all() -> None:
    truth = ball_field(25)
    nothing = torch.full_like(truth, 30.0)
    assert surface_term(batch_of(nothing, truth), 4.0) <= surface_term(batch_of(truth, truth), 4.0)
    assert overlap_term(batch_of(nothing, truth)) > overlap_term(batch_of(truth, truth)) + 0.4


def test_the_eikonal_term_sees_a_field_that_is_no_distance() -> None:
    truth = ball_field(25)
    assert eikonal_term(batch_of(truth, truth), 2.0) < 0.02
    assert eikonal_term(batch_of(ball_field(25, factor=2.0), truth), 2.0) > 0.8


def test_the_excess_term_counts_both_signs() -> None:
    truth = ball_field(25)
    weights = RefinementLossWeights(eikonal=0, excess=1, distance=0, overlap=0, tissue=0)
    for sign in (-20.0, 20.0):
        batch = batch_of(truth + sign, truth)
        assert refinement_loss(batch, weights, 2.0, rho_mm=12.0) == pytest.approx(8.0, abs=1e-3)


def test_priors_drawn_wrong_are_wrong_by_millimetres_but_not_lost() -> None:
    crop = ball_crop()
    truth = torch.from_numpy(crop.liver_mm.astype(np.float32))
    errors = []
    for seed in range(12):
        prior = perturbed_prior(truth, (6, 6, 6), 48, 2.0, PriorErrors(), np.random.default_rng(seed))
        near = truth[6:54, 6:54, 6:54].abs() < 2
        errors.append(float(prior[near].abs().mean()))
    assert 2 < np.mean(errors) < 12
    assert max(errors) < 30


def test_without_errors_the_prior_is_the_truth() -> None:
    none = PriorErrors(0, 0, 0, 0, (24, 60), 1.0, 0, 0.0)
    crop = ball_crop()
    truth = torch.from_numpy(crop.liver_mm.astype(np.float32))
    for seed in range(4):
        prior = perturbed_prior(truth, (6, 6, 6), 48, 2.0, none, np.random.default_rng(seed))
        near = truth[6:54, 6:54, 6:54].abs() < 10
        assert (prior - truth[6:54, 6:54, 6:54])[near].abs().max() < 0.3


def mean_at_the_true_surface(errors: PriorErrors, draws: int) -> np.ndarray:
    """Means of drawn priors over the voxels at the surface of a ball, mm; 4 mm voxels."""
    grid = axis_aligned_grid([-64, -64, -64], [64, 64, 64], 4.0)
    truth = torch.from_numpy((np.linalg.norm(grid.points_lps(), axis=-1) - 35).astype(np.float32))
    near = truth[2:30, 2:30, 2:30].abs() < 2
    priors = (perturbed_prior(truth, (2, 2, 2), 28, 4.0, errors, np.random.default_rng(s)) for s in range(draws))
    return np.array([float(prior[near].mean()) for prior in priors])


def test_drawn_priors_lie_neither_inside_nor_outside_the_true_surface_in_the_mean() -> None:
    # Without what is meant to inflate or deflate, so that some hundred draws tell 0.2 mm from nothing.
    errors = PriorErrors(scale=0.0, offset_mm=0.0, lump_share=0.0)
    centred = mean_at_the_true_surface(errors, 300)
    assert centred.std() / 300**0.5 < 0.07
    assert abs(centred.mean()) < 0.2
    assert mean_at_the_true_surface(replace(errors, centring=0.0), 100).mean() > 1


def test_centring_takes_nothing_off_an_error_of_size() -> None:
    """A liver drawn too large or too small as a whole, by scale or by offset, stays so."""
    for errors in (PriorErrors(0, 0, 0.1, 0, (24, 60), 1.0, 0.0, 0), PriorErrors(0, 0, 0, 0, (24, 60), 1.0, 3.0, 0)):
        assert mean_at_the_true_surface(errors, 40).std() > 1


def test_every_liver_tissue_is_liver_to_the_tissue_head() -> None:
    table = class_table()
    assert {int(table[int(t)]) for t in LIVER_TISSUES} == {int(TissueClass.LIVER)}
    assert table[int(Tissue.HEART_BLOOD)] == TissueClass.HEART
    assert table[int(Tissue.FAT)] == TissueClass.OTHER


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    preset = RefinementPreset.smoke()
    first, second = (draw_sample([ball_crop()], preset, class_table(), np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first.hu, second.hu)
    assert torch.equal(first.prior_mm, second.prior_mm)


def test_a_training_that_was_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    preset = RefinementPreset.smoke().model_copy(update={"steps": 6, "checkpoint_every": 3, "bfloat16": False})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    uninterrupted = training_in(preset, whole).train(lambda *_: None)

    class Killed(Exception):
        pass

    def kill_at_five(_: str, done: float) -> None:
        if done > 0.8:
            raise Killed

    with pytest.raises(Killed):
        training_in(preset, broken).train(kill_at_five)
    resumed = training_in(preset, broken).train(lambda *_: None)
    for ours, theirs in zip(resumed.parameters(), uninterrupted.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
