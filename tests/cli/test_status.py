"""`status` does not take a restarted process for a working one, and a listener that cannot listen is said at once."""

from __future__ import annotations

import threading

import pytest

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import View
from dicom_node.catalog.heartbeats import record_heartbeat, record_node_event, record_process_failure
from dicom_node.processes.listener_process import run_listener
from dicom_node.reasons import NodeError
from dicom_node.watch.status import NodeStatus, node_status
from tests.builders.intake import Intake
from tests.builders.rows import rows


@pytest.fixture
def beating(intake: Intake) -> Intake:
    """A node whose every process has just beaten, as each does at once after its restart."""
    for name in ("listener", "control", "worker-1"):
        with intake.catalog.acting_as(name).write() as tx:
            record_heartbeat(tx, audit.utc_now())
    return intake


def fall(intake: Intake, child: str, times: int) -> None:
    for number in range(times):
        with intake.catalog.acting_as(child).write() as tx:
            record_process_failure(tx, "GaiError", None)
        with intake.catalog.acting_as("supervisor").write() as tx:
            record_node_event(tx, AuditEvent.PROCESS_ENDED, child=child, exit_code=1, failures=number + 1)


def status(intake: Intake) -> NodeStatus:
    with rows(intake.catalog) as session:
        return node_status(View(session), intake.settings)


def test_a_process_that_ends_again_and_again_is_a_problem_though_it_beats(beating: Intake) -> None:
    fall(beating, "control", times=3)
    assert status(beating).problems == ("the control process ended 3 times in 10 minutes: GaiError",)
    assert not status(beating).healthy


def test_one_fall_that_was_survived_is_no_problem(beating: Intake) -> None:
    fall(beating, "worker-1", times=1)
    fall(beating, "listener", times=1)
    assert status(beating).problems == ()


def test_ends_of_long_ago_are_no_problem(beating: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    now = audit.utc_now()
    with monkeypatch.context() as past:
        past.setattr(audit, "utc_now", lambda: now.replace(year=now.year - 1, day=1))
        fall(beating, "control", times=3)
    assert status(beating).problems == ()


def test_an_address_of_another_machine_ends_the_listener_with_a_reason_and_at_once(intake: Intake) -> None:
    listen = intake.settings.listen.model_copy(
        update={"address": "203.0.113.7", "calling_ae_titles": ("PACS",), "calling_addresses": ("192.0.2.10",)}
    )
    settings = intake.settings.model_copy(update={"listen": listen})
    with pytest.raises(NodeError, match=r"on 203\.0\.113\.7 cannot be listened on: .+ address") as raised:
        run_listener(settings, intake.catalog.acting_as("listener"), threading.Event())
    assert raised.value.reason.code == "CANNOT_LISTEN"
