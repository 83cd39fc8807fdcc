import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dissm_engine.pose.similarity import SCALE_LIMITS, Pose, PoseBatch, rotation_from_6d


@pytest.fixture
def poses() -> list[Pose]:
    rng = np.random.default_rng(1)
    return [
        Pose(rng.normal(0, 50, 3), rng.uniform(0.8, 1.2, 3), Rotation.random(random_state=n).as_matrix())
        for n in range(4)
    ]


def test_a_batch_maps_points_as_its_single_poses_do(poses: list[Pose]) -> None:
    points = np.random.default_rng(2).normal(0, 80, (7, 3))
    batch = PoseBatch.of(poses)
    mapped = batch.to_image(torch.tensor(points, dtype=torch.float32).expand(4, 7, 3)).numpy()
    for index, pose in enumerate(poses):
        np.testing.assert_allclose(mapped[index], pose.to_image(points), atol=1e-3)
        homogeneous = np.c_[points, np.ones(7)] @ pose.image_from_reference.T
        np.testing.assert_allclose(mapped[index], homogeneous[:, :3], atol=1e-3)


def test_to_reference_undoes_to_image(poses: list[Pose]) -> None:
    points = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(0)) * 80
    batch = PoseBatch.of(poses)
    torch.testing.assert_close(batch.to_reference(batch.to_image(points)), points, atol=1e-3, rtol=1e-4)


def test_a_batched_correction_is_the_single_correction(poses: list[Pose]) -> None:
    rng = np.random.default_rng(3)
    shift, scale = rng.normal(0, 10, (4, 3)), rng.uniform(0.9, 1.1, (4, 3))
    turn = Rotation.from_euler("xyz", rng.normal(0, 5, (4, 3)), degrees=True).as_matrix()
    moved = PoseBatch.of(poses).corrected(*(torch.tensor(a, dtype=torch.float32) for a in (shift, scale, turn)))
    for index, pose in enumerate(poses):
        expected = pose.corrected(shift[index], scale[index], turn[index])
        np.testing.assert_allclose(moved.pose(index).image_from_reference, expected.image_from_reference, atol=2e-3)


def test_scale_is_clipped_to_its_limits() -> None:
    batch = PoseBatch.of([Pose.at(np.zeros(3))])
    grown = batch.corrected(torch.zeros(1, 3), torch.full((1, 3), 9.0), torch.eye(3)[None])
    assert grown.scale.max() == SCALE_LIMITS[1]


def test_zero_rotation_parameters_are_the_identity_and_all_are_rotations() -> None:
    torch.testing.assert_close(rotation_from_6d(torch.zeros(6)), torch.eye(3))
    turns = rotation_from_6d(torch.randn(20, 6, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(20), atol=1e-5, rtol=0)


def test_distance_of_a_pure_shift_is_its_length() -> None:
    here, there = (PoseBatch.of([Pose.at(np.array(p))]) for p in ([0.0, 0.0, 0.0], [3.0, 4.0, 0.0]))
    assert float(here.distance_mm(there)) == pytest.approx(5.0, abs=1e-4)
