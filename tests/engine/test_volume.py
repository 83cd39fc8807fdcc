import numpy as np
import pytest

from dissm_engine.errors import GeometryError
from dissm_engine.volume import Grid, SignedDistance, Volume, axis_aligned_grid, covering_grid, resample


def oblique_affine(spacing: tuple[float, float, float]) -> np.ndarray:
    a, b = np.deg2rad(20), np.deg2rad(-35)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = [-50.0, 30.0, 700.0]
    return affine


def test_voxel_and_lps_coordinates_are_inverse_on_an_oblique_grid() -> None:
    grid = Grid((10, 20, 30), oblique_affine((0.7, 0.8, 2.5)))
    ijk = np.random.default_rng(0).uniform(0, 9, (50, 3))
    assert np.allclose(grid.to_voxel(grid.to_lps(ijk)), ijk)
    assert np.allclose(grid.spacing, (0.7, 0.8, 2.5))


def test_arrays_are_indexed_slice_row_column() -> None:
    grid = Grid((4, 5, 6), oblique_affine((1, 1, 1)))
    points = grid.points_lps()
    assert points.shape == (4, 5, 6, 3)
    assert np.allclose(points[3, 2, 1], grid.to_lps([1, 2, 3]))


def test_a_linear_ramp_survives_resampling_from_an_oblique_to_an_axis_aligned_grid() -> None:
    source = Grid((40, 60, 50), oblique_affine((1.0, 1.0, 2.0)))
    hu = (source.points_lps() @ np.array([1.0, -2.0, 0.5])).astype(np.float32)
    inner = axis_aligned_grid(source.center_lps - 12, source.center_lps + 12, 1.5)
    result = resample(Volume(hu, source.lps_from_voxel), inner)
    assert np.allclose(result.hu, inner.points_lps() @ np.array([1.0, -2.0, 0.5]), atol=0.05)


def test_averaging_towards_a_coarse_grid_shifts_nothing() -> None:
    fine = axis_aligned_grid([-40, -40, -40], [40, 40, 40], 0.5)
    hu = (np.linalg.norm(fine.points_lps(), axis=-1) < 20).astype(np.float32) * 100
    coarse = resample(Volume(hu, fine.lps_from_voxel), covering_grid(fine, 3.0))
    weights = coarse.hu / coarse.hu.sum()
    centre = (coarse.grid.points_lps() * weights[..., None]).sum(axis=(0, 1, 2))
    assert np.allclose(centre, 0, atol=0.05)


def test_beyond_the_field_of_view_lies_air() -> None:
    volume = Volume(np.full((5, 5, 5), 50, dtype=np.int16), np.eye(4))
    result = resample(volume, axis_aligned_grid([-5, 0, 0], [2, 2, 2], 1.0))
    assert result.hu[0, 0, 0] == -1024
    assert result.hu[0, 0, -1] == 50


def test_a_field_keeps_growing_beyond_its_grid() -> None:
    grid = axis_aligned_grid([-10, -10, -10], [10, 10, 10], 1.0)
    field = SignedDistance((np.linalg.norm(grid.points_lps(), axis=-1) - 5).astype(np.float32), grid)
    assert field.at(np.array([[30.0, 0, 0]]))[0] == pytest.approx(25.0, abs=0.01)


@pytest.mark.parametrize("hu", [np.zeros((3, 3)), np.full((3, 3, 3), np.nan, dtype=np.float32)])
def test_a_volume_that_is_flat_or_not_finite_is_refused(hu: np.ndarray) -> None:
    with pytest.raises(GeometryError):
        Volume(hu.astype(np.float32), np.eye(4))


def test_a_grid_without_depth_is_refused() -> None:
    with pytest.raises(GeometryError):
        Grid((3, 3, 3), np.diag([1.0, 1.0, 0.0, 1.0]))
