"""Reads a binary SEG frame by frame, each where its own attributes place it; shares nothing with the writer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from dicom_node.reasons import SEG_NOT_ON_CT, ProofError
from dissm_engine.volume import Grid

PLACEMENT_TOLERANCE_MM = 0.6
"""How far a frame may lie from the plane of the CT's even grid: assembling lets images deviate by half a millimetre."""


@dataclass(frozen=True)
class SegFrame:
    """One frame. inside: bool [J, I]. lps_from_pixel: [4, 4], maps (i, j, 0, 1) to LPS mm (PS3.3 C.7.6.2.1.1).

    source_uid: SOPInstanceUID of the one image it was derived from.
    """

    inside: npt.NDArray[np.bool_]
    lps_from_pixel: npt.NDArray[np.float64]
    source_uid: str

    @property
    def position(self) -> npt.NDArray[np.float64]:
        """ImagePositionPatient, LPS mm."""
        return self.lps_from_pixel[:3, 3]


@dataclass(frozen=True)
class SegObject:
    """The frames of segment 1, in file order, and everything else."""

    frames: tuple[SegFrame, ...]
    dataset: Dataset


def read_seg(path: Path) -> SegObject:
    """Read a SEG of one binary segment. Raises ProofError(SEG_NOT_ON_CT) when it is not one."""
    try:
        dataset = pydicom.dcmread(path)
        _check(dataset.get("SOPClassUID") == SegmentationStorage, "it is not a Segmentation")
        _check(dataset.SegmentationType == "BINARY", f"SegmentationType is {dataset.SegmentationType}")
        _check(len(dataset.SegmentSequence) == 1, "it does not hold exactly one segment")
        _check(dataset.BitsAllocated == 1, f"BitsAllocated is {dataset.BitsAllocated}, not 1")
        # Single bits come unpacked as 0 and 1.
        pixels = dataset.pixel_array.reshape(int(dataset.NumberOfFrames), dataset.Rows, dataset.Columns).view(np.bool_)
        groups = dataset.PerFrameFunctionalGroupsSequence
        _check(len(groups) == len(pixels), f"{len(groups)} functional groups for {len(pixels)} frames")
        shared = dataset.SharedFunctionalGroupsSequence[0]
        frames = tuple(_frame(inside, group, shared) for inside, group in zip(pixels, groups, strict=True))
    except (InvalidDicomError, OSError, AttributeError, KeyError, TypeError, ValueError, IndexError) as problem:
        raise ProofError(SEG_NOT_ON_CT, problem=f"it cannot be read ({type(problem).__name__})") from problem
    return SegObject(frames, dataset)


def mask_on_grid(seg: SegObject, grid: Grid) -> tuple[npt.NDArray[np.bool_], float]:
    """The mask bool [K, J, I] on the CT's grid, and how far the frames lie from its planes at most (mm).

    Frames that are missing are empty. Raises ProofError(SEG_NOT_ON_CT) when a frame does not lie on a slice of the
    grid pixel for pixel, or two frames lie on one.
    """
    mask = np.zeros(grid.shape, dtype=np.bool_)
    seen: set[int] = set()
    furthest = 0.0
    for number, frame in enumerate(seg.frames, start=1):
        k, error = _slice_of(frame, grid)
        furthest = max(furthest, error)
        _check(error <= PLACEMENT_TOLERANCE_MM, f"frame {number} lies {error:.3f} mm off the CT's slices")
        _check(0 <= k < grid.shape[0], f"frame {number} lies beyond the CT's slices")
        _check(k not in seen, f"two frames lie on slice {k}")
        seen.add(k)
        mask[k] = frame.inside
    return mask, furthest


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ProofError(SEG_NOT_ON_CT, problem=otherwise)


def _frame(inside: npt.NDArray[np.bool_], group: Dataset, shared: Dataset) -> SegFrame:
    segment = _macro("SegmentIdentificationSequence", group, shared).ReferencedSegmentNumber
    _check(segment == 1, f"a frame belongs to segment {segment}")
    position = _macro("PlanePositionSequence", group, shared).ImagePositionPatient
    orientation = np.array(_macro("PlaneOrientationSequence", group, shared).ImageOrientationPatient, dtype=float)
    between_rows, between_columns = _macro("PixelMeasuresSequence", group, shared).PixelSpacing
    lps_from_pixel = np.eye(4)
    lps_from_pixel[:3, 0] = orientation[:3] * float(between_columns)
    lps_from_pixel[:3, 1] = orientation[3:] * float(between_rows)
    lps_from_pixel[:3, 2] = np.cross(orientation[:3], orientation[3:])
    lps_from_pixel[:3, 3] = np.array(position, dtype=float)
    derivation = _macro("DerivationImageSequence", group, shared)
    _check(len(derivation.SourceImageSequence) == 1, "a frame is not derived from exactly one image")
    return SegFrame(inside, lps_from_pixel, str(derivation.SourceImageSequence[0].ReferencedSOPInstanceUID))


def _macro(keyword: str, group: Dataset, shared: Dataset) -> Any:
    """The one item of a functional group macro: the frame's own, else the shared one (PS3.3 C.7.6.16)."""
    sequence = group.get(keyword) or shared.get(keyword) or []
    _check(len(sequence) == 1, f"{keyword} does not hold exactly one item")
    return sequence[0]


def _slice_of(frame: SegFrame, grid: Grid) -> tuple[int, float]:
    """The slice k of the grid on which the frame lies, and the largest distance of its corners from there (mm)."""
    rows, columns = frame.inside.shape
    _check(
        (rows, columns) == grid.shape[1:], f"frames are {rows} x {columns}, the CT {grid.shape[1]} x {grid.shape[2]}"
    )
    corners = np.array([[i, j, 0, 1] for i in (0, columns - 1) for j in (0, rows - 1)], dtype=float)
    stated = corners @ frame.lps_from_pixel.T
    k = int(np.rint(grid.to_voxel(frame.position)[2]))
    expected = grid.to_lps(corners[:, :3] + [0, 0, k])
    return k, float(np.linalg.norm(stated[:, :3] - expected, axis=1).max())
