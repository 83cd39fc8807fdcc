"""`dissm-node start`: one supervisor, its children, and nothing else."""

from __future__ import annotations

import errno
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

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog, open_catalog
from dicom_node.child import ChildMain, run_child
from dicom_node.logs import configure_logs
from dicom_node.reasons import NODE_RUNNING, PORT_IN_USE, NodeError
from dicom_node.settings import ListenSettings, NodeSettings, Settings

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 20.0
_FIRST_REST_SECONDS = 0.5
_LONGEST_REST_SECONDS = 30.0
_STEADY_SECONDS = 60.0
"""A child that lived so long is restarted as if it were its first fall."""
_log = structlog.get_logger()

Role = Literal["all", "worker"]


def supervise(settings: Settings, role: Role = "all") -> None:
    """Run the node until SIGTERM or SIGINT, then stop all of it.

    Raises NodeError when another node has the data folder or the port, CatalogError, BundleError.
    """
    configure_logs(settings.node.log_level, "supervisor")
    with _node_lock(settings.node, role):
        if role == "all":
            _check_port_free(settings.listen)
        catalog = open_catalog(settings.node.catalog_url)
        stop = _stop_on_signals()
        _record(catalog, "NODE_STARTED", role=role)
        children = [_Child(main, name, settings) for main, name in planned_children(settings, role)]
        try:
            _keep_alive(catalog, children, stop)
        finally:
            _stop_all(children)
        _record(catalog, "NODE_STOPPED", role=role)
        catalog.close()


def planned_children(settings: Settings, role: Role) -> list[tuple[ChildMain, str]]:
    """The processes of a node: what each runs and how it is called."""
    from dicom_node.worker import worker_main

    host = socket.gethostname()
    where = "" if role == "all" else f"@{host[:40]}"
    workers: list[tuple[ChildMain, str]] = [
        (worker_main, f"worker-{number + 1}{where}") for number in range(settings.work.workers)
    ]
    if role == "worker":
        return workers
    from dicom_node.control import control_main
    from dicom_node.listener import listener_main

    return [(listener_main, "listener"), (control_main, "control"), *workers]


@dataclass
class _Child:
    """One process that is started again whenever it ends."""

    main: ChildMain
    name: str
    settings: Settings
    process: BaseProcess | None = None
    started_at: float = 0.0
    falls: int = 0
    rest_until: float = field(default=0.0)

    def start(self) -> None:
        """Spawn it: a forked child would share threads' locks and the database's connections."""
        self.process = multiprocessing.get_context("spawn").Process(
            target=run_child, args=(self.main, self.settings, self.name), name=self.name
        )
        self.process.start()
        self.started_at = time.monotonic()
        _log.info("process started", child=self.name, pid=self.process.pid)

    def note_end(self) -> int:
        """Remember the fall and how long to rest; its exit code."""
        assert self.process is not None
        code = self.process.exitcode or 0
        self.process = None
        now = time.monotonic()
        self.falls = 1 if now - self.started_at > _STEADY_SECONDS else self.falls + 1
        self.rest_until = now + min(_FIRST_REST_SECONDS * 2 ** (self.falls - 1), _LONGEST_REST_SECONDS)
        return code


def _keep_alive(catalog: Catalog, children: list[_Child], stop: threading.Event) -> None:
    while not stop.is_set():
        for child in children:
            if child.process is None:
                if time.monotonic() >= child.rest_until:
                    child.start()
            elif not child.process.is_alive():
                code = child.note_end()
                _log.error("process ended", child=child.name, exit_code=code, falls=child.falls)
                _record(catalog, "PROCESS_ENDED", child=child.name, exit_code=code, falls=child.falls)
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


def _check_port_free(listen: ListenSettings) -> None:
    """Better said now, in one line, than by a listener that falls again and again."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.address, listen.port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            raise NodeError(PORT_IN_USE, port=listen.port, address=listen.address) from problem


def _record(catalog: Catalog, event: str, **facts: str | int) -> None:
    with catalog.write() as session:
        audit.append(session, process="supervisor", subject_kind="node", subject="node", event=event, facts=dict(facts))
