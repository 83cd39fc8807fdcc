"""The heartbeats of the node's processes, and what the audit says of their ends."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.tables import AuditRow, Process
from dissm_engine.json_value import JsonValue

HEARTBEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""A process that sent no heartbeat for so long is taken for dead."""
_NODE = "node"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last sign of life of one process. Times are UTC."""

    name: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    settings_digest: str | None = None


def record_heartbeat(tx: Transaction, started_at: datetime, settings_digest: str | None = None) -> None:
    """Say that the transaction's process lives. settings_digest: of the settings that it works with."""
    row = tx.session.get(Process, tx.process)
    if row is None:
        row = Process(name=tx.process)
        tx.session.add(row)
    row.pid, row.started_at, row.heartbeat_at = os.getpid(), started_at, audit.utc_now()
    row.settings_digest = settings_digest


def remove_heartbeat(tx: Transaction) -> None:
    """The process ends as it should; another process that took the name meanwhile keeps it."""
    tx.session.execute(delete(Process).where(Process.name == tx.process, Process.pid == os.getpid()))


def all_heartbeats(view: View) -> list[Heartbeat]:
    """Of every process that lives or died without removing its own, by name."""
    rows = view.session.scalars(select(Process).order_by(Process.name))
    return [Heartbeat(row.name, row.pid, row.started_at, row.heartbeat_at, row.settings_digest) for row in rows]


def record_node_event(tx: Transaction, event: AuditEvent, **facts: JsonValue) -> None:
    """An audit row about the node as a whole."""
    audit.append(tx, event, SubjectKind.NODE, _NODE, facts=facts)


def record_process_failure(tx: Transaction, said: str, reason_code: str | None) -> None:
    """An error ends the transaction's process. said: without patient data."""
    audit.append(
        tx,
        AuditEvent.PROCESS_FAILED,
        SubjectKind.NODE,
        tx.process,
        reason_code=reason_code,
        facts={"said": said},
    )


def unexpected_ends_since(view: View, moment: datetime) -> Counter[str]:
    """How often each process ended unasked since `moment` (UTC): a restart beats at once, so that no beat shows it."""
    rows = view.session.scalars(
        select(AuditRow).where(
            AuditRow.subject_kind == SubjectKind.NODE.value,
            AuditRow.subject == _NODE,
            AuditRow.event == AuditEvent.PROCESS_ENDED.value,
            AuditRow.at >= moment.isoformat(timespec="microseconds"),
        )
    )
    return Counter(str(row.facts.get("child")) for row in rows)


def last_failure(view: View, process: str) -> str:
    """Why a process ended last, as it said itself."""
    failures = select(AuditRow).where(
        AuditRow.subject_kind == SubjectKind.NODE.value,
        AuditRow.subject == process,
        AuditRow.event == AuditEvent.PROCESS_FAILED.value,
    )
    row = view.session.scalar(failures.order_by(AuditRow.id.desc()).limit(1))
    return "it said nothing" if row is None else str(row.facts["said"])
