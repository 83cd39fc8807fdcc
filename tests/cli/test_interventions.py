"""What a person asks for by a command happens, is audited under that person's name, and delineates nothing again."""

from __future__ import annotations

import getpass
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicom_node.catalog.database import open_catalog
from dicom_node.catalog.leases import take_lease
from dicom_node.catalog.states import CaseState, SeriesState
from dicom_node.catalog.tables import AuditRow, Case, Series
from dicom_node.cli.app import app
from dicom_node.processes.worker_process import work_once
from dicom_node.settings import Settings, load_settings
from dissm_engine.delineation import Delineation
from dissm_engine.progress import Cancellation, Monitor, Progress, no_progress
from dissm_engine.volume import Volume
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import changed_rows, rows
from tests.deliver.destinations import (
    case_state,
    deliver_round,
    deliveries,
    free_port,
    proven_case,
    storage_scp,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_ct_series(folder, abdomen(), series_description="Abdomen portal venous")
    return folder


@pytest.fixture
def intake(tmp_path: Path, images: Path) -> Iterator[Intake]:
    intake = Intake(tmp_path / "data")
    intake.decide(images)
    yield intake
    intake.catalog.close()


def settings_file(folder: Path, *ports: int) -> Path:
    file = folder / "settings.toml"
    destinations = "".join(
        f'[[destinations]]\nname = "pacs{number}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
        "timeout_seconds = 5\n"
        for number, port in enumerate(ports, 1)
    )
    data = json.dumps(str(folder / "data"))
    file.write_text(f"[node]\ndata_folder = {data}\n[listen]\nport = {free_port()}\n{destinations}")
    return file


def run(file: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--settings", str(file)])


def audited(intake_or_settings: Intake | Settings, event: str) -> list[AuditRow]:
    settings = intake_or_settings.settings if isinstance(intake_or_settings, Intake) else intake_or_settings
    catalog = open_catalog(settings.node.catalog_url)
    try:
        with rows(catalog) as session:
            return list(session.query(AuditRow).filter_by(event=event).order_by(AuditRow.id))
    finally:
        catalog.close()


def test_resend_delivers_the_same_objects_again_to_one_destination_and_delineates_nothing(tmp_path: Path) -> None:
    with storage_scp() as first, storage_scp() as second:
        file = settings_file(tmp_path, first.port, second.port)
        settings = load_settings(file)
        catalog = open_catalog(settings.node.catalog_url)
        case = proven_case(catalog, settings)
        deliver_round(catalog, settings)
        sent = list(second.received)
        result = run(file, "resend", case, "--to", "pacs2")
        assert result.exit_code == 0, result.output
        assert case_state(catalog, case) == CaseState.DELIVERING
        deliver_round(catalog, settings)
        assert (first.received, second.received) == (sent, [*sent, *sent])
        assert case_state(catalog, case) == CaseState.DELIVERED
        with rows(catalog) as session:
            assert session.get_one(Case, case).attempt == 1
        catalog.close()
    (row,) = audited(settings, "RESEND_ASKED")[-1:]
    assert row.process == f"resend by {getpass.getuser()}"
    assert (row.from_state, row.to_state, row.facts["destinations"]) == ("DELIVERED", "DELIVERING", ["pacs2"])


def test_resend_reaches_a_destination_that_joined_the_settings_after_the_case_was_delivered(tmp_path: Path) -> None:
    with storage_scp() as first, storage_scp() as second:
        before = load_settings(settings_file(tmp_path, first.port))
        catalog = open_catalog(before.node.catalog_url)
        case = proven_case(catalog, before)
        deliver_round(catalog, before)
        file = settings_file(tmp_path, first.port, second.port)
        assert run(file, "resend", case, "--to", "pacs2").exit_code == 0
        deliver_round(catalog, load_settings(file))
        assert second.received == first.received
        assert len(deliveries(catalog, case)) == 4
        catalog.close()


def test_resend_of_what_was_refused_ends_the_case_as_delivered(tmp_path: Path) -> None:
    answers = iter([0xA900, 0xA900])
    with storage_scp(lambda _event: next(answers, 0x0000)) as pacs:
        file = settings_file(tmp_path, pacs.port)
        settings = load_settings(file)
        catalog = open_catalog(settings.node.catalog_url)
        case = proven_case(catalog, settings)
        deliver_round(catalog, settings)
        assert case_state(catalog, case) == CaseState.HELD
        assert run(file, "resend", case).exit_code == 0
        deliver_round(catalog, settings)
        assert case_state(catalog, case) == CaseState.DELIVERED
        catalog.close()


def test_resend_says_why_it_sends_nothing(intake: Intake, tmp_path: Path) -> None:
    file = settings_file(tmp_path, free_port())
    case = intake.cases()[0].id
    for words, said in ((["resend", case], "NOT_RESENDABLE"), (["resend", case, "--to", "x"], "NO_SUCH_DESTINATION")):
        result = run(file, *words)
        assert (result.exit_code, result.exception is not None) == (1, True)
        assert said in repr(result.exception) or said in str(getattr(result.exception, "reason", ""))


def test_a_cancelled_case_is_not_taken_until_it_is_retried(intake: Intake, tmp_path: Path) -> None:
    file, case = settings_file(tmp_path), intake.cases()[0].id
    assert run(file, "cancel", case).exit_code == 0
    assert take_lease(intake.catalog.acting_as("worker-1"), "host:1", 60) is None
    (row,) = audited(intake, "CANCELLED")
    assert (row.process, row.to_state) == (f"cancel by {getpass.getuser()}", "CANCELLED")
    assert run(file, "cancel", case).exit_code != 0
    assert run(file, "retry", case).exit_code == 0
    assert take_lease(intake.catalog.acting_as("worker-1"), "host:1", 60) is not None


class CancelledEngine(EllipsoidEngine):
    """An engine in the middle of whose work the case is cancelled; ends only when it hears of it."""

    def __init__(self, file: Path, case: str) -> None:
        self.file, self.case, self.heard = file, case, threading.Event()

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        assert run(self.file, "cancel", self.case).exit_code == 0
        asked = cancellation or Cancellation()
        for step in range(2000):
            try:
                Monitor(progress, asked).report("analytic", step / 2000)
            except Exception:
                self.heard.set()
                raise
            self.heard.wait(0.01)
        return super().delineate(volume, progress, cancellation)


def test_the_worker_of_a_cancelled_case_stops_and_writes_nothing(intake: Intake, tmp_path: Path) -> None:
    case = intake.cases()[0].id
    engine = CancelledEngine(settings_file(tmp_path), case)
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), engine)
    assert engine.heard.is_set()
    assert case_state(intake.catalog, case) == CaseState.CANCELLED
    assert not list((intake.settings.node.spool / "results").rglob("*.dcm"))


def test_a_case_that_was_put_first_is_taken_before_older_ones(intake: Intake, tmp_path: Path) -> None:
    with changed_rows(intake.catalog) as session:
        old = session.query(Case).one()
        for name in ("second", "third"):
            session.add(
                Case(
                    id=name,
                    stack_id=old.stack_id,
                    state=CaseState.QUEUED,
                    created_at=old.created_at,
                    changed_at=old.changed_at,
                )
            )
    file = settings_file(tmp_path)
    assert run(file, "priority", "second").exit_code == 0
    assert run(file, "priority", "third").exit_code == 0
    recorder = intake.catalog.acting_as("worker-1")
    taken = [take_lease(recorder, "host:1", 60) for _ in range(3)]
    assert [lease.case_id for lease in taken if lease] == ["third", "second", old.id]
    assert [row.process for row in audited(intake, "PUT_FIRST")] == [f"priority by {getpass.getuser()}"] * 2
    assert run(file, "priority", "third").exit_code != 0


def test_process_now_waits_neither_for_the_quiet_time_nor_for_the_study(tmp_path: Path, images: Path) -> None:
    other = tmp_path / "other"
    # Of the same study: its UID follows from the builder's default.
    write_ct_series(other, abdomen(), name="other", series_description="Abdomen")
    intake = Intake(tmp_path / "data", assemble={"quiet_seconds": 3000})
    intake.take(images, other)
    file = settings_file(tmp_path)
    file.write_text(file.read_text() + "[assemble]\nquiet_seconds = 3000\n")
    first, second = (one.series_instance_uid for one in intake.series())
    assert run(file, "process-now", first).exit_code == 0
    decide_now(intake)
    assert [one.state for one in intake.series()] == [SeriesState.ADMITTED, SeriesState.RECEIVING]
    assert [row.subject for row in audited(intake, "PROCESSED_NOW")] == [first]
    assert run(file, "process-now", intake.series()[1].study_instance_uid).exit_code == 0
    decide_now(intake)
    assert intake.series()[1].state != SeriesState.RECEIVING
    assert run(file, "process-now", second).exit_code != 0
    intake.close()


def decide_now(intake: Intake) -> None:
    """One round of control's intake, at this very moment."""
    from dicom_node.processes.control_process import Jobs

    Jobs(intake.settings, intake.catalog.acting_as("control")).intake()


def test_process_now_names_what_is_not_waited_for(intake: Intake, tmp_path: Path) -> None:
    file = settings_file(tmp_path)
    with rows(intake.catalog) as session:
        decided = session.query(Series).one().series_instance_uid
    assert run(file, "process-now", decided).exit_code != 0
    assert run(file, "process-now", "1.2.3").exit_code != 0
