"""The same store without a network: a folder or tar of files, as `dissm-node process` takes them."""

from __future__ import annotations

import lzma
import os
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Recorder
from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError
from dicom_node.reasons import (
    IMPORT_UNREADABLE,
    NOT_DICOM,
    NOTHING_TO_IMPORT,
    STORE_FAILED,
    NodeError,
    RefusalError,
)
from dicom_node.receive.instance_identity import identify, is_directory
from dicom_node.receive.instance_store import InstanceStore
from dicom_node.receive.spool import Spool
from dicom_node.values.received import InstanceIdentity, SpooledFile

CALLING_AE = "IMPORT"
MAX_BYTES = 1 << 30
"""No single-frame CT image comes near; keeps one hostile member of a tar from filling the memory."""


class ImportFailedError(NodeError):
    """A folder or tar that holds nothing to import."""


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """How many files became what.

    set_aside: other bytes under a known SOP Instance UID. broken: DICOM by its prefix, but not to be parsed, or without
    its UIDs.
    """

    stored: int = 0
    known: int = 0
    set_aside: int = 0
    not_dicom: int = 0
    broken: int = 0

    def plus(self, kind: str) -> ImportCounts:
        """One more of `kind`."""
        return replace(self, **{kind: getattr(self, kind) + 1})


def import_folder(recorder: Recorder, spool: Path, source: Path, *, sync: bool = True) -> ImportCounts:
    """Store every DICOM file of a folder (at any depth) or of a tar, through the same path as the network's.

    Files that are not DICOM or are broken are counted and recorded. All of it is stored or, where the source cannot be
    read to its end, nothing. Raises ImportFailedError then and if nothing in it is a DICOM instance;
    NodeError(STORE_FAILED), CatalogUnavailableError if it cannot be stored.
    """
    store = InstanceStore(recorder, Spool(spool, sync))
    counts = ImportCounts()
    taken: list[tuple[InstanceIdentity, SpooledFile]] = []
    try:
        for content in contents_of(source):
            identity = _identity_of(content)
            if isinstance(identity, InstanceIdentity):
                taken.append((identity, store.spool.keep(content)))
            else:
                counts = counts.plus(identity)
        # Only now, and in one transaction: half of an input would be delineated as if it were all of it.
        for outcome in store.record_all(taken, CALLING_AE):
            counts = counts.plus(outcome.name.lower())
    except OSError as problem:
        raise NodeError(STORE_FAILED, problem=type(problem).__name__) from problem
    with recorder.write() as tx:
        reason = NOT_DICOM.code if counts.not_dicom or counts.broken else None
        facts = asdict(counts) | {"count": counts.not_dicom + counts.broken}
        audit.append(tx, AuditEvent.IMPORTED, SubjectKind.NODE, "import", reason_code=reason, facts=facts)
    if not counts.stored + counts.known + counts.set_aside:
        raise ImportFailedError(NOTHING_TO_IMPORT, source=source)
    return counts


def _identity_of(content: bytes) -> InstanceIdentity | str:
    """Who it is, or the field of ImportCounts that grows."""
    if content[128:132] != b"DICM" or is_directory(content):
        return "not_dicom"
    try:
        return identify(content, "file")
    except (UnreadableDicomError, RefusalError):
        return "broken"


def contents_of(source: Path) -> Iterator[bytes]:
    """Every file of a folder or tar. Raises ImportFailedError where it cannot be read to its end."""
    try:
        yield from _files_of_folder(source) if source.is_dir() else _files_of_tar(source)
    except (tarfile.TarError, lzma.LZMAError, *PARSE_ERRORS) as problem:
        raise ImportFailedError(IMPORT_UNREADABLE, source=source, problem=type(problem).__name__) from problem


def _files_of_folder(folder: Path) -> Iterator[bytes]:
    for file in sorted(Path(place, name) for place, _, names in os.walk(folder, onerror=_stop) for name in names):
        if file.is_file() and file.stat().st_size <= MAX_BYTES:
            yield file.read_bytes()


def _stop(problem: OSError) -> None:
    """A folder that cannot be listed may hold half of a series."""
    raise problem


def _files_of_tar(file: Path) -> Iterator[bytes]:
    with tarfile.open(file) as packed:
        for member in packed:
            opened = packed.extractfile(member) if member.isfile() and member.size <= MAX_BYTES else None
            if opened is not None:
                yield opened.read()
        _check_end(packed)


def _check_end(packed: tarfile.TarFile) -> None:
    """An archive ends with empty blocks; `tarfile` also stops in silence where one is cut between two members."""
    end = packed.fileobj
    if end is None:
        return
    end.seek(packed.offset)
    if end.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the archive has no end")
