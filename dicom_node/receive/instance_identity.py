"""Who an instance says it is: read from its bytes before anything is stored."""

from __future__ import annotations

import io
import re

from pydicom.uid import MediaStorageDirectoryStorage

from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header
from dicom_node.reasons import CLASS_MISMATCH, UNREADABLE_HEADER, RefusalError
from dicom_node.values.received import InstanceIdentity

_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_UID = re.compile(r"[0-9][0-9.]{0,63}")
"""Digits and dots (PS3.5 9.1). Leading zeros in a component are common and harmless: files are never named by it."""


def identify(content: bytes, name: object) -> InstanceIdentity:
    """Read the UIDs of a DICOM file (PS3.10) held in memory.

    name: what an error calls it. Raises UnreadableDicomError if it cannot be parsed, RefusalError(CLASS_MISMATCH) if a
    UID is missing or no UID.
    """
    header = read_header(io.BytesIO(content), name, _KEYWORDS)
    try:
        # Values are converted when they are asked for: what is wrong with one shows here.
        values = {keyword: str(header.get(keyword) or "") for keyword in _KEYWORDS}
    except PARSE_ERRORS as problem:
        raise UnreadableDicomError(UNREADABLE_HEADER, instance=name, problem=type(problem).__name__) from problem
    for keyword, value in values.items():
        if not _UID.fullmatch(value):
            raise RefusalError(CLASS_MISMATCH, problem=f"{keyword} is {'no UID' if value else 'missing'}")
    return InstanceIdentity(
        sop_class_uid=values["SOPClassUID"],
        sop_instance_uid=values["SOPInstanceUID"],
        study_instance_uid=values["StudyInstanceUID"],
        series_instance_uid=values["SeriesInstanceUID"],
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
    )


def is_directory(content: bytes) -> bool:
    """Whether the file is a DICOMDIR: an index, no instance."""
    return MediaStorageDirectoryStorage.encode() in content[132:400]
