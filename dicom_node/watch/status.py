"""How the node does, in numbers from the database and the disk."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.heartbeats import SILENT_SECONDS, all_processes, falls_since, last_failure
from dicom_node.catalog.states import CaseState, DeliveryState
from dicom_node.catalog.tables import Case, Delivery, ResultObject, Series
from dicom_node.catalog.verify import check_since_anchor
from dicom_node.reasons import CatalogError
from dicom_node.settings import Settings

FOR_A_PERSON = (CaseState.HELD, CaseState.PARKED, CaseState.FAILED)
_FALLS_MINUTES = 10
_MAX_RESTARTS = 1
"""One fall in that time is survived; a process that falls again does not do its work."""
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
    series: dict[str, int]
    cases: dict[str, int]
    deliveries: dict[str, int]
    for_a_person: tuple[str, ...]
    free_mb: int

    def to_json(self) -> dict[str, Any]:
        """For `--json` and, later, for the metrics."""
        return asdict(self)


def node_status(session: Session, settings: Settings) -> NodeStatus:
    """Read everything in one view, which `session` has not begun yet. free_mb: on the disk of the data folder."""
    # First of all: what the view holds must not be older than the anchor that it is compared with.
    broken_chain = _broken_chain(session, settings)
    processes = tuple(_process_states(session))
    free_mb = shutil.disk_usage(settings.node.data_folder).free // 2**20
    problems = (
        *_missing(processes, settings),
        *_falling(session),
        *_stuck(session),
        *_disk_problem(free_mb, settings),
        *broken_chain,
    )
    return NodeStatus(
        healthy=not problems,
        problems=problems,
        processes=processes,
        series=_counts(session, Series.state),
        cases=_counts(session, Case.state),
        deliveries=_counts(session, Delivery.state),
        for_a_person=tuple(session.scalars(select(Case.id).where(Case.state.in_(FOR_A_PERSON)).order_by(Case.id))),
        free_mb=free_mb,
    )


def _process_states(session: Session) -> list[ProcessStatus]:
    now = audit.utc_now()
    states = []
    for row in all_processes(session):
        silent = (now - row.heartbeat_at).total_seconds()
        started = row.started_at.isoformat(timespec="seconds") + "Z"
        states.append(ProcessStatus(row.name, row.pid, started, round(silent, 1), silent < SILENT_SECONDS))
    return states


def _missing(processes: tuple[ProcessStatus, ...], settings: Settings) -> list[str]:
    alive = {process.name for process in processes if process.alive}
    if not alive:
        return ["the node is not running: no process has a heartbeat"]
    problems = [f"the {name} process has no heartbeat" for name in ("listener", "control") if name not in alive]
    if settings.work.workers and not any(name.startswith("worker") for name in alive):
        problems.append("no worker has a heartbeat")
    return problems


def _falling(session: Session) -> list[str]:
    falls = falls_since(session, audit.utc_now() - timedelta(minutes=_FALLS_MINUTES))
    return [
        f"the {name} process ended {count} times in {_FALLS_MINUTES} minutes: {last_failure(session, name)}"
        for name, count in sorted(falls.items())
        if count > _MAX_RESTARTS
    ]


def _stuck(session: Session) -> list[str]:
    """One line for each destination that gets nothing, or not everything, for too long."""
    long_ago = audit.utc_now() - timedelta(minutes=_STUCK_MINUTES)
    stuck = session.execute(
        select(Delivery, ResultObject.created_at)
        .join(ResultObject)
        .where(
            Delivery.state == DeliveryState.WAITING,
            (Delivery.attempts >= _STUCK_ATTEMPTS) | (ResultObject.created_at < long_ago),
        )
        .order_by(ResultObject.created_at)
    ).all()
    problems = []
    for name in sorted({row.destination for row, _ in stuck}):
        waiting = [(row, since) for row, since in stuck if row.destination == name]
        said = next((row.last_error for row, _ in waiting if row.last_error), "not tried yet")
        since = waiting[0][1].isoformat(timespec="seconds") + "Z"
        problems.append(f"destination {name}: {len(waiting)} objects wait, the oldest since {since}: {said}")
    return problems


def _disk_problem(free_mb: int, settings: Settings) -> list[str]:
    least = settings.listen.disk_watermark_mb
    return [] if free_mb >= least else [f"{free_mb} MB are free, {least} MB are needed to receive"]


def _broken_chain(session: Session, settings: Settings) -> list[str]:
    try:
        check_since_anchor(session, settings.node.audit_anchor)
    except CatalogError as problem:
        return [str(problem)]
    return []


def _counts(session: Session, column: Any) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).group_by(column).order_by(column))
    return {str(state): count for state, count in rows}
