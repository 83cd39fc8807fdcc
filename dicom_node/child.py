"""The frame around every process of the node: logs, signals, heartbeat, and the one place that catches everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from multiprocessing.connection import wait
from types import FrameType

import structlog
from sqlalchemy.exc import OperationalError

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog, open_catalog
from dicom_node.catalog.processes import BEAT_SECONDS, beat, sign_off
from dicom_node.logs import configure_logs
from dicom_node.settings import Settings

ChildMain = Callable[[Settings, Catalog, str, threading.Event], None]
"""Called with settings, catalogue, the process' name, and the event that asks it to stop."""

_log = structlog.get_logger()


def run_child(main: ChildMain, settings: Settings, name: str) -> None:
    """Run `main` as the process `name` until it ends or SIGTERM, SIGINT or the parent's death asks it to stop.

    Whatever escapes from `main` is logged and audited, and the process ends with exit code 1: the supervisor
    starts it again.
    """
    configure_logs(settings.node.log_level, name)
    stop = threading.Event()
    _stop_on_signals(stop)
    _stop_with_parent(stop)
    catalog = open_catalog(settings.node.catalog_url)
    heart = threading.Thread(target=_beat_until, args=(catalog, name, audit.utc_now(), stop), daemon=True)
    heart.start()
    try:
        main(settings, catalog, name, stop)
    except Exception as problem:  # noqa: BLE001 - the edge of a process: record and stop
        _log.error("process stopped by an error", exc_info=problem)
        _record_end(catalog, name, type(problem).__name__)
        sys.exit(1)
    finally:
        stop.set()
        heart.join()
    with catalog.write() as session:
        sign_off(session, name)
    catalog.close()


def _stop_on_signals(stop: threading.Event) -> None:
    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)


def _stop_with_parent(stop: threading.Event) -> None:
    """A supervisor that was killed leaves nobody behind to hold the port."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        wait([parent.sentinel])
        stop.set()
        # A process that computes hears nothing: its case is leased again by its successor.
        if not _stopped_within(10.0):
            os._exit(1)

    threading.Thread(target=follow, name="parent", daemon=True).start()


def _stopped_within(seconds: float) -> bool:
    main = threading.main_thread()
    main.join(seconds)
    return not main.is_alive()


def _beat_until(catalog: Catalog, name: str, started_at: datetime, stop: threading.Event) -> None:
    while True:
        try:
            with catalog.write() as session:
                beat(session, name, started_at)
        except OperationalError as problem:
            _log.warning("no heartbeat written", problem=str(problem.orig))
        if stop.wait(BEAT_SECONDS):
            return


def _record_end(catalog: Catalog, name: str, problem: str) -> None:
    with catalog.write() as session:
        audit.append(
            session, process=name, subject_kind="node", subject=name, event="PROCESS_FAILED", facts={"error": problem}
        )
