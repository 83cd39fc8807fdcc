"""A finished object on its way to the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.values.equipment import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.atomic_file import open_atomic


def save_object(dataset: Dataset, kind: ObjectKind, path: Path) -> WrittenObject:
    """Write the object so that `path` holds it whole, durably, or holds nothing new.

    The file is readable by the service's user only (C10).
    """
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    with open_atomic(path, mode=0o600) as stream:
        dataset.save_as(stream, enforce_file_format=True)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    uids = (str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID))
    return WrittenObject(kind, path, *uids, digest)
