"""How the node does, in numbers from the database and the disk."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.processes import SILENT_SECONDS, all_processes
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case, Delivery, Series
from dicom_node.settings import Settings

FOR_A_PERSON = (CaseState.HELD, CaseState.PARKED, CaseState.FAILED)


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
    """Read everything in one view. free_mb: on the disk of the data folder."""
    processes = tuple(_process_states(session))
    free_mb = shutil.disk_usage(settings.node.data_folder).free // 2**20
    problems = (*_missing(processes, settings), *_disk_problem(free_mb, settings))
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


def _disk_problem(free_mb: int, settings: Settings) -> list[str]:
    least = settings.listen.disk_watermark_mb
    return [] if free_mb >= least else [f"{free_mb} MB are free, {least} MB are needed to receive"]


def _counts(session: Session, column: Any) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).group_by(column).order_by(column))
    return {str(state): count for state, count in rows}
