"""The control process: what happens to a series and a case apart from computing, each as a job of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.admit.admission import admit_stacks
from dicom_node.assemble.completeness import settle_quiet_series
from dicom_node.assemble.geometry import GeometryLimits
from dicom_node.assemble.stacks import StackBuilder, assemble_settled_series
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.verify import anchor_head
from dicom_node.deliver.outbox import deliver_to, queue_proven, withdraw_unwanted_deliveries
from dicom_node.processes.replaced_results import answer_for_replaced
from dicom_node.reasons import CatalogError
from dicom_node.settings import AnyDestination, Settings
from dicom_node.work.lost_cases import requeue_lost_cases

_INTAKE_SECONDS = 1.0
_REQUEUE_SECONDS = 2.0
_DELIVER_SECONDS = 1.0
_ANCHOR_SECONDS = 30.0
_CLOCK_SECONDS = 1.0
_STEP_SECONDS = 1.0
"""So much more or less of the wall clock than of the monotonic one, in one look, is a step."""
_log = structlog.get_logger()


def run_control(settings: Settings, recorder: Recorder, stop: threading.Event) -> None:
    """Run the jobs until asked to stop, or until one fails: its error then ends the process, which starts anew."""
    jobs = Jobs(settings, recorder)
    failed: list[BaseException] = []

    def end(event: JobExecutionEvent) -> None:
        failed.append(event.exception)
        stop.set()

    scheduler = _scheduler(jobs, settings.destinations, end)
    scheduler.start()
    _follow_the_clock(scheduler, stop)
    # A delivery in flight is waited for, at most for its destination's time-out.
    scheduler.shutdown(wait=True)
    if failed:
        raise failed[0]
    jobs.anchor()


def _follow_the_clock(scheduler: BackgroundScheduler, stop: threading.Event) -> None:
    """Until asked to stop, begin every job anew when the wall clock was set.

    The scheduler keeps the next time of a job by the wall clock: set back by an hour, nothing would run for an hour.
    """
    ahead = time.time() - time.monotonic()
    while not stop.wait(_CLOCK_SECONDS):
        before, ahead = ahead, time.time() - time.monotonic()
        if abs(ahead - before) > _STEP_SECONDS:
            _log.warning("the clock was set", seconds=round(ahead - before, 1))
            for job in scheduler.get_jobs():
                job.modify(next_run_time=datetime.now(UTC))


class Jobs:
    """What control does again and again. Each job may be killed at any moment and run anew."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings, self._recorder = settings, recorder
        self._chain_is_broken = False

    def intake(self) -> None:
        """Quiet series settle, settled series become stacks, stacks are admitted or refused (C3, C4)."""
        settings, spool = self._settings, self._settings.node.spool
        settle_quiet_series(self._recorder, settings.assemble)
        assemble_settled_series(self._recorder, stack_builder(settings))
        admit_stacks(self._recorder, settings.admit, spool, wait=settings.assemble)

    def requeue_lost(self) -> None:
        """Cases whose worker is gone are queued again or parked."""
        count = requeue_lost_cases(self._recorder, self._settings.work.max_attempts)
        if count:
            _log.warning("leases were lost", cases=count)

    def outbox(self) -> None:
        """What was proven waits for its destinations; what cannot be delivered any more waits no longer (C8)."""
        queue_proven(self._recorder, self._settings.destinations)
        withdraw_unwanted_deliveries(self._recorder, self._settings.destinations)
        answer_for_replaced(self._recorder, self._settings)

    def deliver(self, destination: AnyDestination) -> None:
        """What waits for one destination goes there. A job for each: one that is slow or hangs delays no other."""
        deliver_to(self._recorder, destination, self._settings.node.spool)

    def anchor(self) -> None:
        """The audit chain's head is remembered outside the database (C10).

        A broken chain (a restored database is older than its anchor) ends nothing: patients' images are still worked
        on, the anchor stays as it is, and `dissm-node status` finds the same problem for as long as it is there.
        """
        try:
            anchor_head(self._recorder, self._settings.node.audit_anchor)
        except CatalogError as problem:
            if not self._chain_is_broken:
                _log.error("the audit chain is not anchored", said=str(problem))
            self._chain_is_broken = True
        else:
            self._chain_is_broken = False


def stack_builder(settings: Settings) -> StackBuilder:
    """What makes stacks of the series of a node with these settings."""
    limits = GeometryLimits.of(settings.assemble)
    return StackBuilder(limits, settings.node.spool, settings.listen.max_series_mb)


def _scheduler(
    jobs: Jobs, destinations: Sequence[AnyDestination], on_error: Callable[[JobExecutionEvent], None]
) -> BackgroundScheduler:
    planned: list[tuple[Callable[..., None], float, tuple[AnyDestination, ...]]] = [
        (jobs.requeue_lost, _REQUEUE_SECONDS, ()),
        (jobs.intake, _INTAKE_SECONDS, ()),
        (jobs.outbox, _DELIVER_SECONDS, ()),
        (jobs.anchor, _ANCHOR_SECONDS, ()),
        *((jobs.deliver, _DELIVER_SECONDS, (each,)) for each in destinations),
    ]
    scheduler = BackgroundScheduler(
        timezone=UTC,
        # A thread for every job: none waits for another's to be free.
        executors={"default": ThreadPoolExecutor(len(planned))},
        # A late job runs once, and never beside itself.
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    scheduler.add_listener(on_error, EVENT_JOB_ERROR)
    now = datetime.now(UTC)
    for job, seconds, arguments in planned:
        scheduler.add_job(job, "interval", args=arguments, seconds=seconds, next_run_time=now)
    return scheduler
