"""Segments of a DICOM Segmentation as one mask, read by highdicom (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt

from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.reasons import ANNOTATION_UNREADABLE, MASK_NOT_ON_CT, NodeError, kind_and_place
from dissm_engine.volume import Grid

MAX_OFF_GRID_VOXELS = 0.2
"""How far a voxel of a mask may lie from the CT's voxel that it is taken for."""


@dataclass(frozen=True)
class PlacedMask:
    """A mask that knows where it lies.

    Attributes:
        inside: bool [K, J, I].
        lps_from_voxel: float64 [4, 4], maps (i, j, k, 1) to LPS mm.
    """

    inside: npt.NDArray[np.bool_]
    lps_from_voxel: npt.NDArray[np.float64]


def read_segments(path: Path, numbers: Sequence[int]) -> PlacedMask:
    """The union of segments, on the grid on which the frames of the SEG lie; where frames are missing it is empty.

    Args:
        path: The file.
        numbers: SegmentNumber of each segment.

    Raises:
        NodeError: ANNOTATION_UNREADABLE where it is no SEG, or its frames form no even stack.
    """
    try:
        segmentation = highdicom.seg.segread(path)
        volume = segmentation.get_volume(segment_numbers=list(numbers), dtype=np.float32)
    except (*PARSE_ERRORS, RuntimeError) as problem:
        raise NodeError(ANNOTATION_UNREADABLE, problem=kind_and_place(problem)) from problem
    inside = np.asarray(volume.array).max(axis=-1) >= 0.5
    # highdicom's affine maps (k, j, i).
    return PlacedMask(inside, np.asarray(volume.affine)[:, [2, 1, 0, 3]])


def on_grid(mask: PlacedMask, grid: Grid) -> npt.NDArray[np.bool_]:
    """The mask bool [K, J, I] on the CT's grid, voxel for voxel; nothing is resampled.

    Raises:
        NodeError: MASK_NOT_ON_CT where its voxels are not the CT's, or lie beyond them.
    """
    ct_from_mask = grid.voxel_from_lps @ mask.lps_from_voxel
    steps = np.rint(ct_from_mask[:3, :3])
    permuted = bool((np.abs(steps).sum(axis=0) == 1).all() and (np.abs(steps).sum(axis=1) == 1).all())
    if not permuted:
        raise NodeError(MASK_NOT_ON_CT, problem="its voxels are of another size or direction")
    last = np.array(mask.inside.shape[::-1]) - 1
    corners = np.array([[i, j, k] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    exact = corners @ ct_from_mask[:3, :3].T + ct_from_mask[:3, 3]
    rounded = corners @ steps.T + np.rint(ct_from_mask[:3, 3])
    off = float(np.abs(exact - rounded).max())
    if off > MAX_OFF_GRID_VOXELS:
        raise NodeError(MASK_NOT_ON_CT, problem=f"its voxels lie {off:.2f} voxels beside the CT's")
    kji = np.argwhere(mask.inside)
    ijk = (kji[:, ::-1] @ steps.T + np.rint(ct_from_mask[:3, 3])).astype(int)
    if len(ijk) and ((ijk < 0).any() or (ijk >= np.array(grid.shape[::-1])).any()):
        raise NodeError(MASK_NOT_ON_CT, problem="it reaches beyond the CT")
    placed = np.zeros(grid.shape, dtype=np.bool_)
    i, j, k = ijk.T
    placed[k, j, i] = True
    return placed
