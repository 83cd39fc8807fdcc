"""The same store without a network: a folder or tar of files, as `dissm-node process` takes them."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.dicom_file import UnreadableDicomError
from dicom_node.reasons import IMPORT_UNREADABLE, NOT_DICOM, NOTHING_TO_IMPORT, NodeError, RefusalError
from dicom_node.receive.identity import identify, is_directory
from dicom_node.receive.spool import Spool
from dicom_node.receive.store import InstanceStore, Outcome

CALLING_AE = "IMPORT"
MOST_BYTES = 1 << 30
"""No single-frame CT image comes near; keeps one hostile member of a tar from filling the memory."""


class ImportFailedError(NodeError):
    """A folder or tar that holds nothing to import."""


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """How many files became what. broken: DICOM by its prefix, but not to be parsed, or without its UIDs."""

    stored: int = 0
    known: int = 0
    quarantined: int = 0
    not_dicom: int = 0
    broken: int = 0

    def plus(self, kind: str) -> ImportCounts:
        """One more of `kind`."""
        return replace(self, **{kind: getattr(self, kind) + 1})


def import_folder(
    catalog: Catalog, spool: Path, source: Path, *, process: str = "import", sync: bool = True
) -> ImportCounts:
    """Store every DICOM file of a folder (at any depth) or of a tar, through the same path as the network's.

    Files that are not DICOM or are broken are counted and recorded. Raises ImportFailedError if the source cannot be
    read or nothing in it is a DICOM instance; OSError, SQLAlchemyError if it cannot be stored.
    """
    store = InstanceStore(catalog, Spool(spool, sync), process)
    counts = ImportCounts()
    try:
        for content in _files(source):
            counts = counts.plus(_import_one(store, content))
    except (OSError, tarfile.TarError, EOFError) as problem:
        raise ImportFailedError(IMPORT_UNREADABLE, source=source, problem=type(problem).__name__) from problem
    with catalog.write() as session:
        reason = NOT_DICOM.code if counts.not_dicom or counts.broken else None
        audit.append(
            session, process=process, subject_kind="node", subject="import", event="IMPORTED", reason_code=reason,
            facts=asdict(counts) | {"count": counts.not_dicom + counts.broken},
        )  # fmt: skip
    if not counts.stored + counts.known + counts.quarantined:
        raise ImportFailedError(NOTHING_TO_IMPORT, source=source)
    return counts


def _import_one(store: InstanceStore, content: bytes) -> str:
    """The field of ImportCounts that grows."""
    if content[128:132] != b"DICM" or is_directory(content):
        return "not_dicom"
    try:
        identity = identify(content, "file")
    except (UnreadableDicomError, RefusalError):
        return "broken"
    outcome: Outcome = store.store(content, identity, CALLING_AE)
    return outcome.value


def _files(source: Path) -> Iterator[bytes]:
    if source.is_dir():
        for file in sorted(source.rglob("*")):
            if file.is_file() and file.stat().st_size <= MOST_BYTES:
                yield file.read_bytes()
        return
    with tarfile.open(source) as packed:
        for member in packed:
            opened = packed.extractfile(member) if member.isfile() and member.size <= MOST_BYTES else None
            if opened is not None:
                yield opened.read()
