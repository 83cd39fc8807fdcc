"""Reading the header of a DICOM file that nobody vouches for (C10)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import config
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    LegacyConvertedEnhancedCTImageStorage,
    RLELossless,
)

from dicom_node.reasons import UNREADABLE_HEADER, NodeError

# A value that breaks its VR is judged by the rule that needs it; pydicom's warning would carry it into the log (C10).
config.settings.reading_validation_mode = config.IGNORE

LOSSLESS_SYNTAXES: tuple[str, ...] = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1,
    JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL,
)  # fmt: skip
"""What the node takes (C2): the pixels of a CT are exactly what the scanner made."""

ENHANCED_CT: tuple[str, ...] = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""Taken, so that the series is refused by its reason and not in silence."""

PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError,
    NotImplementedError, OverflowError, RecursionError, MemoryError, struct.error, zlib.error, OSError,
)  # fmt: skip
"""What pydicom raises on hostile or broken bytes."""


class UnreadableDicomError(NodeError):
    """Bytes that are no DICOM data set. `facts` never hold what they contain."""


def read_header(source: Path | BinaryIO, name: object, keywords: Sequence[str] | None = None) -> FileDataset:
    """The data set up to its pixel data.

    name: what the error calls it: an id of ours or a file name, never a value from the file.
    keywords: read only these attributes; None reads all. Raises UnreadableDicomError.
    """
    wanted = [Tag(keyword) for keyword in keywords] if keywords is not None else None
    try:
        header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(wanted) if wanted else None)
        header.file_meta.TransferSyntaxUID  # noqa: B018 - its absence is an AttributeError now and not later
    except PARSE_ERRORS as problem:
        raise UnreadableDicomError(UNREADABLE_HEADER, instance=name, problem=type(problem).__name__) from problem
    return header
