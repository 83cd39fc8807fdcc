"""The supervisor outlives its children's failures, their number, and a catalogue that takes no row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy import text

from dicom_node.catalog import audit
from dicom_node.catalog.database import View
from dicom_node.processes import supervisor as run_node
from dicom_node.processes.child_process import UNUSABLE
from dicom_node.reasons import NodeError
from tests.builders.intake import Intake
from tests.builders.rows import changed_rows, rows


class DeadProcess:
    """What a process is after its end."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def is_alive(self) -> bool:
        return False


class EndingChild(run_node._Child):
    """Ends at once whenever it is started, as if it had lived for `age` seconds; asks for the stop at `last` starts."""

    exitcode: int = 1
    age: float = 0.0
    last: int = 3
    stop: threading.Event

    def start(self) -> None:
        self.process = DeadProcess(self.exitcode)  # type: ignore[assignment]
        self.started_at, self.starts = time.monotonic() - self.age, self.starts + 1
        if self.starts >= self.last:
            self.stop.set()


@pytest.fixture
def ending(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EndingChild]:
    """Keeps one ending child alive until its last start; the child."""
    monkeypatch.setattr(run_node, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(run_node, "_FIRST_BACKOFF_SECONDS", 0.0)

    def keep(exitcode: int, age: float = 0.0, essential: bool = True) -> EndingChild:
        child = EndingChild("listener", "nowhere:nothing", intake.settings, essential)
        child.exitcode, child.age, child.stop = exitcode, age, threading.Event()
        run_node._keep_alive(intake.catalog.acting_as("supervisor"), [child], child.stop)
        return child

    return keep


def test_a_catalogue_that_takes_no_row_does_not_keep_an_ended_child_down(
    intake: Intake, ending: Callable[..., EndingChild]
) -> None:
    with changed_rows(intake.catalog) as session:
        session.execute(text("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END"))
    assert ending(1).starts == 3


def test_a_child_may_fail_more_often_than_a_float_can_double(intake: Intake) -> None:
    child = EndingChild("control", "nowhere:nothing", intake.settings, failures=5000)
    child.process, child.started_at = DeadProcess(1), time.monotonic()  # type: ignore[assignment]
    assert child.note_end() == 1
    assert 0 < child.backoff_until - time.monotonic() <= run_node._MAX_BACKOFF_SECONDS


def test_a_child_that_cannot_work_from_its_first_moment_ends_the_start(ending: Callable[..., EndingChild]) -> None:
    with pytest.raises(NodeError, match="the listener process cannot work"):
        ending(UNUSABLE)


def test_a_worker_that_cannot_work_is_tried_again_while_the_others_go_on(ending: Callable[..., EndingChild]) -> None:
    assert ending(UNUSABLE, essential=False).starts == 3


def test_a_child_that_worked_for_long_before_it_fell_is_started_again(
    intake: Intake, ending: Callable[..., EndingChild]
) -> None:
    assert ending(UNUSABLE, age=90 * 86400.0).starts == 3
    with rows(intake.catalog) as session:
        assert [row.event for row in audit.rows(View(session))] == ["PROCESS_ENDED"] * 2
