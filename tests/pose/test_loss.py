from pathlib import Path

import numpy as np
import pytest
import torch

from dissm_engine.pose.correction import RIGID_OUTPUTS, AgentState, StageName, take_step
from dissm_engine.pose.observation import ShapeCanvas
from dissm_engine.pose.similarity import Pose, PoseBatch
from tests.pose.toy import Ellipsoids, body_grid, toy_scene, true_field
from training.pose.perturbation import perturbed
from training.pose.pose_loss import agent_loss, distance_error_mm, predicted_sdf_mm
from training.pose.pose_settings import PosePreset
from training.pose.scenes import BAND_MM, distance_samples, pose_from_matrix
from training.pose.target_states import target_states

TRUTH = Pose(np.array([10.0, -5.0, 8.0]), np.array([1.1, 1.0, 0.95]), np.eye(3))


def samples() -> torch.Tensor:
    field = true_field(TRUTH, 0.0, body_grid())
    return torch.from_numpy(distance_samples(field, 600, np.random.default_rng(0)))[None]


def state_at(pose: Pose) -> AgentState:
    return AgentState(PoseBatch.of([pose]), torch.zeros(1, 1))


def test_samples_are_half_inside_and_nine_in_ten_near_the_surface() -> None:
    drawn = samples()[0]
    assert float((drawn[:, 3] < 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert float((drawn[:, 3].abs() < BAND_MM).float().mean()) > 0.9


def test_the_loss_is_least_at_the_true_pose() -> None:
    drawn, shape = samples(), Ellipsoids()
    at_truth = float(distance_error_mm(shape, state_at(TRUTH), drawn))
    assert at_truth < 0.5
    moved = [TRUTH.corrected(shift, np.ones(3), np.eye(3)) for shift in 8 * np.r_[np.eye(3), -np.eye(3)]]
    for pose in [*moved, TRUTH.corrected(np.zeros(3), [0.85, 1, 1], np.eye(3))]:
        assert float(distance_error_mm(shape, state_at(pose), drawn)) > at_truth + 1


def test_gradient_points_home_from_far_outside_the_trained_sphere() -> None:
    raw = torch.zeros(1, RIGID_OUTPUTS + 1, requires_grad=True)
    far = state_at(Pose.at(TRUTH.translation + np.array([150.0, 0.0, 0.0])))
    step = take_step(StageName.TRANSLATION, far, raw, False)
    distance_error_mm(Ellipsoids(), step.state, samples()).sum().backward()
    predicted = predicted_sdf_mm(Ellipsoids(), far, samples()[..., :3])
    assert float(predicted.max()) > 60
    assert raw.grad is not None
    assert float(raw.grad[0, 0]) > 0


def test_a_stage_corrects_only_what_table_1_gives_it() -> None:
    raw = torch.ones(1, RIGID_OUTPUTS + 1)
    start = state_at(Pose.at(np.zeros(3)))
    for stage in StageName:
        after = take_step(stage, start, raw, accumulate_loadings=True).state
        assert bool((after.poses.scale != 1).any()) == (stage is not StageName.TRANSLATION)
        turned = bool((after.poses.rotation != torch.eye(3)).any())
        assert turned == (stage in (StageName.ROTATION, StageName.NON_RIGID))
        assert bool(after.loadings.any()) == (stage is StageName.NON_RIGID)


def test_scales_beyond_their_limits_are_penalised() -> None:
    large = Pose(TRUTH.translation, np.full(3, 1.9), np.eye(3))
    raw = torch.zeros(1, RIGID_OUTPUTS + 1)
    raw[:, 3:6] = 2.0
    target = state_at(TRUTH)
    totals = []
    for start in (large, Pose(TRUTH.translation, np.full(3, 2.0), np.eye(3))):
        step = take_step(StageName.SCALE, state_at(start), raw, False)
        terms = agent_loss(Ellipsoids(), StageName.SCALE, step, samples(), target, torch.ones(1), 0.0, 100.0)
        totals.append(float(terms.total))
    assert totals[1] - totals[0] == pytest.approx(3 * 0.1 * np.exp(0.2), rel=0.02)


def test_perturbations_stay_within_the_wider_of_their_ranges() -> None:
    stage = PosePreset.paper().scale
    many = AgentState.at(torch.zeros(300, 3), 1)
    moved = perturbed(many, stage.standard, stage.fine, np.random.default_rng(0)).poses
    assert float(moved.translation.abs().max()) <= 16
    assert 0.7 <= float(moved.scale.min()) < 0.75
    assert 1.25 < float(moved.scale.max()) <= 1.3


def test_the_paper_preset_is_tables_5_to_8() -> None:
    paper = PosePreset.paper()
    stages = [paper.stage(name) for name in StageName]
    assert [stage.epochs for stage in stages] == [65, 80, 80, 120]
    assert [stage.steps for stage in stages] == [7, 15, 15, 15]
    assert [stage.batch_size for stage in stages] == [8, 12, 12, 12]
    assert [stage.standard.translation_mm for stage in stages] == [40, 16, 12, 8]
    assert paper.non_rigid.fine.scale == (0.995, 1.015)
    assert (paper.loss_points, paper.latent_sigma, paper.components) == (150_000, 100, 28)


def test_a_pose_survives_its_matrix() -> None:
    again = pose_from_matrix(TRUTH.image_from_reference)
    np.testing.assert_allclose(again.image_from_reference, TRUTH.image_from_reference, atol=1e-9)


def test_known_loadings_are_read_from_the_samples(tmp_path: Path) -> None:
    canvas = ShapeCanvas.of(Ellipsoids(), components=1, resolution=36, half_width=1.0)
    rng = np.random.default_rng(4)
    scenes = [toy_scene(tmp_path, number, rng, loading) for number, loading in enumerate((-1.5, 0.0, 1.5))]
    targets = target_states(scenes, canvas)
    np.testing.assert_allclose(targets.loadings[:, 0], [-1.5, 0.0, 1.5], atol=0.4)
    np.testing.assert_allclose(targets.poses.translation[2], scenes[2].target_pose.translation, atol=1e-4)
