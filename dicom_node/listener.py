"""The listener process: receives, never computes."""

from __future__ import annotations

import threading

from dicom_node.catalog.database import Catalog
from dicom_node.receive.listener import Listener
from dicom_node.settings import Settings


def listener_main(settings: Settings, catalog: Catalog, name: str, stop: threading.Event) -> None:
    """Listen until asked to stop. Raises NodeError(PORT_IN_USE)."""
    listener = Listener(settings, catalog)
    listener.start()
    try:
        stop.wait()
    finally:
        listener.stop()
