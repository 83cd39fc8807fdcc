"""The control process: what happens to a series and a case apart from computing, each as a job of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.admit.admit import admit_stacks
from dicom_node.assemble.settle import settle_quiet_series
from dicom_node.assemble.stacks import assemble_settled_series
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.verify import anchor_head
from dicom_node.deliver.outbox import deliver_due
from dicom_node.settings import Settings
from dicom_node.work.lease import reap_lost_leases

_INTAKE_SECONDS = 1.0
_REAP_SECONDS = 2.0
_DELIVER_SECONDS = 1.0
_ANCHOR_SECONDS = 30.0
_log = structlog.get_logger()


def control_main(settings: Settings, catalog: Catalog, name: str, stop: threading.Event) -> None:
    """Run the jobs until asked to stop, or until one fails: its error then ends the process, which starts anew."""
    jobs = Jobs(settings, catalog, name)
    failed: list[BaseException] = []

    def end(event: JobExecutionEvent) -> None:
        failed.append(event.exception)
        stop.set()

    scheduler = _scheduler(jobs, end)
    scheduler.start()
    stop.wait()
    # A delivery in flight is waited for, at most for its destination's time-out.
    scheduler.shutdown(wait=True)
    if failed:
        raise failed[0]
    jobs.anchor()


class Jobs:
    """What control does again and again. Each job may be killed at any moment and run anew."""

    def __init__(self, settings: Settings, catalog: Catalog, name: str) -> None:
        self._settings, self._catalog, self._name = settings, catalog, name

    def intake(self) -> None:
        """Quiet series settle, settled series become stacks, stacks are admitted or refused (C3, C4)."""
        settle_quiet_series(self._catalog, self._settings.assemble, process=self._name)
        assemble_settled_series(self._catalog, self._settings)
        admit_stacks(self._catalog, self._settings, process=self._name)

    def reap(self) -> None:
        """Cases whose worker is gone are queued again or parked."""
        count = reap_lost_leases(self._catalog, self._settings.work.attempts, process=self._name)
        if count:
            _log.warning("leases were lost", cases=count)

    def deliver(self) -> None:
        """Proven objects go to their destinations (C8)."""
        deliver_due(self._catalog, self._settings, self._name)

    def anchor(self) -> None:
        """The audit chain's head is remembered outside the database (C10)."""
        with self._catalog.read() as session:
            anchor_head(session, self._settings.node.audit_anchor)


def _scheduler(jobs: Jobs, on_error: Callable[[JobExecutionEvent], None]) -> BackgroundScheduler:
    scheduler = BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(4)},
        # A late job runs once, and never beside itself.
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    scheduler.add_listener(on_error, EVENT_JOB_ERROR)
    now = datetime.now(UTC)
    for job, seconds in (
        (jobs.reap, _REAP_SECONDS),
        (jobs.intake, _INTAKE_SECONDS),
        (jobs.deliver, _DELIVER_SECONDS),
        (jobs.anchor, _ANCHOR_SECONDS),
    ):
        scheduler.add_job(job, "interval", seconds=seconds, next_run_time=now)
    return scheduler
