"""Files of one stack become a volume in Hounsfield units (C3). Runs in the worker: input is hostile."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.assemble.geometry import GeometryLimits, check_geometry
from dicom_node.assemble.image_content import ImageContent, content_of, padding_value
from dicom_node.assemble.plane import pixel_problem, plane_of, read_to_pixels
from dicom_node.dicom.header_reading import PARSE_ERRORS, read_image
from dicom_node.reasons import NOT_HOUNSFIELD, UNREADABLE_PIXELS, RefusalError
from dicom_node.values.ct_stack import CtStack
from dissm_engine.volume import Volume

AIR_HU = -1024
MAX_HU = 32767
PADDING_LIMITS_HU = (-500, 3071)
"""A padding value inside these limits is tissue to us: filling it would punch holes into the patient."""
SOFT_TISSUE_HU = (-200, 400)
MIN_SOFT_TISSUE_SHARE = 0.01
ABSURD_HU = 5000
MAX_ABSURD_SHARE = 0.01
_DECODE_ERRORS = (*PARSE_ERRORS, RuntimeError, struct.error)


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One image in memory.

    header: its data set, with the pixel data as they are stored.
    samples: int32 [rows, columns], the sample values of PS3.5 8.1.1.
    slope, intercept: of the rescale to Hounsfield units. padding: the sample value outside of the scan, if any.
    """

    header: Dataset
    samples: npt.NDArray[np.int32]
    slope: float
    intercept: float
    padding: int | None

    def hounsfield(self) -> npt.NDArray[np.int16]:
        """int16 [rows, columns] HU, rounded; padding and what lies outside the scan becomes air."""
        hu = self.samples.astype(np.float32) * np.float32(self.slope) + np.float32(self.intercept)
        if self.padding is not None:
            padding_hu = self.padding * self.slope + self.intercept
            if not PADDING_LIMITS_HU[0] < padding_hu <= PADDING_LIMITS_HU[1]:
                hu[self.samples == self.padding] = AIR_HU
        # Scanners mark the outside of the reconstruction circle by -2000 or -3024.
        clipped: npt.NDArray[np.int16] = np.rint(np.clip(hu, AIR_HU, MAX_HU)).astype(np.int16)
        return clipped

    def content(self) -> ImageContent:
        """What the image holds, whatever it is stored in."""
        return content_of(self.header, self.samples)


def read_volume(paths: Sequence[Path], *, allow_gantry_tilt: bool = False) -> CtStack:
    """Decode the images of one stack, in any order, to one volume.

    allow_gantry_tilt: keeps tilted planes as they are in a sheared grid; whoever resamples the volume to an upright
    grid straightens it. Else they are refused. Counts and extents are not judged here, only consistency.
    Raises UnreadableDicomError, RefusalError (geometry reasons of C3, NOT_HOUNSFIELD, UNREADABLE_PIXELS).
    """
    read = [read_to_pixels(path, index) for index, path in enumerate(paths)]
    planes = [
        plane_of(header, index, pixel_problem(header, pixel_bytes, index))
        for index, (header, pixel_bytes) in enumerate(read)
    ]
    geometry = check_geometry(planes, GeometryLimits.consistency_only(allow_gantry_tilt=allow_gantry_tilt))
    hu = np.empty((len(paths), planes[0].rows, planes[0].columns), dtype=np.int16)
    digests = []
    for k, index in enumerate(geometry.order):
        image = decode_image(paths[index], index)
        hu[k] = image.hounsfield()
        digests.append(image.content().digest)
    check_hounsfield(hu)
    headers = tuple(read[index][0] for index in geometry.order)
    return CtStack(Volume(hu, geometry.lps_from_voxel), headers, tuple(digests))


def hounsfield(path: Path, name: object) -> npt.NDArray[np.int16]:
    """int16 [rows, columns] HU of one image; see `DecodedImage.hounsfield`. Raises what `decode_image` does."""
    return decode_image(path, name).hounsfield()


def decode_image(path: Path, name: object) -> DecodedImage:
    """Decode one image.

    Args:
        path: The file.
        name: What an error calls the image.

    Raises:
        RefusalError: UNREADABLE_PIXELS.
    """
    try:
        image = read_image(path)
        samples = stored_values(image.pixel_array, image.BitsStored, image.HighBit, image.PixelRepresentation == 1)
        slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
        padding = padding_value(image)
    except _DECODE_ERRORS as problem:
        raise RefusalError(UNREADABLE_PIXELS, problem=f"image {name}: {type(problem).__name__}") from problem
    if samples.shape != (image.Rows, image.Columns):
        raise RefusalError(UNREADABLE_PIXELS, problem=f"image {name}: shape {samples.shape}")
    return DecodedImage(image, samples, slope, intercept, padding)


def stored_values(
    pixels: npt.NDArray[np.integer], bits_stored: int, high_bit: int, signed: bool
) -> npt.NDArray[np.int32]:
    """The sample values of PS3.5 8.1.1: bits beyond the stored ones are no data, the sign sits in the high bit."""
    if not 0 < bits_stored <= high_bit + 1 <= 16:
        raise ValueError(f"{bits_stored} bits stored, high bit {high_bit}")
    words = pixels.astype(np.int64).astype(np.uint16) << np.uint16(15 - high_bit)
    aligned = words.view(np.int16) if signed else words
    return (aligned >> (16 - bits_stored)).astype(np.int32)


def check_hounsfield(hu: npt.NDArray[np.int16]) -> None:
    """Refuse numbers that cannot be a body in HU. Raises RefusalError(NOT_HOUNSFIELD)."""
    sample = hu[:: max(1, len(hu) // 24), ::4, ::4]
    soft = float(((sample > SOFT_TISSUE_HU[0]) & (sample < SOFT_TISSUE_HU[1])).mean())
    absurd = float((sample > ABSURD_HU).mean())
    if absurd > MAX_ABSURD_SHARE:
        raise RefusalError(NOT_HOUNSFIELD, problem=f"{absurd:.0%} of all values exceed {ABSURD_HU}")
    if soft < MIN_SOFT_TISSUE_SHARE:
        raise RefusalError(NOT_HOUNSFIELD, problem=f"{soft:.1%} of all values are soft tissue")
