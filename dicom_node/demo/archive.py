"""A small archive in the place of the PACS: a Storage SCP that keeps what it gets."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import cast

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
    SurfaceSegmentationStorage,
)
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dissm_engine.atomic_file import write_bytes

_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
_SUCCESS, _CANNOT_STORE = 0x0000, 0xA700


@dataclass(frozen=True, slots=True)
class Kept:
    """One object that came."""

    sop_class_uid: str
    sop_instance_uid: str
    path: Path


class Archive:
    """Listens on loopback while its `with` block runs; objects lie in `folder`, named by a counter.

    port: 0 takes a free one; `port` tells which after the start. Raises OSError when the port is taken.
    """

    def __init__(self, folder: Path, ae_title: str = "ARCHIVE", port: int = 0) -> None:
        self.folder, self.ae_title, self.port = folder, ae_title, port
        self._kept: list[Kept] = []
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None

    @property
    def kept(self) -> tuple[Kept, ...]:
        """What has come so far, in order; an object that came twice stands here twice."""
        with self._lock:
            return tuple(self._kept)

    def __enter__(self) -> Archive:
        self.folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title=self.ae_title)
        entity.add_supported_context(Verification)
        for sop_class in (SegmentationStorage, SurfaceSegmentationStorage):
            entity.add_supported_context(sop_class, _SYNTAXES)
        server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        assert isinstance(server, ThreadedAssociationServer)
        self._server = server
        self.port = int(server.server_address[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: evt.Event) -> int:
        with self._lock:
            path = self.folder / f"{len(self._kept) + 1:04d}.dcm"
            try:
                # The bytes as they came, with the meta information of their association.
                write_bytes(path, event.encoded_dataset())
            except OSError:
                return _CANNOT_STORE
            request = cast(C_STORE, event.request)
            self._kept.append(Kept(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID), path))
        return _SUCCESS
