"""Who an instance says it is: read from its bytes before anything is stored."""

from __future__ import annotations

import io
import re

from pydicom.dataset import Dataset
from pydicom.uid import MediaStorageDirectoryStorage

from dicom_node.catalog.lookup_key import LookupKey, LookupKind
from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header
from dicom_node.reasons import CLASS_MISMATCH, UNREADABLE_HEADER, RefusalError
from dicom_node.values.received import InstanceIdentity

_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_LOOKUP_KEYWORDS = ("PatientID", "AccessionNumber")
_UID = re.compile(r"[0-9][0-9.]{0,63}")
"""Digits and dots (PS3.5 9.1). Leading zeros in a component are common and harmless: files are never named by it."""


def identify(content: bytes, name: object, key: LookupKey | None = None) -> InstanceIdentity:
    """Read the UIDs of a DICOM file (PS3.10) held in memory.

    name: what an error calls it. key: for the digests that a person looks it up by. Raises UnreadableDicomError if it
    cannot be parsed, RefusalError(CLASS_MISMATCH) if a UID is missing or no UID.
    """
    header = read_header(io.BytesIO(content), name, (*_KEYWORDS, *_LOOKUP_KEYWORDS))
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
        patient_digest=key.digest(LookupKind.PATIENT, text_of(header, "PatientID")) if key else None,
        accession_digest=key.digest(LookupKind.ACCESSION, text_of(header, "AccessionNumber")) if key else None,
    )


def text_of(header: Dataset, keyword: str) -> str:
    """The value as text; empty where it is missing or cannot be read: whoever looks it up finds nothing then."""
    try:
        return str(header.get(keyword) or "")
    except (LookupError, *PARSE_ERRORS):
        return ""


def is_directory(content: bytes) -> bool:
    """Whether the file is a DICOMDIR: an index, no instance."""
    return MediaStorageDirectoryStorage.encode() in content[132:400]
