import numpy as np
import pytest

from dissm_engine.errors import DelineationError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.surface import (
    DECIMATION_TOLERANCE_MM,
    OrganSurface,
    closed_at_border,
    decimation_error_mm,
    largest_part,
    mesh_of,
)
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid


def ball(radius: float, spacing: float = 2.0, centre: tuple[float, float, float] = (0, 0, 0)) -> SignedDistance:
    reach = radius + 12
    grid = axis_aligned_grid(np.array(centre) - reach, np.array(centre) + reach, spacing)
    return SignedDistance((np.linalg.norm(grid.points_lps() - centre, axis=-1) - radius).astype(np.float32), grid)


def ct_grid(spacing: tuple[float, float, float], shape: tuple[int, int, int], low: tuple[float, ...]) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    return Grid(shape, affine)


def mask_and_mesh(field: SignedDistance, grid: Grid) -> tuple[np.ndarray, TriangleMesh]:
    surface = OrganSurface.of(field, grid)
    return surface.mask, surface.mesh


def test_mask_and_mesh_of_a_ball_are_the_ball() -> None:
    mask, mesh = mask_and_mesh(ball(60), ct_grid((1.0, 1.0, 2.5), (80, 160, 160), (-80, -80, -100)))
    true_ml = 4 / 3 * np.pi * 60**3 / 1000
    assert mask.sum() * 2.5 / 1000 == pytest.approx(true_ml, rel=0.005)
    assert mesh.volume_ml == pytest.approx(true_ml, rel=0.005)
    assert mesh.closed
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 60).max() < 0.3


def test_the_mesh_has_no_stairs_where_the_slices_are_thick() -> None:
    _, mesh = mask_and_mesh(ball(50), ct_grid((0.8, 0.8, 8.0), (20, 200, 200), (-80, -80, -76)))
    radial = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert np.degrees(np.arccos(np.clip((mesh.normals * radial).sum(axis=1), -1, 1))).max() < 6


def test_the_organ_is_closed_flat_where_the_ct_ends() -> None:
    grid = ct_grid((1, 1, 2.0), (20, 160, 160), (-80, -80, 0))
    mask, mesh = mask_and_mesh(ball(60), grid)
    assert mesh.closed
    assert mesh.vertices[:, 2].min() == pytest.approx(-1.0, abs=0.7)
    assert mask[0].any()
    on_cap = np.abs(mesh.vertices[:, 2] + 1.0) < 0.3
    assert on_cap.sum() > 100


def test_only_the_largest_part_is_kept_and_holes_are_filled() -> None:
    field = ball(40)
    mm = field.mm.copy()
    mm[np.linalg.norm(field.grid.points_lps() - [10, 0, 0], axis=-1) < 6] = 3.0
    mm[1:3, 1:3, 1:3] = -2.0
    result = largest_part(SignedDistance(mm, field.grid))
    assert (result.mm < 0).sum() == pytest.approx((field.mm < 0).sum(), rel=0.001)
    assert mesh_of(result).trimesh.euler_number == 2


def test_triangles_are_dropped_only_within_the_bound_measured_both_ways() -> None:
    bumpy = ball(40)
    waves = 0.8 * np.sin(bumpy.grid.points_lps() / 2.5).prod(axis=-1)
    field = SignedDistance((bumpy.mm + waves).astype(np.float32), bumpy.grid)
    usual, dense = mesh_of(field, DECIMATION_TOLERANCE_MM), mesh_of(field, 1e-6)
    assert len(usual.vertices) < len(dense.vertices) / 2
    assert 0.1 < decimation_error_mm(dense, usual) <= DECIMATION_TOLERANCE_MM
    finer = mesh_of(field, 0.1)
    assert len(usual.vertices) < len(finer.vertices)
    assert decimation_error_mm(dense, finer) <= 0.1


def test_what_is_missing_on_either_side_counts_as_decimation_error() -> None:
    small, large = mesh_of(ball(30)), mesh_of(ball(31))
    assert decimation_error_mm(small, large) == pytest.approx(1.0, abs=0.2)
    bump = large.vertices.copy()
    bump[0] *= 1.2
    dented = TriangleMesh(bump, large.faces)
    assert decimation_error_mm(dented, large) > 5
    assert decimation_error_mm(large, dented) > 5


def test_samples_of_exactly_zero_do_not_open_the_mesh() -> None:
    field = ball(30, spacing=1.0)
    mm = np.where(np.abs(field.mm) < 0.3, np.float32(0), field.mm)
    assert mesh_of(SignedDistance(mm, field.grid)).closed


def test_a_field_without_inside_has_no_surface() -> None:
    grid = axis_aligned_grid([0, 0, 0], [20, 20, 20], 2.0)
    with pytest.raises(DelineationError, match="no surface"):
        largest_part(SignedDistance(np.full(grid.shape, 5, dtype=np.float32), grid))


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
def test_mask_lies_where_the_field_lies_whatever_the_ct_axes_are(flip: tuple[int, int, int]) -> None:
    centre = (12.0, -7.0, 20.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2.0], [1.0, 0, 0], [0, 1.5, 0]]) * np.array(flip)[None, :]
    half = np.array([60, 60, 40])
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ (half / 1.0)
    grid = Grid((81, 121, 121), affine)
    mask, _ = mask_and_mesh(ball(25, centre=centre), grid)
    k, j, i = np.nonzero(mask)
    assert np.allclose(grid.to_lps(np.stack([i, j, k], axis=1)).mean(axis=0), centre, atol=0.1)


def test_cutting_changes_nothing_deep_inside_the_ct() -> None:
    field = ball(20)
    cut = closed_at_border(field, ct_grid((1, 1, 1), (200, 200, 200), (-100, -100, -100)))
    assert np.array_equal(cut.mm < 0, field.mm < 0)
