"""Surfaces from label maps (AMOS, MSD): interpolate between slices, smooth, marching cubes (appendix A.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK
from scipy import ndimage
from skimage.measure import marching_cubes

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid
from training.sources.surfaces import LABEL_ABSENT, LazySurfaces, SourceError

SLICE_SPACING_MM = 1.0
SMOOTHING_MM = 1.0
THICK_SLICE_MM = 1.5
_MARGIN_VOXELS = 4


@dataclass(frozen=True)
class LabelMapSource:
    """A folder of NIfTI label maps. liver_labels: the numbers that make up the liver."""

    folder: Path
    liver_labels: tuple[int, ...]

    def load(self) -> Mapping[str, TriangleMesh]:
        """The surfaces by name (the file's name without `.nii.gz`), LPS mm, made when asked for."""
        files = [file for file in self.folder.iterdir() if file.name.endswith((".nii", ".nii.gz"))]
        visible = [file for file in files if not file.name.startswith(".")]
        return LazySurfaces({_stem(file): partial(self._read, file) for file in visible})

    def _read(self, path: Path) -> TriangleMesh:
        image = SimpleITK.ReadImage(str(path))
        mask = np.isin(SimpleITK.GetArrayFromImage(image), self.liver_labels)
        if not mask.any():
            raise SourceError(LABEL_ABSENT, name=_stem(path), labels=list(self.liver_labels))
        return surface_of_mask(mask, Grid(_shape(mask), _lps_from_voxel(image)))


def surface_of_mask(mask: npt.NDArray[np.bool_], grid: Grid) -> TriangleMesh:
    """The smoothed surface of a mask [K, J, I], LPS mm, outward, closed also where the mask meets the border."""
    low = [int(axis.min()) for axis in np.nonzero(mask)]
    high = [int(axis.max()) + 1 for axis in np.nonzero(mask)]
    boxed = np.pad(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], _MARGIN_VOXELS)
    start = (low[0] - _MARGIN_VOXELS, low[1] - _MARGIN_VOXELS, low[2] - _MARGIN_VOXELS)
    part = grid.crop(start, _shape(boxed))
    field, part = _between_slices(boxed, part)
    spacing_kji = part.spacing[::-1]
    smooth = ndimage.gaussian_filter(field, SMOOTHING_MM / spacing_kji)
    vertices_kji, faces, _, _ = marching_cubes(smooth, 0.5)  # type: ignore[no-untyped-call]  # untyped in skimage
    mesh = TriangleMesh(part.to_lps(vertices_kji[:, ::-1]), faces.astype(np.int64))
    return mesh if mesh.volume_ml > 0 else TriangleMesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def _between_slices(mask: npt.NDArray[np.bool_], grid: Grid) -> tuple[npt.NDArray[np.float32], Grid]:
    """Occupancy with slices about 1 mm apart: shape-based interpolation of each slice's signed distance."""
    thickness = float(grid.spacing[2])
    if thickness <= THICK_SLICE_MM:
        return mask.astype(np.float32), grid
    sampling = (float(grid.spacing[1]), float(grid.spacing[0]))
    distance = np.stack([_slice_distance(plane, sampling) for plane in mask])
    factor = int(np.ceil(thickness / SLICE_SPACING_MM))
    positions = np.arange((len(mask) - 1) * factor + 1) / factor
    below = np.minimum(positions.astype(int), len(mask) - 2)
    share = (positions - below)[:, None, None].astype(np.float32)
    between = distance[below] * (1 - share) + distance[below + 1] * share
    affine = grid.lps_from_voxel.copy()
    affine[:3, 2] /= factor
    return (between < 0).astype(np.float32), Grid(_shape(between), affine)


def _slice_distance(plane: npt.NDArray[np.bool_], sampling: tuple[float, float]) -> npt.NDArray[np.float32]:
    """Signed distance [J, I] to the slice's outline in mm, negative inside; far outside where the slice is empty."""
    if not plane.any():
        return np.asarray(ndimage.distance_transform_edt(np.ones_like(plane), sampling), dtype=np.float32) + 10.0
    outside = ndimage.distance_transform_edt(~plane, sampling)
    inside = ndimage.distance_transform_edt(plane, sampling)
    return np.asarray(outside - inside, dtype=np.float32)


def _lps_from_voxel(image: SimpleITK.Image) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    direction = np.array(image.GetDirection())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    spacing = np.array(image.GetSpacing())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    affine[:3, :3] = direction.reshape(3, 3) * spacing
    affine[:3, 3] = image.GetOrigin()  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    return affine


def _shape(array: npt.NDArray[np.generic]) -> tuple[int, int, int]:
    return (array.shape[0], array.shape[1], array.shape[2])


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
