"""The structure set read back from the disk: every contour on its image, and what they enclose against the SEG."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

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
        uids = [str(header.SOPInstanceUID) for header in request.stack.headers]
        for contour in region.ContourSequence:
            require(contour.ContourGeometricType == "CLOSED_PLANAR", _KIND, "a contour is not closed and planar")
            (image,) = contour.ContourImageSequence
            require(image.ReferencedSOPInstanceUID in uids, _KIND, "a contour names an image that is not of this CT")
            k = uids.index(str(image.ReferencedSOPInstanceUID))
            points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
            require(len(points) == contour.NumberOfContourPoints, _KIND, "a contour has not the points it counts")
            off_plane = max(off_plane, _off_plane(points, request.stack.headers[k]))
            # Outlines of holes turn their inside off again.
            filled[k] ^= _enclosed(points @ grid.voxel_from_lps[:3, :3].T + grid.voxel_from_lps[:3, 3], filled[k].shape)
        count = len(region.ContourSequence)
    except UNREADABLE as problem:
        raise ProofError(OBJECT_NOT_PROVEN, kind=_KIND, problem=f"unreadable ({type(problem).__name__})") from problem
    require(off_plane <= _MAX_OFF_PLANE_MM, _KIND, f"a contour lies {off_plane:.3f} mm off its image")
    dsc = 2.0 * float((filled & proven.inside).sum()) / float(filled.sum() + proven.inside.sum())
    inner = _distant(filled, proven.inside)
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


def _enclosed(ijk: npt.NDArray[np.float64], shape: tuple[int, int]) -> _Mask:
    """Which pixel centres a polygon encloses, by the even-odd rule along rows. ijk: [N, 3], the k is not looked at."""
    x, y = ijk[:, 0], ijk[:, 1]
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    inside = np.zeros(shape, dtype=np.bool_)
    first, last = max(0, int(np.floor(y.min()))), min(shape[0] - 1, int(np.ceil(y.max())))
    centres = np.arange(shape[1])
    for row in range(first, last + 1):
        crossed = (y <= row) != (next_y <= row)
        at = x[crossed] + (row - y[crossed]) / (next_y[crossed] - y[crossed]) * (next_x[crossed] - x[crossed])
        inside[row] = (np.searchsorted(np.sort(at), centres, side="right") % 2).astype(bool)
    return inside


def _distant(filled: _Mask, inside: _Mask) -> int:
    """How many voxels differ though their whole neighbourhood [3, 3, 3] in the SEG is of one kind."""
    padded = np.pad(inside, 1, mode="edge")
    shape = inside.shape
    every, some = np.ones_like(inside), np.zeros_like(inside)
    for k in range(3):
        for j in range(3):
            for i in range(3):
                part = padded[k : k + shape[0], j : j + shape[1], i : i + shape[2]]
                every &= part
                some |= part
    return int(((filled != inside) & (every | ~some)).sum())
