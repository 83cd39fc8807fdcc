"""The frame around every process of the node: logs, signals, heartbeat, and the one place that catches everything."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType

import structlog

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import Recorder, open_catalog
from dicom_node.catalog.heartbeats import (
    HEARTBEAT_SECONDS,
    record_heartbeat,
    record_process_failure,
    remove_heartbeat,
)
from dicom_node.processes.logs import configure_logs
from dicom_node.reasons import CatalogUnavailableError
from dicom_node.settings import Settings
from dissm_engine.errors import DissmError

UNUSABLE = 2
"""Exit code of a process that cannot work with its settings: to start it again at once would not help."""
_ORPHAN_SECONDS = 10.0
"""How long a process whose supervisor is gone has to end its work in order."""
ChildMain = Callable[[Settings, Recorder, threading.Event], None]
"""Called with settings, the catalogue as this process writes to it, and the event that asks it to stop."""

_log = structlog.get_logger()


def run_child(target: str, settings: Settings, name: str) -> None:
    """Run `target` (`module:function`, a ChildMain) as the process `name`, until it ends or is asked to stop.

    SIGTERM, SIGINT and the parent's death ask. Whatever escapes is logged and audited; then the process ends with
    code UNUSABLE for an error with a reason, else 1. Never returns.
    """
    code = 1
    try:
        code = _run(target, settings, name)
    finally:
        # Threads of a library (pynetdicom has one for each connection that is not a daemon) would keep the process
        # alive after its work is over, for as long as a peer likes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(target: str, settings: Settings, name: str) -> int:
    """The work of `run_child`; the exit code."""
    configure_logs(settings.node.log_level, name)
    stop = threading.Event()
    _stop_on_signals(stop)
    _stop_with_parent(stop)
    catalog = open_catalog(settings.node.catalog_url)
    recorder = catalog.acting_as(name)
    heartbeat = threading.Thread(target=_send_heartbeats, args=(recorder, settings.digest, stop), daemon=True)
    heartbeat.start()
    try:
        main: ChildMain = pkgutil.resolve_name(target)
        main(settings, recorder, stop)
    except Exception as problem:  # noqa: BLE001 - the edge of a process: record and stop
        _record_end(recorder, problem)
        return UNUSABLE if isinstance(problem, DissmError) else 1
    finally:
        stop.set()
        heartbeat.join()
    with recorder.write() as tx:
        remove_heartbeat(tx)
    catalog.close()
    return 0


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
        # A process that computes, or waits for a peer, hears nothing: its case is leased again by its successor.
        time.sleep(_ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=follow, name="parent", daemon=True).start()


def _send_heartbeats(recorder: Recorder, settings_digest: str, stop: threading.Event) -> None:
    started_at = audit.utc_now()
    while True:
        try:
            with recorder.write() as tx:
                record_heartbeat(tx, started_at, settings_digest)
        except CatalogUnavailableError as problem:
            _log.warning("no heartbeat written", problem=str(problem))
        if stop.wait(HEARTBEAT_SECONDS):
            return


def _record_end(recorder: Recorder, problem: Exception) -> None:
    by_reason = isinstance(problem, DissmError)
    # The text of an error without a reason may hold anything: it goes to the log, never to the audit.
    said = str(problem) if by_reason else type(problem).__name__
    _log.error("process stopped by an error", said=said, exc_info=None if by_reason else problem)
    try:
        with recorder.write() as tx:
            record_process_failure(tx, said, problem.reason.code if isinstance(problem, DissmError) else None)
    except CatalogUnavailableError as unwritten:
        # The exit code, which the supervisor reads, must not be that of a full disk.
        _log.error("not written to the audit", event_name=AuditEvent.PROCESS_FAILED, problem=str(unwritten))
