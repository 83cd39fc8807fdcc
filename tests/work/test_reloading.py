"""A running node takes changed settings without losing anything, and says what it cannot take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import open_catalog
from dicom_node.catalog.heartbeats import all_heartbeats, record_heartbeat
from dicom_node.cli.reload_request import ask_to_reload
from dicom_node.processes import supervisor
from dicom_node.processes.reloading import ProcessKind, Reloader, change_between, taken_by
from dicom_node.reasons import NodeError
from dicom_node.settings import Settings, load_settings
from dicom_node.settings_section import Section
from dicom_node.watch.status import node_status
from tests.builders.intake import Intake, free_port


def settings(**tables: object) -> Settings:
    return Settings.model_validate(tables)


def test_every_setting_is_taken_by_somebody_or_said_to_need_a_restart() -> None:
    for table, field in Settings.model_fields.items():
        section = field.annotation
        names = section.model_fields if isinstance(section, type) and issubclass(section, Section) else [""]
        for name in names:
            assert taken_by(f"{table}.{name}".rstrip(".")) <= set(ProcessKind)


def test_what_needs_a_restart_keeps_its_old_value_and_the_rest_is_taken() -> None:
    old = settings(listen={"port": 11112, "calling_ae_titles": ["CT"]}, work={"workers": 1})
    new = settings(listen={"port": 11113, "calling_ae_titles": ["CT", "PACS"]}, work={"workers": 2, "threads": 4})
    change = change_between(old, new)
    assert change.taken == ("listen.calling_ae_titles", "work.threads")
    assert change.needs_restart == ("listen.port", "work.workers")
    assert change.parts == {ProcessKind.LISTENER, ProcessKind.CONTROL, ProcessKind.WORKER}
    assert (change.settings.listen.port, change.settings.work.workers, change.settings.work.threads) == (11112, 1, 4)
    assert change.settings.listen.calling_ae_titles == ("CT", "PACS")


def test_unchanged_settings_replace_nobody() -> None:
    assert change_between(settings(), settings()).parts == frozenset()


def test_a_file_that_cannot_be_used_changes_nothing_and_the_audit_says_why(intake: Intake, tmp_path: Path) -> None:
    file, asked = tmp_path / "settings.toml", threading.Event()
    file.write_text("[listen]\nport = 99999\n")
    asked.set()
    assert Reloader(intake.settings, file, asked).change_asked(intake.catalog.acting_as("supervisor")) is None
    with intake.catalog.read() as view:
        (row,) = audit.last_rows(view, 1)
    assert row.event == AuditEvent.RELOAD_REFUSED
    assert "listen.port" in str(row.facts["problem"])


def test_status_names_processes_that_work_with_older_settings(intake: Intake) -> None:
    older = intake.settings.model_copy(update={"work": intake.settings.work.model_copy(update={"threads": 7})})
    for name, digest in (("listener", intake.settings.digest), ("control", older.digest)):
        with intake.catalog.acting_as(name).write() as tx:
            record_heartbeat(tx, audit.utc_now(), digest)
    with intake.catalog.read() as view:
        (note,) = node_status(view, intake.settings).notes
    assert note.startswith("control: the settings file was changed")


def test_a_worker_with_a_case_in_hand_and_a_listener_that_receives_are_not_ended(intake: Intake) -> None:
    recorder = intake.catalog.acting_as("supervisor")
    child = supervisor._Child("worker-1", "nowhere:nothing", intake.settings)
    child.replace_by(intake.settings, 1000)
    assert supervisor._may_be_replaced(recorder, child, os.getpid())
    from dicom_node.catalog.leases import take_lease
    from dicom_node.work.process_identity import this_process

    add_queued_case(intake)
    assert take_lease(recorder, str(this_process()), 60) is not None
    assert not supervisor._may_be_replaced(recorder, child, os.getpid())
    assert supervisor._may_be_replaced(recorder, child, os.getpid() + 1)
    child.replace_by(intake.settings, 0)
    assert supervisor._may_be_replaced(recorder, child, os.getpid())


def add_queued_case(intake: Intake) -> None:
    from dicom_node.catalog.states import CaseState
    from dicom_node.catalog.tables import Case
    from tests.builders.rows import changed_rows
    from tests.deliver.destinations import proven_case

    case = proven_case(intake.catalog, intake.settings)
    with changed_rows(intake.catalog) as session:
        session.get_one(Case, case).state = CaseState.QUEUED


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_a_running_node_takes_new_senders_and_destinations_without_a_restart(tmp_path: Path) -> None:
    file, data = tmp_path / "settings.toml", tmp_path / "data"
    plain = f"[node]\ndata_folder = {json.dumps(str(data))}\n[work]\nworkers = 0\n[listen]\nport = {free_port()}\n"
    file.write_text(plain)
    node = subprocess.Popen([sys.executable, "-m", "dicom_node", "start", "--settings", str(file)])
    try:
        catalog = open_catalog(load_settings(file).node.catalog_url)

        def running() -> dict[str, tuple[int, str | None]]:
            with catalog.read() as view:
                return {row.name: (row.pid, row.settings_digest) for row in all_heartbeats(view)}

        wait_until(lambda: set(running()) == {"listener", "control"})
        before = running()
        file.write_text(plain + 'calling_ae_titles = ["PACS"]\n')
        answer = ask_to_reload(load_settings(file))
        assert (answer.taken, answer.needs_restart) == (("listen.calling_ae_titles",), ())
        digest = load_settings(file).digest
        wait_until(lambda: all(row[1] == digest for row in running().values()) and len(running()) == 2)
        assert all(running()[name][0] != before[name][0] for name in before)
        with catalog.read() as view:
            assert node_status(view, load_settings(file)).notes == ()
        catalog.close()
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(40) == 0
    with pytest.raises(NodeError, match="no node runs"):
        ask_to_reload(load_settings(file))
