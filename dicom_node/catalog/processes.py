"""The heartbeats of the node's processes."""

from __future__ import annotations

import os
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.tables import Process

BEAT_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""A process that has not beaten for so long is taken for dead."""


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
