"""Reading the header of a DICOM file that nobody vouches for (C10)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import config
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag
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

from dicom_node.reasons import UNREADABLE_HEADER, NodeError, kind_and_place

# A value that breaks its VR is judged by the rule that needs it; pydicom's warning would carry it into the log (C10).
# The setting is pydicom's own cure (upstream: #2060); there is none for one reader alone.
config.settings.reading_validation_mode = config.IGNORE

LOSSLESS_SYNTAXES: tuple[str, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
)
"""What the node takes (C2): the pixels of a CT are exactly what the scanner made."""

ENHANCED_CT: tuple[str, ...] = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""Taken, so that the series is refused by its reason and not in silence."""

PARSE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    NotImplementedError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    struct.error,
    zlib.error,
    OSError,
)
"""What pydicom raises on hostile or broken bytes."""

MAX_HEADER_BYTES = 16 << 20
"""How far a deflated data set is inflated in search of its pixel data: kilobytes may inflate to gigabytes."""
MAX_INFLATED_BYTES = 64 << 20
"""How much a deflated image may be as a whole: 4096 x 4096 samples and a header as long as it may be."""
_PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


class UnreadableDicomError(NodeError):
    """Bytes that are no DICOM data set. `facts` never hold what they contain."""


def read_header(source: Path | BinaryIO, name: object, keywords: Sequence[str] | None = None) -> FileDataset:
    """The data set up to its pixel data.

    name: what the error calls it: an id of ours or a file name, never a value from the file.
    keywords: read only these attributes; None reads all. Raises UnreadableDicomError.
    """
    wanted = [Tag(keyword) for keyword in keywords] if keywords is not None else None
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                header = _read(file, MAX_HEADER_BYTES, wanted, to_pixels=True)
        else:
            header = _read(source, MAX_HEADER_BYTES, wanted, to_pixels=True)
        header.file_meta.TransferSyntaxUID  # noqa: B018 - its absence is an AttributeError now and not later
    except PARSE_ERRORS as problem:
        raise UnreadableDicomError(UNREADABLE_HEADER, instance=name, problem=type(problem).__name__) from problem
    return header


def read_image(path: Path) -> FileDataset:
    """The whole data set with its pixel data, to be decoded. Raises whatever of PARSE_ERRORS pydicom does."""
    with path.open("rb") as file:
        return _read(file, MAX_INFLATED_BYTES, None, to_pixels=False)


def unreadable(problem: BaseException, name: object) -> UnreadableDicomError:
    """For what nobody foresaw: the kind of the problem and the line it came from, never what the file holds."""
    return UnreadableDicomError(UNREADABLE_HEADER, instance=name, problem=kind_and_place(problem))


def _read(file: BinaryIO, max_bytes: int, wanted: Sequence[BaseTag] | None, *, to_pixels: bool) -> FileDataset:
    """What `pydicom.dcmread` does, except that a deflated data set inflates to `max_bytes` at most.

    pydicom inflates whatever a file holds, a gigabyte from a megabyte (upstream: none found). The reader of the file
    meta information is one of pydicom's private functions: the public one takes no open file.
    """
    start = file.tell()
    preamble = read_preamble(file, force=False)
    meta = FileMetaDataset(_read_file_meta_info(file))
    tags: list[BaseTag | int] | None = list(wanted) if wanted else None
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(start)
        return pydicom.dcmread(file, stop_before_pixels=to_pixels, specific_tags=tags)
    content, whole = _inflate(file.read(), max_bytes)
    stop = _Stop() if to_pixels else None
    dataset = read_dataset(io.BytesIO(content), False, True, stop_when=stop, specific_tags=tags)
    if not whole and not (stop and stop.at_pixels):
        raise ValueError(f"inflates to more than {max_bytes} bytes")
    # An empty buffer: pydicom would keep the inflated bytes for as long as the header lives.
    header = FileDataset(io.BytesIO(), dataset, preamble, meta, is_implicit_VR=False, is_little_endian=True)
    header.set_original_encoding(False, True, dataset.original_character_set)
    return header


def _inflate(deflated: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """The first `max_bytes` at most, and whether that is all. Raises zlib.error."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(deflated, max_bytes)
    if not inflater.eof and len(content) < max_bytes:
        raise zlib.error("the deflated data set is cut off")
    return content, inflater.eof


class _Stop:
    """Ends the reading at the pixel data, and remembers that it did."""

    at_pixels = False

    def __call__(self, tag: BaseTag, _vr: str | None, _length: int) -> bool:
        self.at_pixels = tag in _PIXEL_TAGS
        return self.at_pixels
