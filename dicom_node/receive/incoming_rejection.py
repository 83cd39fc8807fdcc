"""Rejection notes that a source sends: Key Object Selections that withdraw images (PS3.3 A.35.4, IHE RAD IOCM)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

from dicom_node.catalog.invalid_sources import REJECTION_TITLES
from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header
from dicom_node.reasons import NOT_A_REJECTION_NOTE, UNREADABLE_HEADER, RefusalError
from dicom_node.values.received import RejectionNote

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_MAX_IMAGES = 20_000
"""A study of a whole body in thin slices has fewer."""
_UID = re.compile(r"[0-9][0-9.]{0,63}")


def read_rejection_note(content: bytes) -> RejectionNote | None:
    """Read a Key Object Selection held in memory.

    Returns:
        The note; None where its title is another one, such as `Of Interest`.

    Raises:
        UnreadableDicomError: It cannot be parsed.
        RefusalError: NOT_A_REJECTION_NOTE, where it withdraws images and does not name them.
    """
    header = read_header(io.BytesIO(content), "received")
    try:
        code = _title(header)
        if code is None:
            return None
        images = tuple(_images(header))
        note = RejectionNote(str(header.SOPInstanceUID), code, images)
    except PARSE_ERRORS as problem:
        raise UnreadableDicomError(UNREADABLE_HEADER, instance="received", problem=type(problem).__name__) from problem
    if not images or len(images) > _MAX_IMAGES:
        raise RefusalError(NOT_A_REJECTION_NOTE, problem=f"it names {len(images)} images")
    if not all(_UID.fullmatch(uid) for pair in images for uid in pair):
        raise RefusalError(NOT_A_REJECTION_NOTE, problem="it names images by what is no UID")
    return note


def _title(header: Dataset) -> str | None:
    """Its code where it withdraws images (PS3.16 TID 2010)."""
    titles = header.get("ConceptNameCodeSequence") or []
    for title in titles:
        code, scheme = str(title.get("CodeValue", "")), str(title.get("CodingSchemeDesignator", ""))
        if scheme == "DCM" and code in REJECTION_TITLES:
            return code
    return None


def _images(header: Dataset) -> Iterator[tuple[str, str]]:
    """PS3.3 C.17.6.2: every image that the document refers to stands in the evidence sequence."""
    for study in header.get("CurrentRequestedProcedureEvidenceSequence") or []:
        for series in study.get("ReferencedSeriesSequence") or []:
            for image in series.get("ReferencedSOPSequence") or []:
                yield str(series.SeriesInstanceUID), str(image.ReferencedSOPInstanceUID)
