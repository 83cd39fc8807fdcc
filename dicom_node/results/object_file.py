"""A finished object on its way to the disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydicom import Dataset

from dicom_node.values.results import ObjectKind, WrittenObject


def save_object(dataset: Dataset, kind: ObjectKind, path: Path) -> WrittenObject:
    """Write aside, fsync, rename, fsync the folder: `path` holds the whole object or nothing new.

    The file is readable by the service's user only (C10).
    """
    aside = path.with_name(f".{path.name}.part")
    with open(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "w+b") as stream:
        dataset.save_as(stream, enforce_file_format=True)
        stream.flush()
        os.fsync(stream.fileno())
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return WrittenObject(kind, path, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), digest)
