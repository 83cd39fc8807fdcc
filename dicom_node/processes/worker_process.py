"""The worker: leases a case, delineates it, proves the objects; never talks DICOM."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

import structlog

from dicom_node.assemble.content_comparison import compare_waiting
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.leases import LeaseLost, abandon_lease, take_lease
from dicom_node.catalog.states import CaseState
from dicom_node.processes.case_processing import CaseWork, Engine, fail_case, process_case
from dicom_node.reasons import CatalogUnavailableError
from dicom_node.settings import Settings
from dicom_node.values.lease import Lease
from dicom_node.work.lease_renewer import LeaseRenewer
from dicom_node.work.process_identity import this_process
from dissm_engine.errors import DelineationCancelled
from dissm_engine.progress import Cancellation

_IDLE_SECONDS = 0.5
_COMPARE_SECONDS = 10.0
"""So long a case may have to wait for comparisons."""
_log = structlog.get_logger()


def run_worker(settings: Settings, recorder: Recorder, stop: threading.Event) -> None:
    """One worker process: load the engine once, then work until asked to stop. Raises BundleError, and what escapes."""
    work_until_stopped(settings, recorder, stop, load_engine(settings))


def load_engine(settings: Settings) -> Engine:
    """The engine with the bundle and the device that the settings name. Raises BundleError."""
    import torch

    from dissm_engine.bundle import Bundle
    from dissm_engine.delineator import Delineator

    torch.set_num_threads(settings.work.threads)
    return Delineator(Bundle.load(settings.node.bundle), device=settings.work.device)


def work_until_stopped(settings: Settings, recorder: Recorder, stop: threading.Event, engine: Engine) -> None:
    """Take one case after the other. The case in hand is abandoned, to be queued again, when a stop is asked.

    Between two cases images that came again in other bytes are compared: to decode what a stranger sent is the
    worker's, which may be lost without harm.
    """
    while not stop.is_set():
        compare_waiting(recorder, settings.node.spool, asked_to_stop=stop.is_set, max_seconds=_COMPARE_SECONDS)
        if not work_once(settings, recorder, engine, stop, end=_end_this_process):
            stop.wait(_IDLE_SECONDS)


def work_once(
    settings: Settings,
    recorder: Recorder,
    engine: Engine,
    stop: threading.Event | None = None,
    end: Callable[[], None] | None = None,
) -> bool:
    """Lease the oldest queued case and process it to its end; False when nothing waits.

    An error without a reason fails the case with UNEXPECTED_ERROR; the worker goes on. Trouble of the machine (memory,
    disk, database) gives the case back (it is tried again, at most `work.max_attempts` times) and escapes.
    end: ends the process when the case makes no progress for `work.stalled_minutes`; called by another thread.
    """
    lease = take_lease(recorder, str(this_process()), settings.work.lease_seconds)
    if lease is None:
        return False
    over = False
    work, give_up = settings.work, partial(_give_up_stalled, settings, recorder, lease, end)
    cancellation = Cancellation() if stop is None else Cancellation(stop)
    try:
        stalled_seconds = 60 * work.stalled_minutes
        with LeaseRenewer(recorder, lease, work.lease_seconds, stalled_seconds, give_up, cancellation) as renewer:
            state = _processed(CaseWork(recorder, settings, engine, lease, renewer.progress, cancellation))
        over = True
        _log.info("case worked", case=lease.case_id, attempt=lease.attempt, state=str(state))
    except LeaseLost:
        # Nothing happens where another has it. A lease that only could not be renewed has to be given back: nobody
        # takes a case from a process of this host that lives.
        abandon_lease(recorder, lease, settings.work.max_attempts, problem="the lease could not be renewed")
        over = True
        _log.warning("case was taken away", case=lease.case_id, attempt=lease.attempt)
    except DelineationCancelled:
        abandon_lease(recorder, lease, None, problem="the node was stopped")
        over = True
    finally:
        if not over:
            abandon_lease(recorder, lease, settings.work.max_attempts, problem="the worker stopped on an error")
    return True


def _processed(work: CaseWork) -> CaseState:
    """The case's end. One that nobody foresaw is its end too: with another case the worker may do better."""
    try:
        return process_case(work)
    except (LeaseLost, DelineationCancelled, OSError, MemoryError, CatalogUnavailableError):
        raise
    except Exception as problem:  # noqa: BLE001 - the edge of a case: its end is recorded, its trace is in the log
        _log.error("a case met an error that nobody foresaw", case=work.lease.case_id, exc_info=problem)
        return fail_case(work, problem)


def _give_up_stalled(settings: Settings, recorder: Recorder, lease: Lease, end: Callable[[], None] | None) -> None:
    """Nothing can stop a thread that hangs in a library: its process ends, the supervisor starts another."""
    said = f"no progress for {settings.work.stalled_minutes:g} minutes"
    try:
        abandon_lease(recorder, lease, settings.work.max_attempts, problem=said)
    finally:
        if end is not None:
            end()


def _end_this_process() -> None:
    os._exit(1)
