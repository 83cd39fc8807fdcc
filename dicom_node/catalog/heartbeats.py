"""The heartbeats of the node's processes."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.tables import AuditRow, Process

BEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""A process that has not beaten for so long is taken for dead."""
ENDED = "PROCESS_ENDED"
"""The audit's event of a process that ended unasked, as the supervisor saw it; its facts name the `child`."""
FAILED = "PROCESS_FAILED"
"""The audit's event of an error that ended a process, as it said itself."""


def beat(session: Session, name: str, started_at: datetime) -> None:
    """Say that the process `name` lives."""
    row = session.get(Process, name)
    if row is None:
        row = Process(name=name)
        session.add(row)
    row.pid, row.started_at, row.heartbeat_at = os.getpid(), started_at, audit.utc_now()


def sign_off(session: Session, name: str) -> None:
    """The process ends as it should; another process that took the name meanwhile keeps it."""
    session.execute(delete(Process).where(Process.name == name, Process.pid == os.getpid()))


def all_processes(session: Session) -> list[Process]:
    """Every process that beats or died without signing off, by name."""
    return list(session.scalars(select(Process).order_by(Process.name)))


def falls_since(session: Session, moment: datetime) -> Counter[str]:
    """How often each process ended unasked since `moment` (UTC): a restart beats at once, so that no beat shows it."""
    rows = session.scalars(
        select(AuditRow).where(
            AuditRow.subject_kind == "node",
            AuditRow.subject == "node",
            AuditRow.event == ENDED,
            AuditRow.at >= moment.isoformat(timespec="microseconds"),
        )
    )
    return Counter(str(row.facts.get("child")) for row in rows)


def last_failure(session: Session, name: str) -> str:
    """Why the process `name` ended last, as it said itself."""
    failures = select(AuditRow).where(
        AuditRow.subject_kind == "node", AuditRow.subject == name, AuditRow.event == FAILED
    )
    row = session.scalar(failures.order_by(AuditRow.id.desc()).limit(1))
    return "it said nothing" if row is None else str(row.facts["said"])
