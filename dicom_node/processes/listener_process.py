"""The listener process: receives, never computes."""

from __future__ import annotations

import threading
import time

from dicom_node.catalog.database import Catalog
from dicom_node.reasons import PORT_IN_USE, NodeError
from dicom_node.receive.storage_scp import StorageScp
from dicom_node.settings import Settings

_PATIENCE_SECONDS = 5.0
"""So long the listener of a node that was killed may still have the port."""

_TIDY_SECONDS = 5.0


def run_listener(settings: Settings, catalog: Catalog, name: str, stop: threading.Event) -> None:
    """Listen until asked to stop. Raises NodeError(PORT_IN_USE, CANNOT_LISTEN), SettingsError."""
    listener = _started(settings, catalog, stop)
    try:
        while not stop.wait(_TIDY_SECONDS):
            listener.tidy()
    finally:
        listener.stop()


def _started(settings: Settings, catalog: Catalog, stop: threading.Event) -> StorageScp:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        listener = StorageScp(settings, catalog)
        try:
            listener.start()
            return listener
        except NodeError as problem:
            if problem.reason is not PORT_IN_USE or time.monotonic() > deadline:
                raise
        stop.wait(0.2)
