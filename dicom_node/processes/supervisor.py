"""`dissm-node start`: one supervisor, its children, and nothing else."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Literal

import structlog

from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.busy import associations_open, lease_owners
from dicom_node.catalog.database import Recorder, View, open_catalog
from dicom_node.catalog.heartbeats import last_failure, record_node_event
from dicom_node.processes.child_process import UNUSABLE, run_child
from dicom_node.processes.logs import configure_logs
from dicom_node.processes.node_lock import hold_node_lock
from dicom_node.processes.reloading import ProcessKind, Reloader, SettingsChange
from dicom_node.reasons import CHILD_UNUSABLE, CatalogUnavailableError, NodeError
from dicom_node.settings import NodeSettings, Settings
from dicom_node.work.process_identity import process_identity_from
from dissm_engine.json_value import JsonValue

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 20.0
_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 30.0
_MAX_DOUBLINGS = 10
_SENDERS_SECONDS = 60.0
"""So long a listener that has to take other settings waits for the end of what is being sent."""
_STEADY_SECONDS = 60.0
"""A child that lived so long could work: it is restarted as if it had failed for the first time."""
_log = structlog.get_logger()

LISTENER = "dicom_node.processes.listener_process:run_listener"
CONTROL = "dicom_node.processes.control_process:run_control"
WORKER = "dicom_node.processes.worker_process:run_worker"
Role = Literal["all", "worker"]


def run_node(settings: Settings, role: Role = "all", worker: str = WORKER, file: Path | None = None) -> None:
    """Run the node until SIGTERM or SIGINT, then stop all of it. SIGHUP takes changed settings from their file.

    worker: what a worker process runs, as `module:function`. file: where the settings came from. Raises CatalogError,
    and NodeError when another node has the data folder, or when a child that it cannot do without cannot work from its
    first start (port in use).
    """
    configure_logs(settings.node.log_level, "supervisor")
    with _node_lock(settings.node, role):
        catalog = open_catalog(settings.node.catalog_url)
        recorder = catalog.acting_as("supervisor")
        stop = _stop_on_signals()
        reload = _reload_on_signal(stop)
        _record(recorder, AuditEvent.NODE_STARTED, role=role)
        children = [
            # Without a worker (broken bundle) the node still receives: cases queue, `status` says why.
            _Child(name, target, settings, essential=target != worker or role == "worker")
            for name, target in planned_children(settings, role, worker)
        ]
        try:
            _keep_alive(recorder, children, stop, Reloader(settings, file, reload))
        finally:
            _stop_all(children)
            _record(recorder, AuditEvent.NODE_STOPPED, role=role)
            catalog.close()


def planned_children(settings: Settings, role: Role, worker: str) -> list[tuple[str, str]]:
    """The processes of a node: how each is called and what it runs.

    Named, not imported: the supervisor stays small, and only the workers load the engine.
    """
    where = "" if role == "all" else f"@{socket.gethostname()[:40]}"
    workers = [(f"worker-{number + 1}{where}", worker) for number in range(settings.work.workers)]
    return workers if role == "worker" else [("listener", LISTENER), ("control", CONTROL), *workers]


@dataclass
class _Child:
    """One process that is started again whenever it ends."""

    name: str
    target: str
    settings: Settings
    essential: bool = True
    """Whether the start ends where this one cannot work from its first moment."""
    process: BaseProcess | None = None
    started_at: float = 0.0
    failures: int = 0
    starts: int = 0
    steady: bool = False
    """Whether it lived for _STEADY_SECONDS before it ended."""
    backoff_until: float = field(default=0.0)
    successor: Settings | None = None
    """What the process that comes after this one works with, as soon as this one may be ended."""
    successor_by: float = 0.0
    """When it is ended though it is busy, by the monotonic clock."""
    asked_to_end: bool = False

    def replace_by(self, settings: Settings, patience: float) -> None:
        """Start it anew with other settings: as soon as it is not busy, or after so many seconds."""
        self.successor, self.successor_by = settings, time.monotonic() + patience

    def end_for_successor(self) -> None:
        """Ask it to end, once; it is started anew when it has."""
        if self.process is not None and not self.asked_to_end:
            self.asked_to_end = True
            self.process.terminate()

    def ended_for_successor(self) -> bool:
        """Whether the end of the process was asked for; then it is to be started at once."""
        asked, self.asked_to_end = self.asked_to_end, False
        if self.successor is not None:
            self.settings, self.successor = self.successor, None
        if asked:
            self.process, self.backoff_until = None, 0.0
        return asked

    def start(self) -> None:
        """Spawn it: a forked child would share threads' locks and the database's connections."""
        self.process = multiprocessing.get_context("spawn").Process(
            target=run_child, args=(self.target, self.settings, self.name), name=self.name
        )
        self.process.start()
        self.started_at, self.starts = time.monotonic(), self.starts + 1
        _log.info("process started", child=self.name, pid=self.process.pid)

    def note_end(self) -> int:
        """Note the failure and how long to wait before the next start. Returns the exit code."""
        assert self.process is not None
        code = self.process.exitcode or 0
        self.process = None
        now = time.monotonic()
        self.steady = now - self.started_at > _STEADY_SECONDS
        self.failures = 1 if self.steady else self.failures + 1
        wait = _FIRST_BACKOFF_SECONDS * 2 ** min(self.failures - 1, _MAX_DOUBLINGS)
        self.backoff_until = now + min(wait, _MAX_BACKOFF_SECONDS)
        return code


def _keep_alive(
    recorder: Recorder, children: list[_Child], stop: threading.Event, reloader: Reloader | None = None
) -> None:
    while not stop.is_set():
        change = reloader.change_asked(recorder) if reloader is not None else None
        if change is not None:
            _plan_replacements(children, change)
        for child in children:
            if child.process is None:
                if time.monotonic() >= child.backoff_until:
                    child.start()
            elif not child.process.is_alive():
                if not child.ended_for_successor():
                    _note_unasked_end(recorder, child)
            elif child.successor is not None and _may_be_replaced(recorder, child, child.process.pid):
                child.end_for_successor()
        stop.wait(_LOOK_SECONDS)


def _note_unasked_end(recorder: Recorder, child: _Child) -> None:
    """Raises NodeError(CHILD_UNUSABLE) where the node's start cannot succeed."""
    code = child.note_end()
    _log.error("process ended", child=child.name, exit_code=code, failures=child.failures)
    _record(recorder, AuditEvent.PROCESS_ENDED, child=child.name, exit_code=code, failures=child.failures)
    # One that worked for long had settings that let it work: it is worth another start.
    if code == UNUSABLE and child.essential and child.starts == 1 and not child.steady:
        with recorder.read() as view:
            problem = last_failure(view, child.name)
        raise NodeError(CHILD_UNUSABLE, child=child.name, problem=problem)


def _plan_replacements(children: list[_Child], change: SettingsChange) -> None:
    for child in children:
        part = ProcessKind.of_child(child.name)
        if part in change.parts:
            child.replace_by(change.settings, _SENDERS_SECONDS if part is ProcessKind.LISTENER else math.inf)


def _may_be_replaced(recorder: Recorder, child: _Child, pid: int | None) -> bool:
    """Whether nothing is lost: no sender is sending, no case is in this worker's hand; or it was waited for enough."""
    part = ProcessKind.of_child(child.name)
    if part is ProcessKind.CONTROL or time.monotonic() >= child.successor_by:
        return True
    try:
        with recorder.read() as view:
            return not (associations_open(view) if part is ProcessKind.LISTENER else _has_a_case(view, pid))
    except CatalogUnavailableError:
        return False


def _has_a_case(view: View, pid: int | None) -> bool:
    owners = [process_identity_from(owner) for owner in lease_owners(view)]
    return any(owner.pid == pid and owner.is_here for owner in owners)


def _stop_all(children: list[_Child]) -> None:
    running = [child.process for child in children if child.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in running:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            # Whatever it held is leased, queued or sent again at the next start.
            process.kill()
            process.join()


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop


def _reload_on_signal(stop: threading.Event) -> threading.Event:
    """Set by SIGHUP, which `dissm-node reload` and systemd send; where a terminal was closed, the node stops."""
    reload, had_terminal = threading.Event(), _has_terminal()

    def ask(_number: int, _frame: FrameType | None) -> None:
        (stop if had_terminal and not _has_terminal() else reload).set()

    signal.signal(signal.SIGHUP, ask)
    return reload


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextmanager
def _node_lock(node: NodeSettings, role: Role) -> Iterator[None]:
    """One whole node a data folder; further workers may join it. Raises NodeError(NODE_RUNNING)."""
    node.data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    node.spool.mkdir(exist_ok=True, mode=0o700)
    if role == "worker":
        yield
        return
    with hold_node_lock(node.data_folder):
        yield


def _record(recorder: Recorder, event: AuditEvent, **facts: JsonValue) -> None:
    """Into the audit, or at least into the log: with a full disk the listener must still live to answer 0xA700."""
    try:
        with recorder.write() as tx:
            record_node_event(tx, event, **facts)
    except CatalogUnavailableError as problem:
        _log.error("not written to the audit", event_name=event, problem=str(problem), **facts)
