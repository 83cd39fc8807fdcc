"""`dissm-node start`: one supervisor, its children, and nothing else."""

from __future__ import annotations

import fcntl
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
from types import FrameType
from typing import Literal

import structlog

from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import Recorder, open_catalog
from dicom_node.catalog.heartbeats import last_failure, record_node_event
from dicom_node.processes.child_process import UNUSABLE, run_child
from dicom_node.processes.logs import configure_logs
from dicom_node.reasons import CHILD_UNUSABLE, NODE_RUNNING, CatalogUnavailableError, NodeError
from dicom_node.settings import NodeSettings, Settings

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 20.0
_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 30.0
_MAX_DOUBLINGS = 10
_STEADY_SECONDS = 60.0
"""A child that lived so long could work: it is restarted as if it had failed for the first time."""
_log = structlog.get_logger()

LISTENER = "dicom_node.processes.listener_process:run_listener"
CONTROL = "dicom_node.processes.control_process:run_control"
WORKER = "dicom_node.processes.worker_process:run_worker"
Role = Literal["all", "worker"]


def run_node(settings: Settings, role: Role = "all", worker: str = WORKER) -> None:
    """Run the node until SIGTERM or SIGINT, then stop all of it.

    worker: what a worker process runs, as `module:function`. Raises CatalogError, and NodeError when another node has
    the data folder, or when a child that it cannot do without cannot work from its first start (port in use).
    """
    configure_logs(settings.node.log_level, "supervisor")
    with _node_lock(settings.node, role):
        catalog = open_catalog(settings.node.catalog_url)
        recorder = catalog.acting_as("supervisor")
        stop = _stop_on_signals()
        _record(recorder, AuditEvent.NODE_STARTED, role=role)
        children = [
            # Without a worker (broken bundle) the node still receives: cases queue, `status` says why.
            _Child(name, target, settings, essential=target != worker or role == "worker")
            for name, target in planned_children(settings, role, worker)
        ]
        try:
            _keep_alive(recorder, children, stop)
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


def _keep_alive(recorder: Recorder, children: list[_Child], stop: threading.Event) -> None:
    while not stop.is_set():
        for child in children:
            if child.process is None:
                if time.monotonic() >= child.backoff_until:
                    child.start()
            elif not child.process.is_alive():
                code = child.note_end()
                _log.error("process ended", child=child.name, exit_code=code, failures=child.failures)
                _record(recorder, AuditEvent.PROCESS_ENDED, child=child.name, exit_code=code, failures=child.failures)
                # One that worked for long had settings that let it work: it is worth another start.
                if code == UNUSABLE and child.essential and child.starts == 1 and not child.steady:
                    with recorder.read() as view:
                        problem = last_failure(view, child.name)
                    raise NodeError(CHILD_UNUSABLE, child=child.name, problem=problem)
        stop.wait(_LOOK_SECONDS)


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


@contextmanager
def _node_lock(node: NodeSettings, role: Role) -> Iterator[None]:
    """One whole node a data folder; further workers may join it. Raises NodeError(NODE_RUNNING)."""
    node.data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    node.spool.mkdir(exist_ok=True, mode=0o700)
    if role == "worker":
        yield
        return
    descriptor = os.open(node.data_folder / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        raise NodeError(NODE_RUNNING, folder=node.data_folder) from problem
    try:
        yield
    finally:
        os.close(descriptor)


def _record(recorder: Recorder, event: AuditEvent, **facts: str | int) -> None:
    """Into the audit, or at least into the log: with a full disk the listener must still live to answer 0xA700."""
    try:
        with recorder.write() as tx:
            record_node_event(tx, event, **facts)
    except CatalogUnavailableError as problem:
        _log.error("not written to the audit", event_name=event, problem=str(problem), **facts)
