"""The listener process: receives, never computes."""

from __future__ import annotations

import threading
import time

from dicom_node.catalog.database import Recorder
from dicom_node.reasons import PORT_IN_USE, NodeError
from dicom_node.receive.storage_scp import StorageScp
from dicom_node.settings import Settings

_PATIENCE_SECONDS = 5.0
"""So long the listener of a node that was killed may still have the port."""

_TIDY_SECONDS = 5.0


def run_listener(settings: Settings, recorder: Recorder, stop: threading.Event) -> None:
    """Listen until asked to stop. Raises NodeError(PORT_IN_USE, CANNOT_LISTEN), SettingsError."""
    scp = _started(settings, recorder, stop)
    try:
        while not stop.wait(_TIDY_SECONDS):
            scp.tidy()
    finally:
        scp.stop()


def _started(settings: Settings, recorder: Recorder, stop: threading.Event) -> StorageScp:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        scp = StorageScp(settings, recorder)
        try:
            scp.start()
            return scp
        except NodeError as problem:
            if problem.reason is not PORT_IN_USE or time.monotonic() > deadline:
                raise
        stop.wait(0.2)
