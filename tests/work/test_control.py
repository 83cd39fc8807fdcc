"""The control process' jobs run on, whatever the wall clock does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers import base

from dicom_node import control
from tests.builders.intake import Intake


@contextmanager
def running_control(intake: Intake) -> Iterator[None]:
    stop = threading.Event()
    running = threading.Thread(target=control.control_main, args=(intake.settings, intake.catalog, "control", stop))
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


def until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
