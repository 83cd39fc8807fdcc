"""The worker: leases a case, delineates it, proves the objects; never talks DICOM."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseState
from dicom_node.processes.case_processing import CaseWork, Engine, fail_case, process_case
from dicom_node.settings import Settings
from dicom_node.work.lease import Lease, LeaseLost, abandon_lease, take_lease
from dicom_node.work.lease_renewer import LeaseRenewer
from dicom_node.work.process_identity import this_process
from dissm_engine.delineation import Progress

_IDLE_SECONDS = 0.5
_log = structlog.get_logger()


def run_worker(settings: Settings, catalog: Catalog, name: str, stop: threading.Event) -> None:
    """One worker process: load the engine once, then work until asked to stop. Raises BundleError, and what escapes."""
    work_until_stopped(settings, catalog, name, stop, load_engine(settings))


def load_engine(settings: Settings) -> Engine:
    """The engine with the bundle and the device that the settings name. Raises BundleError."""
    import torch

    from dissm_engine.bundle import Bundle
    from dissm_engine.delineator import Delineator

    torch.set_num_threads(settings.work.threads)
    return Delineator(Bundle.load(settings.node.bundle), device=settings.work.device)


def work_until_stopped(settings: Settings, catalog: Catalog, name: str, stop: threading.Event, engine: Engine) -> None:
    """Take one case after the other. The case in hand is abandoned, to be queued again, when a stop is asked."""
    while not stop.is_set():
        if not work_once(settings, catalog, name, engine, stop, end=_end_this_process):
            stop.wait(_IDLE_SECONDS)


def work_once(
    settings: Settings,
    catalog: Catalog,
    name: str,
    engine: Engine,
    stop: threading.Event | None = None,
    end: Callable[[], None] | None = None,
) -> bool:
    """Lease the oldest queued case and process it to its end; False when nothing waits.

    An error without a reason fails the case with UNEXPECTED_ERROR; the worker goes on. Trouble of the machine (memory,
    disk, database) gives the case back (it is tried again, at most `work.max_attempts` times) and escapes.
    end: ends the process when the case makes no progress for `work.stalled_minutes`; called by another thread.
    """
    lease = take_lease(catalog, str(this_process()), settings.work.lease_seconds, process=name)
    if lease is None:
        return False
    over = False
    seconds, stalled = settings.work.lease_seconds, 60 * settings.work.stalled_minutes
    give_up = partial(_give_up_stalled, settings, catalog, name, lease, end)
    try:
        with LeaseRenewer(catalog, lease, seconds, stalled, give_up) as keeper:
            work = CaseWork(catalog, settings, engine, lease, name, _stoppable(keeper.progress, stop))
            state = _processed(work)
        over = True
        _log.info("case worked", case=lease.case_id, attempt=lease.attempt, state=str(state))
    except LeaseLost:
        # Nothing happens where another has it. A lease that only could not be renewed has to be given back: nobody
        # takes a case from a process of this host that lives.
        said = "the lease could not be renewed"
        abandon_lease(catalog, lease, settings.work.max_attempts, process=name, problem=said)
        over = True
        _log.warning("case was taken away", case=lease.case_id, attempt=lease.attempt)
    except WorkStopped:
        abandon_lease(catalog, lease, None, process=name, problem="the node was stopped")
        over = True
    finally:
        if not over:
            abandon_lease(
                catalog, lease, settings.work.max_attempts, process=name, problem="the worker stopped on an error"
            )
    return True


def _processed(work: CaseWork) -> CaseState:
    """The case's end. One that nobody foresaw is its end too: with another case the worker may do better."""
    try:
        return process_case(work)
    except (LeaseLost, WorkStopped, OSError, MemoryError, SQLAlchemyError):
        raise
    except Exception as problem:  # noqa: BLE001 - the edge of a case: its end is recorded, its trace is in the log
        _log.error("a case met an error that nobody foresaw", case=work.lease.case_id, exc_info=problem)
        return fail_case(work, problem)


def _give_up_stalled(
    settings: Settings, catalog: Catalog, name: str, lease: Lease, end: Callable[[], None] | None
) -> None:
    """Nothing can stop a thread that hangs in a library: its process ends, the supervisor starts another."""
    said = f"no progress for {settings.work.stalled_minutes:g} minutes"
    try:
        abandon_lease(catalog, lease, settings.work.max_attempts, process=name, problem=said)
    finally:
        if end is not None:
            end()


def _end_this_process() -> None:
    os._exit(1)


class WorkStopped(Exception):  # noqa: N818
    """The node was asked to stop while a case was in hand. Not a DissmError: the case is not at fault."""


def _stoppable(progress: Progress, stop: threading.Event | None) -> Progress:
    def note(stage: str, done: float) -> None:
        if stop is not None and stop.is_set():
            raise WorkStopped
        progress(stage, done)

    return note
