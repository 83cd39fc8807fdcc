"""What an image holds, whatever transfer syntax it is stored in: the digest that its identity follows from (C2, C8).

Two files with one digest give the same volume, the same decisions about their stack and the same references in a
result. A change of the table below changes digests: those that the catalogue keeps must be cleared by a migration.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.dicom.header_reading import PARSE_ERRORS

PIXELS = "PixelData"
"""How the pixels are named among the differences of two images."""


class FieldKind(StrEnum):
    """How the values of a field are compared: the encoding of a number or of a time is no part of the content."""

    TEXT = "text"
    NUMBERS = "numbers"
    TIME = "time"
    PADDING = "padding"


@dataclass(frozen=True, slots=True)
class ContentField:
    """A header field that counts. because: why an image in which it differs is another image."""

    keyword: str
    kind: FieldKind
    because: str


_STACK = "it decides to which stack of the series the image belongs"
_PLACE = "it says where the pixels lie in the patient (PS3.3 C.7.6.2)"
_REFERENCE = "results refer to the image by it"
_VALUE = "it says what a sample value means in Hounsfield units"

CONTENT_FIELDS: tuple[ContentField, ...] = (
    ContentField("SOPClassUID", FieldKind.TEXT, _REFERENCE),
    ContentField("SOPInstanceUID", FieldKind.TEXT, _REFERENCE),
    ContentField("SeriesInstanceUID", FieldKind.TEXT, _REFERENCE),
    ContentField("StudyInstanceUID", FieldKind.TEXT, "results belong to the study of their images"),
    ContentField("FrameOfReferenceUID", FieldKind.TEXT, "results lie in the frame of reference of their images"),
    ContentField("ImagePositionPatient", FieldKind.NUMBERS, _PLACE),
    ContentField("ImageOrientationPatient", FieldKind.NUMBERS, _PLACE),
    ContentField("PixelSpacing", FieldKind.NUMBERS, _PLACE),
    ContentField("RescaleSlope", FieldKind.NUMBERS, _VALUE),
    ContentField("RescaleIntercept", FieldKind.NUMBERS, _VALUE),
    ContentField("RescaleType", FieldKind.TEXT, _VALUE),
    ContentField("PhotometricInterpretation", FieldKind.TEXT, _VALUE),
    ContentField("PixelPaddingValue", FieldKind.PADDING, "it says which samples are outside of the scan"),
    ContentField("Modality", FieldKind.TEXT, "only CT is processed"),
    ContentField("ImageType", FieldKind.TEXT, "localizers and reformats are refused by it"),
    ContentField("LossyImageCompression", FieldKind.TEXT, "pixels that were compressed with loss are to be reviewed"),
    ContentField("AcquisitionNumber", FieldKind.NUMBERS, _STACK),
    ContentField("AcquisitionTime", FieldKind.TIME, _STACK),
    ContentField("ContentTime", FieldKind.TIME, _STACK),
    ContentField("ConvolutionKernel", FieldKind.TEXT, _STACK),
    ContentField("InstanceNumber", FieldKind.NUMBERS, "it tells passes of one series apart, and persons the images"),
)
"""Everything else may be coerced on the way (patient, study, descriptions) or follows from these fields."""

_TIME = re.compile(r"(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6}))?")


@dataclass(frozen=True)
class ImageContent:
    """fields: canonical text of each of CONTENT_FIELDS, by keyword. pixels: SHA-256 (hex) over the sample values."""

    fields: dict[str, str]
    pixels: str

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over fields and pixels."""
        return hashlib.sha256(json.dumps([self.fields, self.pixels], sort_keys=True).encode()).hexdigest()

    def differences(self, other: ImageContent) -> tuple[str, ...]:
        """Keywords of what differs, the pixels first; never a value."""
        pixels = (PIXELS,) if self.pixels != other.pixels else ()
        return (*pixels, *(name for name, value in self.fields.items() if other.fields[name] != value))


def content_of(image: Dataset, samples: npt.NDArray[np.int32]) -> ImageContent:
    """The content of one decoded image.

    Args:
        image: Its header.
        samples: int32 [rows, columns], the sample values of PS3.5 8.1.1, before the rescale.
    """
    # Sample values have 16 bits: their lower half and whether any is negative say everything, at half the cost.
    pixels = hashlib.sha256(json.dumps([samples.shape, bool(samples.min() < 0)]).encode())
    pixels.update(np.ascontiguousarray(samples.astype("<u2")).data)
    fields = {field.keyword: _canonical(image, field) for field in CONTENT_FIELDS}
    return ImageContent(fields, pixels.hexdigest())


def stack_digest(image_digests: Sequence[str]) -> str:
    """SHA-256 (hex) over the content digests of a stack's images, whatever their order."""
    return hashlib.sha256("\n".join(sorted(image_digests)).encode()).hexdigest()


def padding_value(image: Dataset) -> int | None:
    """PixelPaddingValue as a sample value; the tag's VR (US or SS) is often not that of the pixels."""
    value = image.get("PixelPaddingValue")
    if value is None or isinstance(value, bytes | str):
        return None
    word = int(value) & 0xFFFF
    return word - 0x10000 if image.PixelRepresentation == 1 and word >= 0x8000 else word


def _canonical(image: Dataset, field: ContentField) -> str:
    """The same text for the same value in every encoding; empty where there is none or it cannot be read."""
    try:
        if field.kind is FieldKind.PADDING:
            padding = padding_value(image)
            return "" if padding is None else str(padding)
        value: Any = image.get(field.keyword)
        values = list(value) if isinstance(value, MultiValue) else [] if value is None else [value]
        return "\\".join(_canonical_value(field.kind, str(one).strip(" \0")) for one in values)
    except PARSE_ERRORS:
        return ""


def _canonical_value(kind: FieldKind, text: str) -> str:
    if kind is FieldKind.NUMBERS:
        try:
            # Adding zero makes -0.0 a plain zero.
            return repr(float(text) + 0.0)
        except ValueError:
            return text
    found = _TIME.fullmatch(text) if kind is FieldKind.TIME else None
    if found is None:
        return text
    hours, minutes, seconds, fraction = (part or "" for part in found.groups())
    return f"{hours}{minutes or '00'}{seconds or '00'}.{fraction:0<6}"
