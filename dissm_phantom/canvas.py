"""Where organs are drawn: a labelled LPS-aligned grid, implicit shapes on cropped boxes, periodic smooth noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.volume import Grid
from dissm_phantom.tissue import Labels, Tissue

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]
Box = tuple[slice, slice, slice]
Index = npt.NDArray[np.int64]
_TILE = 96


def noise_tile(rng: np.random.Generator, sd_voxels: float, size: int = _TILE) -> Field:
    """Periodic Gaussian noise [size]^3 of unit variance, smooth over `sd_voxels`."""
    white = rng.standard_normal((size, size, size), dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, sd_voxels, mode="wrap", truncate=3.0)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


def tile_crop(tile: Field, shape: Sequence[int], rng: np.random.Generator) -> Field:
    """A crop [K, J, I] of a periodic tile at a random place, mirrored at random; repeats beyond the tile's size."""
    indices = []
    for length, size in zip(shape, tile.shape, strict=True):
        run = (np.arange(length) + rng.integers(size)) % size
        indices.append(run[::-1] if rng.random() < 0.5 else run)
    return tile[np.ix_(*indices)]


@dataclass
class Canvas:
    """Labels being drawn [K, J, I] on an LPS-aligned isotropic grid, with the liver's signed distance (mm).

    An organ never overwrites another: `put` replaces FAT only, unless told otherwise.
    """

    grid: Grid
    labels: Labels
    liver_mm: Field
    rng: np.random.Generator
    fine: Field = field(init=False)
    coarse: Field = field(init=False)

    def __post_init__(self) -> None:
        self.step = float(self.grid.spacing[0])
        origin = self.grid.lps_from_voxel[:3, 3]
        self.x, self.y, self.z = (
            (origin[axis] + self.step * np.arange(self.grid.shape[2 - axis])).astype(np.float32) for axis in range(3)
        )
        self.fine = noise_tile(self.rng, 8.0 / self.step)
        self.coarse = noise_tile(self.rng, 18.0 / self.step)

    @property
    def everything(self) -> Box:
        """The box of the whole grid."""
        k, j, i = self.grid.shape
        return slice(0, k), slice(0, j), slice(0, i)

    def box(self, low: npt.ArrayLike, high: npt.ArrayLike) -> Box:
        """Voxels between two LPS corners, clipped to the grid (may be empty)."""
        first = np.floor(self.grid.to_voxel(low)).astype(int)
        last = np.ceil(self.grid.to_voxel(high)).astype(int) + 1
        size = np.array(self.grid.shape[::-1])
        first, last = np.clip(first, 0, size), np.clip(last, 0, size)
        i, j, k = (slice(int(a), int(max(a, b))) for a, b in zip(first, last, strict=True))
        return k, j, i

    def axes(self, box: Box) -> tuple[Field, Field, Field]:
        """LPS x, y, z (mm) of a box, shaped to broadcast over [K, J, I]."""
        k, j, i = box
        return self.x[i][None, None, :], self.y[j][None, :, None], self.z[k][:, None, None]

    def noise(self, box: Box, coarse: bool = False, rng: np.random.Generator | None = None) -> Field:
        """Unit-variance smooth noise over a box, about 8 mm (fine) or 18 mm (coarse) long.

        Args:
            box: Where.
            coarse: Whether the longer noise is wanted.
            rng: Draws the place in the tile; the canvas' own generator where it is missing.
        """
        shape = [part.stop - part.start for part in box]
        return tile_crop(self.coarse if coarse else self.fine, shape, rng or self.rng)

    def put(self, box: Box, where: Mask, tissue: Tissue, over: Sequence[Tissue] = (Tissue.FAT,)) -> None:
        """Label the voxels of `where` (bool, box-shaped) that hold one of `over`."""
        region = self.labels[box]
        allowed = region == over[0]
        for other in over[1:]:
            allowed |= region == other
        region[where & allowed] = tissue

    def liver_at(self, points: npt.ArrayLike) -> Field:
        """Liver distance (mm) at the voxels nearest to LPS points [..., 3]; clamped at the grid's border."""
        return np.asarray(self.liver_mm[self.voxels_at(points)])

    def voxels_at(self, points: npt.ArrayLike) -> tuple[Index, Index, Index]:
        """Indices k, j, i of the voxels nearest to LPS points [..., 3]; clamped at the grid's border."""
        ijk = np.rint(self.grid.to_voxel(points)).astype(int)
        ijk = np.clip(ijk, 0, np.array(self.grid.shape[::-1]) - 1)
        return ijk[..., 2], ijk[..., 1], ijk[..., 0]


def xyz(x: float, y: float, z: float) -> Vector:
    """A displacement [3] in LPS mm."""
    return np.array([x, y, z], dtype=np.float64)


def rotation_about(axis: npt.ArrayLike, degrees: float) -> Vector:
    """Rotation matrix [3, 3] about an axis (Rodrigues)."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross))


def frame_along(direction: npt.ArrayLike) -> Vector:
    """A rotation matrix [3, 3] whose first column is the given direction."""
    first = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    helper = np.array([0.0, 0.0, 1.0]) if abs(first[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    second = np.cross(helper, first)
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def ellipsoid(
    canvas: Canvas,
    center: npt.ArrayLike,
    radii: Sequence[float],
    rotation: Vector | None = None,
    roughness_mm: float = 2.0,
) -> tuple[Box, Field]:
    """An ellipsoid warped by noise: its box and its approximate signed distance (mm, negative inside)."""
    middle = np.asarray(center, dtype=np.float64)
    turn = np.eye(3) if rotation is None else rotation
    reach = np.sqrt(((turn * np.asarray(radii)) ** 2).sum(axis=1)) + 3 * roughness_mm + 4
    box = canvas.box(middle - reach, middle + reach)
    x, y, z = canvas.axes(box)
    dx, dy, dz = x - np.float32(middle[0]), y - np.float32(middle[1]), z - np.float32(middle[2])
    rho = np.float32(1e-6)
    for axis in range(3):
        a, b, c = (turn[:, axis] / radii[axis]).astype(np.float32)
        rho = rho + (a * dx + b * dy + c * dz) ** 2
    rho = np.sqrt(rho)
    distance = np.sqrt(dx * dx + dy * dy + dz * dz) * (1 - 1 / rho)
    if roughness_mm > 0:
        distance = distance + np.float32(roughness_mm) * canvas.noise(box, coarse=max(radii) > 30)
    return box, np.asarray(distance, dtype=np.float32)


def smooth_path(
    knots: npt.ArrayLike | Sequence[npt.ArrayLike], radii: Sequence[float], step_mm: float
) -> tuple[Vector, Vector]:
    """Knots [N, 3] and radii [N] resampled every `step_mm` and rounded at the corners."""
    points, widths = np.asarray(knots, dtype=np.float64), np.asarray(radii, dtype=np.float64)
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    count = max(3, int(np.ceil(chord[-1] / step_mm)) + 1)
    at = np.linspace(0, chord[-1], count)
    path = np.stack([np.interp(at, chord, points[:, axis]) for axis in range(3)], axis=1)
    width = np.interp(at, chord, widths)
    sd = max(0.5, 0.18 * chord[-1] / max(1, len(points) - 1) / step_mm * 1.5)
    return (
        ndimage.gaussian_filter1d(path, sd, axis=0, mode="nearest"),
        ndimage.gaussian_filter1d(width, sd, mode="nearest"),
    )


def tube(
    canvas: Canvas,
    knots: npt.ArrayLike | Sequence[npt.ArrayLike],
    radii: Sequence[float],
    roughness_mm: float = 1.0,
    margin_mm: float = 4.0,
) -> tuple[Box, Field]:
    """A swept tube through `knots` [N, 3] of varying radius: its box and signed distance (mm, capped at the margin)."""
    step = max(1.5, 0.35 * float(np.mean(radii)))
    path, width = smooth_path(knots, radii, step)
    reach = width.max() + margin_mm + 3 * roughness_mm
    box = canvas.box(path.min(axis=0) - reach, path.max(axis=0) + reach)
    distance = np.full([part.stop - part.start for part in box], margin_mm, dtype=np.float32)
    for point, radius in zip(path, width, strict=True):
        _stamp_ball(canvas, distance, box, point, float(radius), margin_mm)
    if roughness_mm > 0:
        distance += np.float32(roughness_mm) * canvas.noise(box)
    return box, distance


def _stamp_ball(canvas: Canvas, distance: Field, box: Box, point: Vector, radius: float, margin_mm: float) -> None:
    reach = radius + margin_mm
    ball = canvas.box(point - reach, point + reach)
    x, y, z = canvas.axes(ball)
    part = np.sqrt((x - np.float32(point[0])) ** 2 + (y - np.float32(point[1])) ** 2 + (z - np.float32(point[2])) ** 2)
    local = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(ball, box, strict=True))
    target = distance[local]
    np.minimum(target, part - np.float32(radius), out=target)


def touching(
    canvas: Canvas, nominal: npt.ArrayLike, cloud: Vector, overlap: float, spread_mm: Sequence[float]
) -> Vector:
    """Centre near `nominal` at which about `overlap` of an organ lies in the liver, so that it touches when carved.

    Args:
        canvas: Knows where the liver is.
        nominal: [3], LPS mm.
        cloud: float64 [N, 3], points inside the organ about its centre, mm.
        overlap: Share of the organ's volume, 0 to 1.
        spread_mm: How far x, y and z may move.
    """
    offsets = np.stack(np.meshgrid(*[np.linspace(-s, s, 9) for s in spread_mm], indexing="ij"), -1).reshape(-1, 3)
    centers = np.asarray(nominal, dtype=np.float64) + offsets
    inside = (canvas.liver_at(centers[:, None, :] + cloud[None]) < 0).mean(axis=1)
    away = ((offsets / np.maximum(np.asarray(spread_mm), 1.0)) ** 2).sum(axis=1)
    return np.asarray(centers[int(np.argmin(np.abs(inside - overlap) * 12 + 0.25 * away))])


def cloud_of_ellipsoid(radii: Sequence[float], rotation: Vector | None = None, count: int = 160) -> Vector:
    """Evenly spread points [count, 3] inside an ellipsoid about the origin (a fixed low-discrepancy set)."""
    n = np.arange(count) + 0.5
    height, turn, depth = 1 - 2 * n / count, np.pi * (1 + 5**0.5) * n, ((n * 0.7548776662) % 1.0) ** (1 / 3)
    ring = np.sqrt(1 - height**2)
    unit = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1) * depth[:, None]
    return np.asarray(unit * np.asarray(radii) @ (np.eye(3) if rotation is None else rotation).T)
