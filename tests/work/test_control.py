"""The control process' jobs run on, whatever the wall clock does and whatever became of the audit chain."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.schedulers import base
from structlog.testing import capture_logs

from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import Catalog, View
from dicom_node.catalog.heartbeats import record_node_event
from dicom_node.catalog.verify import anchor_head
from dicom_node.processes import control_process as control
from dicom_node.watch.status import node_status
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import rows


@contextmanager
def running_control(intake: Intake) -> Iterator[None]:
    stop = threading.Event()
    running = threading.Thread(
        target=control.run_control, args=(intake.settings, intake.catalog.acting_as("control"), stop)
    )
    running.start()
    try:
        yield
    finally:
        stop.set()
        running.join()


class Clock(datetime):
    """A wall clock that can be set."""

    step = timedelta()

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) + cls.step


def test_jobs_run_on_when_the_clock_is_set_back_by_an_hour(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    monkeypatch.setattr(control.Jobs, "intake", lambda _jobs: rounds.append(time.monotonic()))
    wall = time.time
    monkeypatch.setattr(base, "datetime", Clock)
    monkeypatch.setattr(control, "datetime", Clock)
    monkeypatch.setattr(time, "time", lambda: wall() + Clock.step.total_seconds())
    monkeypatch.setattr(Clock, "step", timedelta())
    with running_control(intake):
        until(lambda: len(rounds) >= 2)
        Clock.step = timedelta(hours=-1)
        before = len(rounds)
        until(lambda: len(rounds) >= before + 3)


def write_row(catalog: Catalog, event: AuditEvent) -> None:
    with catalog.acting_as("test").write() as tx:
        record_node_event(tx, event)


def copy_database(source: Path, target: Path) -> None:
    """What `sqlite3 SOURCE ".backup TARGET"` does, with both in use."""
    here, there = sqlite3.connect(source), sqlite3.connect(target)
    here.backup(there)
    here.close()
    there.close()


def test_a_restored_database_older_than_its_anchor_is_said_once_and_stops_nothing(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = intake.settings.node
    write_row(intake.catalog, AuditEvent.NODE_STARTED)
    copy_database(node.data_folder / "catalog.sqlite", tmp_path / "backup.sqlite")
    write_row(intake.catalog, AuditEvent.NODE_STOPPED)
    before = anchor_head(intake.catalog.acting_as("test"), node.audit_anchor)
    copy_database(tmp_path / "backup.sqlite", node.data_folder / "catalog.sqlite")
    write_ct_series(tmp_path / "ct", abdomen())
    monkeypatch.setattr(control, "_ANCHOR_SECONDS", 0.05)
    with capture_logs() as logs, running_control(intake):
        until(lambda: any("not anchored" in entry["event"] for entry in logs))
        intake.take(tmp_path / "ct")
        until(lambda: len(intake.cases()) == 1)
    assert [entry["log_level"] for entry in logs if "not anchored" in entry["event"]] == ["error"]
    assert json.loads(node.audit_anchor.read_text())["hash"] == before.hash
    with rows(intake.catalog) as session:
        problems = node_status(View(session), intake.settings).problems
    assert any("the audit chain is broken: row 2" in problem for problem in problems)


def until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
