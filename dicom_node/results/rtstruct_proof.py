"""The structure set read back from the disk: every contour on its image, and what they enclose against the SEG."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.dicom.stored_numbers import numbers_as_stored
from dicom_node.reasons import OBJECT_NOT_PROVEN, ProofError
from dicom_node.results.proof_request import (
    UNREADABLE,
    ProofRequest,
    ProvenMask,
    changed_attributes,
    read_object,
    require,
)
from dicom_node.values.facts import Facts
from dicom_node.values.results import ObjectKind

_KIND = ObjectKind.RTSTRUCT
_MAX_OFF_PLANE_MM = 0.01
_MIN_DSC = 0.97
_Mask = npt.NDArray[np.bool_]


def prove_rtstruct(request: ProofRequest, proven: ProvenMask) -> Facts:
    """Contours lie on the images that they name; the voxels they enclose are the SEG's but for the outermost ones.

    Returns:
        How many contours there are, how far a point lies off its image's plane at most (mm), the Dice similarity
        coefficient with the SEG, and how many voxels differ that do not touch the SEG's boundary, which are none.
    """
    dataset = read_object(_KIND, request.files[_KIND][0], request.stack)
    grid = request.stack.volume.grid
    filled = np.zeros_like(proven.inside)
    off_plane = 0.0
    try:
        _prove_frame(dataset, request)
        (region,) = dataset.ROIContourSequence
        slices = {str(header.SOPInstanceUID): k for k, header in enumerate(request.stack.headers)}
        for contour in region.ContourSequence:
            require(contour.ContourGeometricType == "CLOSED_PLANAR", _KIND, "a contour is not closed and planar")
            (image,) = contour.ContourImageSequence
            require(image.ReferencedSOPInstanceUID in slices, _KIND, "a contour names an image that is not of this CT")
            k = slices[str(image.ReferencedSOPInstanceUID)]
            points = numbers_as_stored(contour, "ContourData").reshape(-1, 3)
            require(len(points) == contour.NumberOfContourPoints, _KIND, "a contour has not the points it counts")
            off_plane = max(off_plane, _off_plane(points, request.stack.headers[k]))
            # Outlines of holes turn their inside off again.
            ijk = points @ grid.voxel_from_lps[:3, :3].T + grid.voxel_from_lps[:3, 3]
            _toggle_enclosed(filled[k], ijk)
        count = len(region.ContourSequence)
    except UNREADABLE as problem:
        raise ProofError(OBJECT_NOT_PROVEN, kind=_KIND, problem=f"unreadable ({type(problem).__name__})") from problem
    require(off_plane <= _MAX_OFF_PLANE_MM, _KIND, f"a contour lies {off_plane:.3f} mm off its image")
    dsc, inner = _compared(filled, proven.inside)
    require(inner == 0, _KIND, f"{inner} voxels away from the SEG's boundary are not the SEG's")
    require(dsc >= _MIN_DSC, _KIND, f"contours and SEG overlap by {dsc:.4f} (Dice) only")
    return {"contours": count, "max_off_plane_mm": off_plane, "dsc": dsc, "distant_voxels": inner}


def _prove_frame(dataset: Dataset, request: ProofRequest) -> None:
    source = request.stack.headers[0]
    require(not changed_attributes(dataset, source, ("FrameOfReferenceUID",)), _KIND, "its frame is not the CT's")
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    (region,) = dataset.StructureSetROISequence
    same = {str(frame.FrameOfReferenceUID), str(region.ReferencedFrameOfReferenceUID)} == {
        str(source.FrameOfReferenceUID)
    }
    require(same, _KIND, "its region's frame of reference is not the CT's")
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    named = {str(image.ReferencedSOPInstanceUID) for image in series.ContourImageSequence}
    expected = {str(header.SOPInstanceUID) for header in request.stack.headers}
    same = named == expected and series.SeriesInstanceUID == source.SeriesInstanceUID
    require(same, _KIND, "it does not name the CT's images")


def _off_plane(points: npt.NDArray[np.float64], header: Dataset) -> float:
    """How far points lie from the plane that the image's own header states, mm."""
    cosines = np.array([float(value) for value in header.ImageOrientationPatient])
    normal = np.cross(cosines[:3], cosines[3:])
    origin = np.array([float(value) for value in header.ImagePositionPatient])
    return float(np.abs((points - origin) @ normal).max())


def _toggle_enclosed(plane: _Mask, ijk: npt.NDArray[np.float64]) -> None:
    """Turn over the pixels whose centres a polygon encloses, by the even-odd rule along rows.

    Args:
        plane: One slice [J, I], changed.
        ijk: The polygon's corners [N, 3]; the k is not looked at.
    """
    x, y = ijk[:, 0], ijk[:, 1]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    # An edge crosses the rows r with min(y) <= r < max(y).
    low = np.clip(np.ceil(np.minimum(y, next_y)), 0, plane.shape[0]).astype(np.int64)
    high = np.clip(np.ceil(np.maximum(y, next_y)), 0, plane.shape[0]).astype(np.int64)
    count = high - low
    if not count.any():
        return
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + low[edge]
    at = x[edge] + (row - y[edge]) / (next_y[edge] - y[edge]) * (next_x[edge] - x[edge])
    # Every crossing turns over all centres from itself on.
    column = np.clip(np.ceil(at), 0, plane.shape[1]).astype(np.int64)
    first, last, width = int(row.min()), int(row.max()), plane.shape[1] + 1
    turns = np.bincount((row - first) * width + column, minlength=(last - first + 1) * width).reshape(-1, width)
    plane[first : last + 1] ^= (np.cumsum(turns[:, :-1], axis=1) % 2).astype(bool)


def _compared(filled: _Mask, inside: _Mask) -> tuple[float, int]:
    """The Dice similarity coefficient, and how many voxels differ away from the boundary of `inside`."""
    box = _box(filled, inside)
    filled, inside = filled[box], inside[box]
    both = np.count_nonzero(filled & inside)
    dsc = 2.0 * both / (np.count_nonzero(filled) + np.count_nonzero(inside))
    return float(dsc), _distant(filled, inside)


def _box(filled: _Mask, inside: _Mask) -> tuple[slice, ...]:
    """The voxels of either and one around them, as far as there are any: both are empty beyond."""
    slices = np.array([one.any() or other.any() for one, other in zip(filled, inside, strict=True)])
    k = _range(slices)
    flat = np.logical_or.reduce(filled[k]) | np.logical_or.reduce(inside[k])
    return k, _range(np.logical_or.reduce(flat, axis=1)), _range(np.logical_or.reduce(flat))


def _range(holds: npt.NDArray[np.bool_]) -> slice:
    found = np.flatnonzero(holds)
    return slice(max(0, int(found[0]) - 1), int(found[-1]) + 2)


def _distant(filled: _Mask, inside: _Mask) -> int:
    """How many voxels differ though their whole neighbourhood [3, 3, 3] in the SEG is of one kind."""
    every, some = inside, inside
    for axis in range(3):
        every, some = _along(every, axis, np.logical_and), _along(some, axis, np.logical_or)
    return int(np.count_nonzero((filled != inside) & (every | ~some)))


def _along(mask: _Mask, axis: int, combine: np.ufunc) -> _Mask:
    """Each voxel combined with its two neighbours along an axis; at the border it stands in for the missing one."""
    padded = np.pad(mask, [(int(axis == other),) * 2 for other in range(3)], mode="edge")
    before, middle, after = (
        tuple(slice(start, start + mask.shape[axis]) if axis == other else slice(None) for other in range(3))
        for start in range(3)
    )
    combined: _Mask = combine(combine(padded[before], padded[middle]), padded[after])
    return combined
