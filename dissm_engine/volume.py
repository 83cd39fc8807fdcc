"""Volumes, grids and resampling. LPS millimetres, arrays [k, j, i], a value carries its frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as torch_functional

from dissm_engine.errors import AFFINE_SINGULAR, VOLUME_NOT_3D, VOLUME_NOT_FINITE, GeometryError

FloatArray = npt.NDArray[np.floating] | npt.NDArray[np.int16]
AIR_HU = -1024.0
_CHUNK_POINTS = 2_000_000


@dataclass(frozen=True)
class Grid:
    """A regular grid of voxel centres.

    Attributes:
        shape: (K, J, I).
        lps_from_voxel: float64 [4, 4], maps (i, j, k, 1) to LPS patient coordinates in mm (PS3.3 C.7.6.2.1.1).

    Raises:
        GeometryError: `lps_from_voxel` is singular.

    Examples:
        >>> grid = Grid((40, 512, 512), np.diag([0.8, 0.8, 2.5, 1.0]))
        >>> grid.to_lps([10, 0, 4]).tolist()
        [8.0, 0.0, 10.0]
        >>> grid.to_voxel([8.0, 0.0, 10.0]).tolist()
        [10.0, 0.0, 4.0]
    """

    shape: tuple[int, int, int]
    lps_from_voxel: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if abs(np.linalg.det(self.lps_from_voxel[:3, :3])) < 1e-9:
            raise GeometryError(AFFINE_SINGULAR)

    @cached_property
    def voxel_from_lps(self) -> npt.NDArray[np.float64]:
        """float64 [4, 4], the inverse of `lps_from_voxel`."""
        return np.asarray(np.linalg.inv(self.lps_from_voxel), dtype=np.float64)

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """Millimetres between neighbours along (i, j, k)."""
        return np.asarray(np.linalg.norm(self.lps_from_voxel[:3, :3], axis=0))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.lps_from_voxel[:3, :3])) / 1000.0)

    def corners_lps(self) -> npt.NDArray[np.float64]:
        """[8, 3] LPS mm of the outermost voxel centres."""
        k, j, i = self.shape
        ijk = np.array([[a, b, c] for a in (0, i - 1) for b in (0, j - 1) for c in (0, k - 1)], dtype=np.float64)
        return self.to_lps(ijk)

    @property
    def center_lps(self) -> npt.NDArray[np.float64]:
        """[3] LPS mm of the middle of the grid."""
        return np.asarray(self.corners_lps().mean(axis=0))

    def to_lps(self, ijk: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Voxel coordinates [..., 3] in (i, j, k) order to LPS mm [..., 3]."""
        return np.asarray(ijk, dtype=np.float64) @ self.lps_from_voxel[:3, :3].T + self.lps_from_voxel[:3, 3]

    def to_voxel(self, lps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """LPS mm [..., 3] to voxel coordinates [..., 3] in (i, j, k) order."""
        return np.asarray(lps, dtype=np.float64) @ self.voxel_from_lps[:3, :3].T + self.voxel_from_lps[:3, 3]

    def points_lps(self) -> npt.NDArray[np.float64]:
        """LPS mm of every voxel centre, [K, J, I, 3]."""
        k, j, i = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in self.shape), indexing="ij")
        return self.to_lps(np.stack([i, j, k], axis=-1))

    def beyond_faces_mm(self, points_lps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """How far LPS points [..., 3] lie outside the outermost voxel faces, mm [...]; negative inside them."""
        middle = (np.array(self.shape[::-1]) - 1) / 2
        return np.asarray(((np.abs(self.to_voxel(points_lps) - middle) - middle - 0.5) * self.spacing).max(axis=-1))

    def crop(self, start_kji: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """The sub-grid that begins at voxel `start_kji`, in the same frame."""
        affine = self.lps_from_voxel.copy()
        affine[:3, 3] = self.to_lps(np.array(start_kji[::-1], dtype=np.float64))
        return Grid(shape, affine)


def axis_aligned_grid(low_lps: npt.ArrayLike, high_lps: npt.ArrayLike, spacing_mm: float) -> Grid:
    """Isotropic grid along the LPS axes whose voxel centres cover [low, high] (mm)."""
    low, high = np.asarray(low_lps, dtype=np.float64), np.asarray(high_lps, dtype=np.float64)
    counts = np.ceil((high - low) / spacing_mm - 1e-6).astype(int) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (low + high) / 2 - (counts - 1) * spacing_mm / 2
    return Grid((int(counts[2]), int(counts[1]), int(counts[0])), affine)


def covering_grid(grid: Grid, spacing_mm: float) -> Grid:
    """Axis-aligned isotropic grid over everything `grid` covers."""
    corners = grid.corners_lps()
    return axis_aligned_grid(corners.min(axis=0), corners.max(axis=0), spacing_mm)


@dataclass(frozen=True)
class Volume:
    """A CT in Hounsfield units.

    Attributes:
        hu: float32 or int16 [K, J, I] (slice, row, column).
        lps_from_voxel: float64 [4, 4], maps (i, j, k, 1) to LPS mm (PS3.3 C.7.6.2.1.1).

    Raises:
        GeometryError: `hu` is not three-dimensional or not finite, or `lps_from_voxel` is singular.

    Examples:
        >>> Volume(np.zeros((4, 5)), np.eye(4))
        Traceback (most recent call last):
        ...
        dissm_engine.errors.GeometryError: a volume must be an array [K, J, I], got shape (4, 5); pass slices, ...
    """

    hu: npt.NDArray[np.float32] | npt.NDArray[np.int16]
    lps_from_voxel: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.hu.ndim != 3:
            raise GeometryError(VOLUME_NOT_3D, shape=self.hu.shape)
        if self.hu.dtype.kind == "f" and not np.isfinite(self.hu).all():
            raise GeometryError(VOLUME_NOT_FINITE, count=int((~np.isfinite(self.hu)).sum()))

    @cached_property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        shape = self.hu.shape
        return Grid((shape[0], shape[1], shape[2]), self.lps_from_voxel)


def sample_at_lps(
    values: FloatArray, grid: Grid, points_lps: FloatArray, outside: float | None = None
) -> npt.NDArray[np.float32]:
    """Trilinear samples of values on a grid, float32 [...].

    Args:
        values: [K, J, I].
        grid: Where the values lie.
        points_lps: [..., 3], LPS mm.
        outside: The value beyond the outermost voxel centres (half a voxel of tolerance); None repeats the border.
    """
    flat = np.ascontiguousarray(points_lps, dtype=np.float64).reshape(-1, 3)
    source = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    result = np.empty(len(flat), dtype=np.float32)
    size = np.array(grid.shape[::-1], dtype=np.float64)
    for first in range(0, len(flat), _CHUNK_POINTS):
        ijk = grid.to_voxel(flat[first : first + _CHUNK_POINTS])
        unit = torch.from_numpy((2 * ijk / np.maximum(size - 1, 1) - 1).astype(np.float32))
        part = torch_functional.grid_sample(
            source, unit[None, None, None], mode="bilinear", padding_mode="border", align_corners=True
        )[0, 0, 0, 0].numpy()
        if outside is not None:
            part = np.where(((ijk < -0.5) | (ijk > size - 0.5)).any(axis=1), np.float32(outside), part)
        result[first : first + _CHUNK_POINTS] = part
    return result.reshape(points_lps.shape[:-1])


def resample(volume: Volume, grid: Grid, outside: float = AIR_HU) -> Volume:
    """The volume on another grid: block averages where it is finer than the target, then trilinear.

    Args:
        volume: The CT.
        grid: Where the result lies.
        outside: HU given to voxels beyond the volume's field of view.
    """
    prepared = _block_averaged(volume, float(grid.spacing.min()))
    values = np.asarray(prepared.hu, dtype=np.float32)
    hu = np.empty(grid.shape, dtype=np.float32)
    for k in range(grid.shape[0]):
        plane = grid.crop((k, 0, 0), (1, grid.shape[1], grid.shape[2]))
        hu[k] = sample_at_lps(values, prepared.grid, plane.points_lps(), outside)[0]
    return Volume(hu, grid.lps_from_voxel)


def _block_averaged(volume: Volume, spacing_mm: float) -> Volume:
    """Block averages by whole factors, so that a coarser trilinear sampling does not alias."""
    factors = np.maximum(np.floor(spacing_mm / volume.grid.spacing + 0.25), 1).astype(int)
    factors = np.minimum(factors, np.array(volume.grid.shape[::-1]))
    if (factors == 1).all():
        return volume
    window = (int(factors[2]), int(factors[1]), int(factors[0]))
    tensor = torch.from_numpy(np.asarray(volume.hu, dtype=np.float32))[None, None]
    averaged = torch_functional.avg_pool3d(tensor, window, stride=window)[0, 0].numpy()
    affine = volume.lps_from_voxel.copy()
    affine[:3, 3] = volume.grid.to_lps((factors - 1) / 2.0)
    affine[:3, :3] = affine[:3, :3] * factors
    return Volume(averaged, affine)


@dataclass(frozen=True)
class ScalarField:
    """Any number at every voxel of a grid, such as the HU of a CT.

    Attributes:
        values: float32 [K, J, I].
        grid: Where the values lie.
    """

    values: npt.NDArray[np.float32]
    grid: Grid

    def at(self, points_lps: FloatArray) -> npt.NDArray[np.float32]:
        """Trilinear samples [...] at LPS points [..., 3]; beyond the grid the value at its border is repeated."""
        return sample_at_lps(self.values, self.grid, np.asarray(points_lps, dtype=np.float64))


@dataclass(frozen=True)
class SignedDistance:
    """A signed distance field in mm, negative inside.

    Attributes:
        mm: float32 [K, J, I].
        grid: Where the values lie.

    Examples:
        The distance to a ball of 10 mm around the origin.

        >>> grid = axis_aligned_grid([-15, -15, -15], [15, 15, 15], spacing_mm=3.0)
        >>> ball = SignedDistance((np.linalg.norm(grid.points_lps(), axis=-1) - 10).astype(np.float32), grid)
        >>> ball.at(np.array([[12.0, 0.0, 0.0], [0.0, -25.0, 0.0]])).tolist()
        [2.0, 15.0]
    """

    mm: npt.NDArray[np.float32]
    grid: Grid

    def at(self, points_lps: FloatArray) -> npt.NDArray[np.float32]:
        """Trilinear samples [...] at LPS points [..., 3]; beyond the grid: border value plus the distance to it."""
        points = np.asarray(points_lps, dtype=np.float64)
        ijk = self.grid.to_voxel(points)
        last = np.array(self.grid.shape[::-1], dtype=np.float64) - 1
        beyond = ijk - np.clip(ijk, 0, last)
        extra = np.linalg.norm(beyond @ self.grid.lps_from_voxel[:3, :3].T, axis=-1)
        return np.asarray(ScalarField(self.mm, self.grid).at(points) + extra, dtype=np.float32)
