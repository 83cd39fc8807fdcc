"""Planar contours of an RT Structure Set (PS3.3 C.8.8.6) as a mask on the CT's voxels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from skimage.draw import polygon2mask

from dicom_node.reasons import MASK_NOT_ON_CT, NodeError
from dissm_engine.volume import Grid

MAX_OFF_SLICE = 0.2
"""How far a point of a contour may lie from a slice's plane, in steps between slices."""
PLANAR = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_regions(dataset: Dataset, numbers: Sequence[int], grid: Grid) -> npt.NDArray[np.bool_]:
    """The union of regions, bool [K, J, I]: voxels whose centre the contours of their slice enclose.

    Contours of one region on one slice that lie in each other cut holes (even-odd rule). Slices without a contour
    stay empty: nothing is interpolated.

    Raises:
        NodeError: MASK_NOT_ON_CT where a contour lies off the CT's slices.
    """
    inside = np.zeros(grid.shape, dtype=np.bool_)
    for region in dataset.get("ROIContourSequence", []):
        if int(region.ReferencedROINumber) in numbers:
            inside |= _region(region.get("ContourSequence", []), grid)
    return inside


def _region(contours: Iterable[Dataset], grid: Grid) -> npt.NDArray[np.bool_]:
    inside = np.zeros(grid.shape, dtype=np.bool_)
    for contour in contours:
        if contour.ContourGeometricType not in PLANAR:
            continue
        points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
        ijk = grid.to_voxel(points)
        k = int(np.rint(ijk[:, 2].mean()))
        off = float(np.abs(ijk[:, 2] - k).max())
        if off > MAX_OFF_SLICE or not 0 <= k < grid.shape[0]:
            raise NodeError(MASK_NOT_ON_CT, problem=f"a contour lies {off:.2f} steps beside a slice, or beyond the CT")
        inside[k] ^= polygon2mask(grid.shape[1:], ijk[:, [1, 0]])  # type: ignore[no-untyped-call]  # scikit-image
    return inside
