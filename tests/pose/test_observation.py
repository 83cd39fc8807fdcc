import numpy as np
import pytest
import torch

from dissm_engine.pose.observation import CoarseImage, ObservationSpec, ShapeCanvas, observe
from dissm_engine.pose.similarity import Pose, PoseBatch
from dissm_engine.volume import AIR_HU, Volume, axis_aligned_grid
from tests.pose.toy import MM_PER_UNIT, Ellipsoids, body_grid, bright_ellipsoid

HU, FIELD_OF_VIEW, SDF, CONTRAST = range(4)


@pytest.fixture(scope="module")
def canvas() -> ShapeCanvas:
    return ShapeCanvas.of(Ellipsoids(), components=1, resolution=24)


def spec(frame: str, show_loadings: bool = False) -> ObservationSpec:
    return ObservationSpec(frame, (24, 20, 22), 9.0, contrast=True, show_loadings=show_loadings)


def seen(frame: str, image: CoarseImage, pose: Pose, canvas: ShapeCanvas, loading: float = 0.0) -> torch.Tensor:
    return observe(
        spec(frame, loading != 0),
        [image],
        PoseBatch.of([pose]),
        torch.tensor([[loading]]),
        canvas,
        torch.tensor(pose.translation[None], dtype=torch.float32),
    )[0]


@pytest.mark.parametrize("frame", ["pose", "image"])
def test_under_the_true_pose_the_bright_organ_fills_the_drawn_shape(frame: str, canvas: ShapeCanvas) -> None:
    pose = Pose(np.array([20.0, -15.0, 30.0]), np.array([1.1, 0.9, 1.0]), np.eye(3))
    image = CoarseImage.from_volume(bright_ellipsoid(pose, 0.0, body_grid(), np.random.default_rng(0)))
    observation = seen(frame, image, pose, canvas)
    assert observation.shape == (4, 24, 20, 22)
    drawn, bright = observation[SDF] < 0, observation[HU] > -0.1
    overlap = 2 * float((drawn & bright).sum()) / float(drawn.sum() + bright.sum())
    assert overlap > 0.9
    wrong = seen(frame, image, Pose.at(pose.translation + 60), canvas)
    drawn, bright = wrong[SDF] < 0, wrong[HU] > -0.1
    assert 2 * float((drawn & bright).sum()) / float(drawn.sum() + bright.sum()) < 0.6


def test_the_pose_frame_shows_the_same_whatever_the_similarity(canvas: ShapeCanvas) -> None:
    upright = Pose.at(np.zeros(3))
    moved = Pose(np.array([25.0, 10.0, -20.0]), np.full(3, 1.15), np.eye(3))
    rng = np.random.default_rng(1)
    views = [
        seen("pose", CoarseImage.from_volume(bright_ellipsoid(pose, 0.0, body_grid(), rng)), pose, canvas)
        for pose in (upright, moved)
    ]
    both = (views[0][FIELD_OF_VIEW] * views[1][FIELD_OF_VIEW]) > 0
    torch.testing.assert_close(views[0][SDF], views[1][SDF])
    assert float((views[0][HU] - views[1][HU])[both].abs().mean()) < 0.1


def test_outside_the_volume_the_field_of_view_channel_is_zero(canvas: ShapeCanvas) -> None:
    grid = axis_aligned_grid(np.full(3, -40.0), np.full(3, 40.0), 4.0)
    image = CoarseImage.from_volume(bright_ellipsoid(Pose.at(np.zeros(3)), 0.0, grid, np.random.default_rng(0)))
    observation = seen("pose", image, Pose.at(np.zeros(3)), canvas)
    points = spec("pose").offsets_mm()
    within = (points.abs() <= 42.0).all(dim=-1)
    assert torch.equal(observation[FIELD_OF_VIEW] > 0, within)
    assert float(observation[HU][~within].max()) == pytest.approx(-1.0)


def test_a_narrowed_field_of_view_hides_what_lies_beyond(canvas: ShapeCanvas) -> None:
    pose = Pose.at(np.zeros(3))
    image = CoarseImage.from_volume(bright_ellipsoid(pose, 0.0, body_grid(), np.random.default_rng(0)))
    low = image.low.clone()
    low[2] = image.hu.shape[0] / 2
    halved = CoarseImage(image.hu, image.voxel_from_lps, low, image.high)
    inside = seen("pose", halved, pose, canvas)[FIELD_OF_VIEW]
    assert float(inside[:11].sum()) == 0
    assert float(inside[13:].mean()) == 1


def test_the_canvas_follows_the_decoder_and_its_loadings(canvas: ShapeCanvas) -> None:
    points = torch.rand(1, 5, 5, 5, 3, generator=torch.Generator().manual_seed(3)) * 160 - 80
    for loading in (0.0, 1.0):
        loadings = torch.tensor([[loading]])
        exact = Ellipsoids().canonical_sdf(points.reshape(1, -1, 3) / MM_PER_UNIT, loadings) * MM_PER_UNIT
        drawn = canvas.sdf_mm(points, loadings).reshape(1, -1)
        near = exact.abs() < 30
        assert float((exact - drawn).abs()[near].mean()) < 1.5


def test_contrast_is_zero_where_too_little_of_the_shape_is_seen(canvas: ShapeCanvas) -> None:
    image = CoarseImage.from_volume(bright_ellipsoid(Pose.at(np.zeros(3)), 0.0, body_grid(), np.random.default_rng(0)))
    assert float(seen("pose", image, Pose.at(np.full(3, 900.0)), canvas)[CONTRAST].abs().max()) == 0


def test_the_corners_of_the_box_around_an_oblique_ct_are_not_in_view() -> None:
    turn = np.deg2rad(30)
    affine = np.eye(4)
    affine[:3, :3] = 4.0 * np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    ct = Volume(np.full((20, 40, 40), 50, dtype=np.int16), affine)
    points = ct.grid.points_lps()
    low, high = points.reshape(-1, 3).min(axis=0), points.reshape(-1, 3).max(axis=0)
    around = axis_aligned_grid(low, high, 5.0).points_lps()
    hu, inside = CoarseImage.from_volume(ct).sample(torch.from_numpy(around.astype(np.float32)))
    deep = ct.grid.beyond_faces_mm(around)
    assert bool((inside[torch.from_numpy(deep < -4)] == 1).all())
    assert bool((inside[torch.from_numpy(deep > 4)] == 0).all())
    assert bool((hu[torch.from_numpy(deep > 4)] == AIR_HU).all())
    assert 0.4 < float(inside.mean()) < 0.8


def test_a_ct_whose_axes_are_only_permuted_fills_its_box() -> None:
    coronal = np.array([[3.0, 0, 0, 0], [0, 0, 4.0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
    assert CoarseImage.from_volume(Volume(np.zeros((10, 20, 20), dtype=np.int16), coronal)).view is None
