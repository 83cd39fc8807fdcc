"""Bytes into the spool so that a power cut cannot take them back (C2)."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from dicom_node.values.received import SpooledFile
from dissm_engine.atomic_file import write_bytes

_TEMPORARY = "incoming"
_KEPT = "instances"
_COUNTER = itertools.count()
"""Names temporary files within this process; `next` of a count is atomic between threads."""


@dataclass(frozen=True)
class Spool:
    """The folder of received bytes. Files are named by the digest of what they hold, never by what a peer sent.

    sync: fsync of file and folder before `keep` returns; off only to measure what it costs.
    """

    folder: Path
    sync: bool = True

    def keep(self, content: bytes) -> SpooledFile:
        """Write aside, fsync, rename, fsync the folder. The same bytes again are the same file. Raises OSError."""
        digest = hashlib.sha256(content).hexdigest()
        kept = Path(_KEPT, digest[:2], f"{digest}.dcm")
        self._private_folder(self.folder / _TEMPORARY)
        self._private_folder((self.folder / kept).parent)
        aside = self.folder / _TEMPORARY / f"{os.getpid()}-{next(_COUNTER)}"
        write_bytes(self.folder / kept, content, mode=0o600, sync=self.sync, partial=aside)
        return SpooledFile(str(kept), digest, len(content))

    def sweep(self) -> int:
        """Remove what an interrupted process left aside; how many files. Call before anybody writes."""
        left = list((self.folder / _TEMPORARY).glob("*"))
        for file in left:
            file.unlink()
        return len(left)

    def _private_folder(self, folder: Path) -> None:
        """Make the folder and those above it; each new name is made durable in the folder that holds it."""
        if folder.is_dir():
            return
        self._private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._sync_folder(folder.parent)

    def _sync_folder(self, folder: Path) -> None:
        if not self.sync:
            return
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
