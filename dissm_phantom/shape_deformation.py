"""Means to change a closed surface: flows that never fold it, and level sets where something is cut or added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.errors import MESH_NOT_CLOSED, GeometryError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.shape.meshing import mesh_of_field
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid
from dissm_phantom.canvas import Field, Vector
from dissm_phantom.placement import signed_distance

STEP_MM = 2.0
_MARGIN_MM = 12.0
_FLOW_STEPS = 10
_SMOOTHING_MM = (1.2, 1.8, 2.6, 4.0)
_MIN_DISTANCE_MM = 0.01

Points = npt.NDArray[np.float64]
Velocity = Callable[[Points], Points]
"""LPS points [N, 3] to velocities [N, 3], mm in unit time. It has to be smooth: then its flow never folds a surface."""


def flowed(mesh: TriangleMesh, velocity: Velocity) -> TriangleMesh:
    """The mesh carried along by a stationary velocity field for unit time (midpoint rule); it does not fold."""
    points, step = mesh.vertices.copy(), 1.0 / _FLOW_STEPS
    for _ in range(_FLOW_STEPS):
        half = points + 0.5 * step * velocity(points)
        points = points + step * velocity(half)
    return TriangleMesh(points, mesh.faces)


def scaled_about(mesh: TriangleMesh, center: npt.ArrayLike, scale: npt.ArrayLike) -> TriangleMesh:
    """The mesh scaled about a point, by one factor or by one for each axis."""
    middle = np.asarray(center, dtype=np.float64)
    return TriangleMesh(middle + np.asarray(scale, dtype=np.float64) * (mesh.vertices - middle), mesh.faces)


def smooth_step(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From 0 at 0 to 1 at 1 with a slope of 0 at both ends; constant beyond."""
    share = np.clip(values, 0.0, 1.0)
    return np.asarray(share * share * (3.0 - 2.0 * share))


def field_of(mesh: TriangleMesh, low: npt.ArrayLike | None = None, high: npt.ArrayLike | None = None) -> SignedDistance:
    """The mesh's signed distance on a 2 mm grid that holds it with a margin, and the corners `low`, `high` if given."""
    corners = [mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)]
    first = corners[0] if low is None else np.minimum(corners[0], low)
    last = corners[1] if high is None else np.maximum(corners[1], high)
    grid = axis_aligned_grid(first - _MARGIN_MM, last + _MARGIN_MM, STEP_MM)
    return SignedDistance(signed_distance(mesh, grid), grid)


def surface_of(field: SignedDistance) -> TriangleMesh:
    """The largest part of a solid, meshed: closed, faces outward, without cavities.

    The field is smoothed a little first, and more where two parts of the surface meet in a point or an edge.

    Raises:
        GeometryError: Even the smoothest surface is not closed.
    """
    parts, _ = ndimage.label(field.mm < 0)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    mm = np.where((parts > 0) & (parts != int(sizes.argmax())), np.float32(STEP_MM), field.mm)
    for smoothing_mm in _SMOOTHING_MM:
        smooth = ndimage.gaussian_filter(mm, smoothing_mm / STEP_MM)
        # A voxel that lies on the surface would be a corner of triangles without an area.
        smooth = np.where(np.abs(smooth) < _MIN_DISTANCE_MM, np.float32(_MIN_DISTANCE_MM), smooth)
        inner = smooth[1:-1, 1:-1, 1:-1]
        # What reaches the border of the grid ends there.
        smooth = np.pad(inner, 1, constant_values=np.float32(STEP_MM))
        mesh = mesh_of_field(SignedDistance(smooth, field.grid))
        if mesh.closed:
            return mesh
    raise GeometryError(MESH_NOT_CLOSED, edges="some")


def smooth_union(first: Field, second: Field, softness_mm: float) -> Field:
    """Distance to what lies in one or the other; where both are near, the joint is rounded over `softness_mm`."""
    softness = np.float32(softness_mm)
    mix = np.maximum(softness - np.abs(first - second), 0) / softness
    return np.asarray(np.minimum(first, second) - 0.25 * softness * mix * mix, dtype=np.float32)


def without(solid: Field, taken: Field, softness_mm: float) -> Field:
    """Distance to what lies in `solid` and not in `taken`, with rounded edges."""
    return -smooth_union(-solid, taken, softness_mm)


def axes_of(grid: Grid) -> tuple[Field, Field, Field]:
    """LPS x, y, z (mm) of an LPS-aligned grid, shaped to broadcast over [K, J, I]."""
    origin, spacing = grid.lps_from_voxel[:3, 3], grid.spacing
    x, y, z = ((origin[n] + spacing[n] * np.arange(grid.shape[2 - n])).astype(np.float32) for n in range(3))
    return x[None, None, :], y[None, :, None], z[:, None, None]


def noise_on(grid: Grid, length_mm: float, rng: np.random.Generator) -> Field:
    """Smooth noise of unit variance [K, J, I] whose bumps lie about `length_mm` apart."""
    # White noise smoothed over s has a mean distance between maxima of about 4.5 s.
    sd = length_mm / 4.5 / float(grid.spacing[0])
    coarse = max(1, int(sd / 1.5))
    shape = [n // coarse + 4 for n in grid.shape]
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sd / coarse, mode="wrap")
    at = np.meshgrid(*[np.arange(n, dtype=np.float32) / coarse for n in grid.shape], indexing="ij", sparse=True)
    if coarse > 1:
        full = np.broadcast_arrays(*at)
        smooth = ndimage.map_coordinates(smooth, np.stack(full), order=1)
    else:
        smooth = smooth[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipsoid.

    Attributes:
        center: float64 [3], LPS mm.
        axes: float64 [3, 3], unit columns.
        radii: Half its extent along each column, mm.
    """

    center: Vector
    axes: Vector
    radii: tuple[float, ...]

    def scaled(self, factor: float) -> Ellipsoid:
        """The same with all radii multiplied."""
        return Ellipsoid(self.center, self.axes, tuple(factor * radius for radius in self.radii))

    def distance(self, grid: Grid) -> Field:
        """About the signed distance (mm, float32 [K, J, I]); true near the surface of a round one."""
        x, y, z = axes_of(grid)
        offsets = [part - np.float32(self.center[axis]) for axis, part in enumerate((x, y, z))]
        rho, slope = np.zeros(grid.shape, dtype=np.float32), np.zeros(grid.shape, dtype=np.float32)
        for axis in range(3):
            turned = sum(np.float32(self.axes[n, axis]) * offsets[n] for n in range(3))
            part = (turned / np.float32(self.radii[axis])) ** 2
            rho += part
            slope += part / np.float32(self.radii[axis]) ** 2
        np.sqrt(rho, out=rho)
        # First order: value over gradient, limited within, where the gradient vanishes.
        return np.asarray(rho * (rho - 1) / np.maximum(np.sqrt(slope), 1e-4), dtype=np.float32)


def swept(grid: Grid, sections: Sequence[Ellipsoid]) -> Field:
    """Distance to the union of ellipsoids along a path (mm, float32 [K, J, I]), 30 mm where all are far."""
    result = np.full(grid.shape, 30.0, dtype=np.float32)
    for section in sections:
        reach = max(section.radii) + 20.0
        size = np.array(grid.shape[::-1])
        first = np.clip(np.floor(grid.to_voxel(section.center - reach)).astype(int), 0, size - 1)[::-1]
        last = np.clip(np.ceil(grid.to_voxel(section.center + reach)).astype(int) + 1, 1, size)[::-1]
        extent = np.maximum(last - first, 1)
        start, shape = (int(first[0]), int(first[1]), int(first[2])), (int(extent[0]), int(extent[1]), int(extent[2]))
        box = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
        target = result[box]
        np.minimum(target, section.distance(grid.crop(start, shape)), out=target)
    return result
