"""What one image's header says about where it lies and what its pixels mean (PS3.3 C.7.6.2, C.8.2.1)."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.dicom.header_reading import LOSSLESS_SYNTAXES, PARSE_ERRORS, UnreadableDicomError, read_header
from dicom_node.reasons import (
    NOT_HOUNSFIELD,
    TRUNCATED_FILE,
    UNREADABLE_HEADER,
    UNSUPPORTED_SYNTAX,
    RefusalError,
)

KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "NumberOfFrames",
    "ConvolutionKernel",
    "ImageType",
)

_ELEMENT_HEADER_BYTES = 8
"""Of the pixel data element: tag and length; explicit VR has four more, which are not worth telling apart."""

_MAX_POSITION_MM = 1e6
_MAX_DIRECTION_LENGTH = 2.0
"""No place, spacing or direction is larger; the squares of such a number would leave the range of a float."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """The header facts of one image that decide its stack.

    position: [3] LPS mm of the first pixel's centre, None where missing, not finite or absurd.
    orientation: [6] direction of the row (growing column index), then of the column; None likewise.
    pixel_spacing: mm between rows, between columns (PS3.3 10.7.1.3).
    problem: what makes the pixels unusable, if anything.
    """

    instance_id: int
    sop_class_uid: str
    frame_of_reference: str | None
    position: FloatArray | None
    orientation: FloatArray | None
    pixel_spacing: tuple[float, float] | None
    rows: int
    columns: int
    acquisition_number: str
    acquisition_time: str
    content_time: str
    kernel: str
    instance_number: int | None
    problem: RefusalError | None

    @property
    def normal(self) -> FloatArray:
        """[3] row direction x column direction. Raises ValueError without an orientation."""
        if self.orientation is None:
            raise ValueError("the image has no orientation")
        return np.cross(self.orientation[:3], self.orientation[3:])


def read_plane(path: Path, instance_id: int) -> ImagePlane:
    """Facts of one file of the spool. Raises UnreadableDicomError if its header cannot be parsed."""
    header, pixel_bytes = read_to_pixels(path, instance_id, KEYWORDS)
    return plane_of(header, instance_id, pixel_problem(header, pixel_bytes, instance_id))


def read_to_pixels(path: Path, name: object, keywords: Sequence[str] | None = None) -> tuple[Dataset, int]:
    """The header, and how many bytes follow it: the pixel data element. Raises UnreadableDicomError.

    A deflated file is not measured (its pixels lie within the deflated part); the number is then meaningless.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file, name, keywords)
            return header, os.fstat(file.fileno()).st_size - file.tell()
    except OSError as problem:
        raise UnreadableDicomError(UNREADABLE_HEADER, instance=name, problem=type(problem).__name__) from problem


def plane_of(header: Dataset, instance_id: int, problem: RefusalError | None = None) -> ImagePlane:
    """Facts of one header; whatever cannot be read as numbers counts as missing."""
    spacing = _numbers(header, "PixelSpacing", 2, _MAX_POSITION_MM)
    usable = spacing is not None and bool((spacing > 0).all())
    number = _numbers(header, "InstanceNumber", 1)
    return ImagePlane(
        instance_id=instance_id,
        sop_class_uid=_text(header, "SOPClassUID"),
        frame_of_reference=_text(header, "FrameOfReferenceUID") or None,
        position=_numbers(header, "ImagePositionPatient", 3, _MAX_POSITION_MM),
        orientation=_numbers(header, "ImageOrientationPatient", 6, _MAX_DIRECTION_LENGTH),
        pixel_spacing=(float(spacing[0]), float(spacing[1])) if spacing is not None and usable else None,
        rows=_count(header, "Rows"),
        columns=_count(header, "Columns"),
        acquisition_number=_text(header, "AcquisitionNumber"),
        acquisition_time=_text(header, "AcquisitionTime"),
        content_time=_text(header, "ContentTime"),
        kernel=_text(header, "ConvolutionKernel"),
        instance_number=int(number[0]) if number is not None else None,
        problem=problem,
    )


def pixel_problem(header: Dataset, pixel_bytes: int, instance_id: int) -> RefusalError | None:
    """Why the pixels of this image cannot become Hounsfield units, seen from header and file size alone.

    pixel_bytes: what follows the header in the file.
    """
    syntax = str(header.file_meta.TransferSyntaxUID)
    if syntax not in LOSSLESS_SYNTAXES:
        known = syntax in AllTransferSyntaxes
        return RefusalError(UNSUPPORTED_SYNTAX, syntax=header.file_meta.TransferSyntaxUID.name if known else syntax)
    problem = _hounsfield_problem(header)
    if problem:
        return RefusalError(NOT_HOUNSFIELD, problem=problem)
    missing = _missing_bytes(header, pixel_bytes)
    if missing > 0:
        return RefusalError(TRUNCATED_FILE, instance=instance_id, missing=missing)
    return None


def _hounsfield_problem(header: Dataset) -> str | None:
    """PS3.3 C.8.2.1.1: what a CT image must say so that its values are Hounsfield units."""
    photometric = _text(header, "PhotometricInterpretation")
    slope, intercept = _numbers(header, "RescaleSlope", 1), _numbers(header, "RescaleIntercept", 1)
    rescale_type = _text(header, "RescaleType").upper()
    bits = _count(header, "BitsAllocated")
    if photometric != "MONOCHROME2":
        return f"PhotometricInterpretation is {photometric or 'missing'}"
    if _count(header, "SamplesPerPixel") != 1 or bits != 16:
        return f"{_count(header, 'SamplesPerPixel')} samples of {bits} bits"
    if slope is None or intercept is None:
        return "RescaleSlope or RescaleIntercept is missing or not a number"
    if not 0 < slope[0] <= 100 or abs(intercept[0]) > 40000:
        return f"RescaleSlope {slope[0]:g}, RescaleIntercept {intercept[0]:g}"
    if rescale_type not in {"", "HU"}:
        return f"RescaleType is {rescale_type}"
    return None


def _missing_bytes(header: Dataset, pixel_bytes: int) -> int:
    """How many bytes an uncompressed file lacks for its own matrix; compressed ones tell when they are decoded."""
    if header.file_meta.TransferSyntaxUID not in {ExplicitVRLittleEndian, ImplicitVRLittleEndian}:
        return 0
    pixels = _count(header, "Rows") * _count(header, "Columns") * _count(header, "BitsAllocated") // 8
    return pixels - max(0, pixel_bytes - _ELEMENT_HEADER_BYTES)


def _numbers(header: Dataset, keyword: str, count: int, max_size: float = math.inf) -> FloatArray | None:
    """`count` finite numbers; None where the attribute is missing, broken, larger or of another length."""
    try:
        raw: Any = header.get(keyword)
        values = np.atleast_1d(np.asarray(raw, dtype=np.float64)) if raw not in (None, "") else None
    except PARSE_ERRORS:
        return None
    if values is None or values.shape != (count,) or not np.isfinite(values).all() or np.abs(values).max() > max_size:
        return None
    return values


def _count(header: Dataset, keyword: str) -> int:
    value = _numbers(header, keyword, 1)
    return int(value[0]) if value is not None and math.isfinite(value[0]) else 0


def _text(header: Dataset, keyword: str) -> str:
    """The value as text, empty where it is missing or broken."""
    try:
        value = header.get(keyword)
    except PARSE_ERRORS:
        return ""
    return "" if value is None else str(value).strip()
