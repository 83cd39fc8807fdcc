"""A metric signed distance field from the decoder, evaluated only where it matters (D4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as torch_functional
from scipy.spatial import cKDTree

from dissm_engine.volume import Grid, SignedDistance

MetricField = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float32]]
"""LPS points [N, 3] in mm to signed distances [N] in mm."""

MAX_STEP_MM = 16.0
BAND_STEP_MM = 8.0
EXACT_MM = 2.0
_STEPS_AWAY = 3.0
_SPHERE_POINT_COUNT = 1500


@dataclass(frozen=True)
class Ball:
    """Where the decoder was trained: an ellipsoid in the image.

    Attributes:
        image_from_ball: float64 [4, 4], maps the unit ball to LPS mm.
    """

    image_from_ball: npt.NDArray[np.float64]

    def radius(self, points_lps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Radius [...] of LPS points [..., 3] in the ball's own units: inside up to one."""
        ball_from_image = np.linalg.inv(self.image_from_ball)
        return np.asarray(np.linalg.norm(points_lps @ ball_from_image[:3, :3].T + ball_from_image[:3, 3], axis=-1))

    def sphere_points_lps(self, count: int) -> npt.NDArray[np.float64]:
        """`count` LPS points [count, 3] spread over the ellipsoid's surface (a Fibonacci spiral)."""
        z = 1 - 2 * (np.arange(count) + 0.5) / count
        angle = np.arange(count) * np.pi * (3 - 5**0.5)
        ring = np.sqrt(1 - z * z)
        unit = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
        return np.asarray(unit @ self.image_from_ball[:3, :3].T + self.image_from_ball[:3, 3])


def rasterise(field: MetricField, ball: Ball, grid: Grid, band_mm: float, exact_mm: float = EXACT_MM) -> SignedDistance:
    """The field on a grid, from coarse to fine.

    A distance changes by at most 1 mm for each mm (Lipschitz), so a cell whose interpolated value exceeds what its
    diagonal can bridge cannot come nearer and is only interpolated. Away from the surface the lattice may be a third as
    wide as the distance, but within `band_mm` no wider than 8 mm; elsewhere it is 16 mm.

    Args:
        field: Evaluated only inside the ball.
        ball: Where the decoder was trained. Beyond it stands the value at the nearest point of its surface plus the
            distance to that point.
        grid: Where the result lies.
        band_mm: Within this distance of the surface the result is precise.
        exact_mm: Within this distance of the surface every voxel is evaluated.
    """
    strides = _strides(grid, MAX_STEP_MM)
    values = _coarsest(field, ball, _lattice(grid, strides))
    while max(strides) > 1:
        diagonal = float(np.linalg.norm(np.array(strides) * grid.spacing))
        finer = tuple(max(stride // 2, 1) for stride in strides)
        lattice = _lattice(grid, finer)
        values = _interpolated(values, [stride // fine for stride, fine in zip(strides, finer, strict=True)], lattice)
        near = _evaluation_distance_mm(float(lattice.spacing.max()), max(finer) == 1, band_mm, exact_mm)
        _evaluate_where(np.abs(values) < near + diagonal / 2, values, field, ball, lattice)
        strides = finer
    return SignedDistance(values[: grid.shape[0], : grid.shape[1], : grid.shape[2]], grid)


def _evaluation_distance_mm(step_mm: float, last: bool, band_mm: float, exact_mm: float) -> float:
    """How near (mm) a node of a lattice with this step must be to the surface to be evaluated itself."""
    if last:
        return exact_mm
    return max(exact_mm, min(band_mm, _STEPS_AWAY * step_mm) if step_mm < BAND_STEP_MM * 0.75 else band_mm)


def _strides(grid: Grid, max_step_mm: float) -> tuple[int, ...]:
    """For each axis (i, j, k) the power of two that makes steps of at most `max_step_mm`, at least one voxel."""
    return tuple(int(2 ** max(np.floor(np.log2(max_step_mm / spacing + 1e-6)), 0)) for spacing in grid.spacing)


def _lattice(grid: Grid, strides: tuple[int, ...]) -> Grid:
    """Every stride-th voxel (i, j, k) of the grid, and one node beyond where the last voxel falls between two."""
    affine = grid.lps_from_voxel.copy()
    affine[:3, :3] = affine[:3, :3] * np.array(strides)
    counts = [-(-(size - 1) // stride) + 1 for size, stride in zip(grid.shape, strides[::-1], strict=True)]
    return Grid((counts[0], counts[1], counts[2]), affine)


def _coarsest(field: MetricField, ball: Ball, lattice: Grid) -> npt.NDArray[np.float32]:
    points = lattice.points_lps()
    inside = ball.radius(points) <= 1
    values = np.empty(lattice.shape, dtype=np.float32)
    values[inside] = field(points[inside])
    if not inside.all():
        sphere = ball.sphere_points_lps(_SPHERE_POINT_COUNT)
        way, nearest = cKDTree(sphere).query(points[~inside])
        values[~inside] = np.maximum(field(sphere), 0)[nearest] + way
    return values


def _interpolated(values: npt.NDArray[np.float32], factors: list[int], lattice: Grid) -> npt.NDArray[np.float32]:
    """The coarser lattice's values on the finer one, trilinear; the first nodes of both coincide."""
    size = [(count - 1) * factor + 1 for count, factor in zip(values.shape, factors[::-1], strict=True)]
    fine = torch_functional.interpolate(
        torch.from_numpy(values)[None, None], size=size, mode="trilinear", align_corners=True
    )[0, 0].numpy()
    return np.ascontiguousarray(fine[: lattice.shape[0], : lattice.shape[1], : lattice.shape[2]])


def _evaluate_where(
    wanted: npt.NDArray[np.bool_], values: npt.NDArray[np.float32], field: MetricField, ball: Ball, lattice: Grid
) -> None:
    kji = np.argwhere(wanted)
    points = lattice.to_lps(kji[:, ::-1])
    inside = ball.radius(points) <= 1
    k, j, i = kji[inside].T
    values[k, j, i] = field(points[inside])
