"""How the node does, in numbers from the database and the disk."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

from dicom_node.catalog import audit
from dicom_node.catalog.database import View
from dicom_node.catalog.heartbeats import SILENT_SECONDS, all_heartbeats, last_failure, unexpected_ends_since
from dicom_node.catalog.node_counts import cases_in, state_counts, stuck_deliveries
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.verify import check_since_anchor
from dicom_node.reasons import CatalogError
from dicom_node.settings import Settings
from dicom_node.values.case_history import time_as_text
from dicom_node.values.facts import Facts

FOR_A_PERSON = (CaseState.HELD, CaseState.PARKED, CaseState.FAILED, CaseState.INVALID)
_FAILURE_MINUTES = 10
_MAX_RESTARTS = 1
"""One failure in that time is normal; a process that ends more often does not do its work."""
_STUCK_ATTEMPTS = 5
_STUCK_MINUTES = 60
"""An object that was tried so often, or has waited so long, says that its destination needs a person."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process. seconds_silent: since its last heartbeat."""

    name: str
    pid: int
    started_at: str
    seconds_silent: float
    alive: bool


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What `dissm-node status` shows. problems: why the node does not work, in plain words; empty when it does."""

    healthy: bool
    problems: tuple[str, ...]
    processes: tuple[ProcessStatus, ...]
    series: Mapping[str, int]
    cases: Mapping[str, int]
    deliveries: Mapping[str, int]
    for_a_person: tuple[str, ...]
    free_mb: int
    notes: tuple[str, ...] = ()
    """What somebody should know though the node works."""

    def to_json(self) -> Facts:
        """For `--json` and, later, for the metrics."""
        return asdict(self)


def node_status(view: View, settings: Settings) -> NodeStatus:
    """Read everything in one view, which `view` has not begun yet. free_mb: on the disk of the data folder."""
    # First of all: what the view holds must not be older than the anchor that it is compared with.
    broken_chain = _broken_chain(view, settings)
    processes = tuple(_process_states(view))
    free_mb = shutil.disk_usage(settings.node.data_folder).free // 2**20
    problems = (
        *_missing(processes, settings),
        *_often_restarted(view),
        *_stuck(view),
        *_disk_problem(free_mb, settings),
        *broken_chain,
    )
    counts = state_counts(view)
    return NodeStatus(
        healthy=not problems,
        problems=problems,
        processes=processes,
        series=counts.series,
        cases=counts.cases,
        deliveries=counts.deliveries,
        for_a_person=cases_in(view, FOR_A_PERSON),
        free_mb=free_mb,
        notes=tuple(_older_settings(view, settings)),
    )


def _process_states(view: View) -> list[ProcessStatus]:
    now = audit.utc_now()
    states = []
    for row in all_heartbeats(view):
        silent = (now - row.heartbeat_at).total_seconds()
        started = str(time_as_text(row.started_at))
        states.append(ProcessStatus(row.name, row.pid, started, round(silent, 1), silent < SILENT_SECONDS))
    return states


def _older_settings(view: View, settings: Settings) -> list[str]:
    """Processes that work with other settings than those of the file."""
    older = [
        row.name
        for row in all_heartbeats(view)
        if row.settings_digest not in {None, settings.digest}
        and (audit.utc_now() - row.heartbeat_at).total_seconds() < SILENT_SECONDS
    ]
    if not older:
        return []
    said = "the settings file was changed since; dissm-node reload takes what needs no restart, and says what does"
    return [f"{', '.join(older)}: {said}"]


def _missing(processes: tuple[ProcessStatus, ...], settings: Settings) -> list[str]:
    alive = {process.name for process in processes if process.alive}
    if not alive:
        return ["the node is not running: no process has a heartbeat"]
    problems = [f"the {name} process has no heartbeat" for name in ("listener", "control") if name not in alive]
    if settings.work.workers and not any(name.startswith("worker") for name in alive):
        problems.append("no worker has a heartbeat")
    return problems


def _often_restarted(view: View) -> list[str]:
    ends = unexpected_ends_since(view, audit.utc_now() - timedelta(minutes=_FAILURE_MINUTES))
    return [
        f"the {name} process ended {count} times in {_FAILURE_MINUTES} minutes: {last_failure(view, name)}"
        for name, count in sorted(ends.items())
        if count > _MAX_RESTARTS
    ]


def _stuck(view: View) -> list[str]:
    """One line for each destination that gets nothing, or not everything, for too long."""
    long_ago = audit.utc_now() - timedelta(minutes=_STUCK_MINUTES)
    stuck = stuck_deliveries(view, min_attempts=_STUCK_ATTEMPTS, made_before=long_ago)
    problems = []
    for name in sorted({delivery.destination for delivery in stuck}):
        waiting = [delivery for delivery in stuck if delivery.destination == name]
        said = next((delivery.last_error for delivery in waiting if delivery.last_error), "not tried yet")
        since = time_as_text(waiting[0].since)
        problems.append(f"destination {name}: {len(waiting)} objects wait, the oldest since {since}: {said}")
    return problems


def _disk_problem(free_mb: int, settings: Settings) -> list[str]:
    min_mb = settings.listen.disk_watermark_mb
    return [] if free_mb >= min_mb else [f"{free_mb} MB are free, {min_mb} MB are needed to receive"]


def _broken_chain(view: View, settings: Settings) -> list[str]:
    try:
        check_since_anchor(view, settings.node.audit_anchor)
    except CatalogError as problem:
        return [str(problem)]
    return []
