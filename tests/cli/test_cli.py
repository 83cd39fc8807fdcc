from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from sqlalchemy import text
from typer.testing import CliRunner, Result

from dicom_node.catalog.heartbeats import record_heartbeat
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case
from dicom_node.catalog.verify import anchor_head
from dicom_node.cli.app import app
from dicom_node.deliver.outbox import queue_proven
from dicom_node.processes.worker_process import work_once
from dicom_node.settings import Settings, load_settings
from dissm_engine.bundle import Bundle
from dissm_engine.findings import Verdict
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake, free_port
from tests.builders.rows import changed_rows, rows
from tests.work.engines import RaisingEngine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_ct_series(folder, abdomen(), series_description="Abdomen portal venous")
    return folder


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "settings.toml"
    folder = json.dumps(str(tmp_path / "data"))
    file.write_text(
        f"[node]\ndata_folder = {folder}\n[listen]\nport = {free_port()}\ndisk_watermark_mb = 1\n"
        "[assemble]\nquiet_seconds = 0.1\nstudy_quiet_seconds = 0.1\n"
    )
    return file


@pytest.fixture
def intake(tmp_path: Path, settings_file: Path, images: Path) -> Iterator[Intake]:
    """A data folder with one queued case."""
    intake = Intake(tmp_path / "data")
    intake.decide(images)
    yield intake
    intake.catalog.close()


def run(settings_file: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--settings", str(settings_file)])


def answered(settings_file: Path, *words: str, code: int = 0) -> object:
    result = run(settings_file, *words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def only_case(intake: Intake) -> Case:
    with rows(intake.catalog) as session:
        return session.query(Case).one()


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dicom_node", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
    )


def test_the_repositorys_settings_file_is_complete_and_holds_the_defaults() -> None:
    written = load_settings(ROOT / "settings.toml")
    folder = {"node": {"data_folder": written.node.data_folder}}
    assert written == Settings.model_validate(folder)
    text_of_file = (ROOT / "settings.toml").read_text(encoding="utf-8")
    for section in Settings.model_fields:
        for key in type(getattr(written, section)).model_fields if section != "destinations" else ():
            assert f"\n{key} = " in text_of_file or f"\n# {key} = " in text_of_file or key == "rules", key


def test_an_unknown_key_is_one_plain_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[listen]\nportt = 104\n")
    done = command("status", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "dissm-node: settings.toml: listen.portt is not a known key; correct the key, then run dissm-node check"
    ]


def test_a_database_that_cannot_be_read_is_one_plain_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").write_text("no database at all " * 100)
    done = command("audit", "verify", "--database", "broken.sqlite", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "not a database" in done.stderr


def test_looking_makes_no_database(tmp_path: Path, settings_file: Path) -> None:
    for words in (["cases"], ["status"], ["audit", "list"]):
        assert run(settings_file, *words).exit_code != 0
    assert not (tmp_path / "data").exists()


def test_show_tells_the_whole_history_of_a_case(settings_file: Path, intake: Intake) -> None:
    work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    case = only_case(intake)
    shown = answered(settings_file, "show", case.id)
    assert isinstance(shown, dict)
    assert shown["state"] == "PROVEN"
    assert [item["kind"] for item in shown["objects"]] == ["seg", "surface"]
    assert {"INSTANCE_STORED", "QUIET", "CREATED", "LEASED", "OBJECTS_PROVEN"} <= {
        row["event"] for row in shown["audit"]
    }
    shown = run(settings_file, "show", case.id).output
    for word in (case.id, "PROVEN", "volume_ml", "geometry", "seg_frames", "OBJECTS_PROVEN"):
        assert word in shown
    assert "Test^Patient" not in shown


def test_cases_and_explain_say_reason_and_rule(settings_file: Path, intake: Intake) -> None:
    work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine(verdict=Verdict.REJECT))
    (line,) = answered(settings_file, "cases")  # type: ignore[misc]
    assert (line["state"], line["reason_code"]) == ("HELD", "RESULT_REJECTED")
    assert "the engine does not trust its result" in line["reason"]
    shown = answered(settings_file, "explain", line["series_instance_uid"])
    (stack,) = shown["stacks"]  # type: ignore[index]
    assert stack["admitted"]
    assert {"rule", "outcome", "seen"} <= set(stack["evidence"][0])
    assert "geometry" in run(settings_file, "explain", line["series_instance_uid"]).output


def test_an_unknown_case_or_series_is_said(settings_file: Path, intake: Intake) -> None:
    for words in (["show", "absent"], ["explain", "1.2.3"], ["retry", "absent"]):
        assert "there is no" in str(run(settings_file, *words).exception)


def test_retry_queues_a_failed_case_again(settings_file: Path, intake: Intake) -> None:
    from dissm_engine.errors import NO_SURFACE as ANY_REASON
    from dissm_engine.errors import BundleError

    work_once(intake.settings, intake.catalog.acting_as("worker-1"), RaisingEngine(BundleError(ANY_REASON)))
    assert only_case(intake).state == CaseState.FAILED
    result = run(settings_file, "retry", only_case(intake).id)
    assert result.exit_code == 0
    assert "is queued again" in result.output
    assert only_case(intake).state == CaseState.QUEUED


def test_retry_of_a_case_that_nobody_wanted_says_that_it_is_only_sent(settings_file: Path, intake: Intake) -> None:
    work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    queue_proven(intake.catalog.acting_as("control"), intake.settings.destinations)
    assert only_case(intake).state == CaseState.DELIVERED, "there is no destination"
    said = run(settings_file, "retry", only_case(intake).id).output
    assert "queued" not in said
    assert "is offered to the destinations again" in said
    assert only_case(intake).state == CaseState.PROVEN


def test_status_is_healthy_only_while_every_process_beats(settings_file: Path, intake: Intake) -> None:
    found = answered(settings_file, "status", code=1)
    assert found["problems"] == ["the node is not running: no process has a heartbeat"]  # type: ignore[index]
    from dicom_node.catalog import audit

    for name in ("listener", "control", "worker-1"):
        with intake.catalog.acting_as(name).write() as tx:
            record_heartbeat(tx, audit.utc_now())
    found = answered(settings_file, "status", code=0)
    assert found["cases"] == {"QUEUED": 1}  # type: ignore[index]
    with changed_rows(intake.catalog) as session:
        session.execute(text("UPDATE processes SET heartbeat_at = '2020-01-01 00:00:00' WHERE name = 'listener'"))
    result = run(settings_file, "status")
    assert result.exit_code == 1
    assert "the listener process has no heartbeat" in result.output


def test_audit_verify_finds_a_cut_log_and_says_so_by_its_exit_code(
    tmp_path: Path, settings_file: Path, intake: Intake
) -> None:
    assert run(settings_file, "audit", "verify").exit_code == 1, "rows, and no anchor"
    anchor_head(intake.catalog.acting_as("test"), intake.settings.node.audit_anchor)
    anchor_head(intake.catalog.acting_as("test"), intake.settings.node.audit_anchor)
    assert run(settings_file, "audit", "verify").exit_code == 0
    intake.catalog.close()
    raw = sqlite3.connect(tmp_path / "data" / "catalog.sqlite")
    raw.execute('DROP TRIGGER "audit_no_DELETE"')
    raw.execute("DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)")
    raw.commit()
    raw.close()
    result = run(settings_file, "audit", "verify")
    assert result.exit_code == 1
    assert "is gone" in result.output
    database = str(tmp_path / "data" / "catalog.sqlite")
    assert answered(settings_file, "audit", "verify", "--database", database, code=1)["untouched"] is False  # type: ignore[index]


def test_a_removed_anchor_is_a_problem_of_the_node_and_only_said_of_a_copy(
    tmp_path: Path, settings_file: Path, intake: Intake
) -> None:
    anchor_head(intake.catalog.acting_as("test"), intake.settings.node.audit_anchor)
    intake.settings.node.audit_anchor.unlink()
    intake.catalog.close()
    result = run(settings_file, "audit", "verify")
    assert result.exit_code == 1
    assert "the anchor is gone" in result.output
    database = str(tmp_path / "data" / "catalog.sqlite")
    result = run(settings_file, "audit", "verify", "--database", database)
    assert result.exit_code == 0
    assert "there is no anchor" in result.output


def test_audit_export_writes_every_row(tmp_path: Path, settings_file: Path, intake: Intake) -> None:
    out = tmp_path / "audit.jsonl"
    assert run(settings_file, "audit", "export", "--out", str(out)).exit_code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    listed = answered(settings_file, "audit", "list", "--newest", "1000")
    assert rows == listed
    assert run(settings_file, "audit", "export").stdout.splitlines() == out.read_text().splitlines()


def test_check_says_in_words_what_is_wrong_and_asks_nobody_when_told_so(settings_file: Path, tmp_path: Path) -> None:
    content = settings_file.read_text().replace("[node]\n", f'[node]\nbundle = "{tmp_path / "absent"}"\n')
    dead = free_port()
    settings_file.write_text(
        content.replace("[listen]\n", '[listen]\naddress = "0.0.0.0"\n')
        + f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {dead}\n'
    )
    said = {each["what"]: each for each in answered(settings_file, "check", "--no-echo", code=1)}  # type: ignore[attr-defined]
    assert said["senders"]["good"] is False
    assert "no model bundle" in said["bundle"]["said"]
    assert said["destination pacs"]["good"] is None
    said = {each["what"]: each for each in answered(settings_file, "check", code=1)}  # type: ignore[attr-defined]
    assert said["destination pacs"]["good"] is False
    assert "nobody answers" in said["destination pacs"]["said"]
    assert not (tmp_path / "data").exists()


def test_check_names_the_file_of_the_bundle_that_is_not_what_its_manifest_says(
    settings_file: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(Bundle.shipped(), tmp_path / "bundle")
    weights = bytearray((bundle / "refine.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (bundle / "refine.safetensors").write_bytes(weights)
    settings_file.write_text(settings_file.read_text().replace("[node]\n", f'[node]\nbundle = "{bundle}"\n'))
    said = {each["what"]: each for each in answered(settings_file, "check", code=1)}  # type: ignore[attr-defined]
    assert [what for what, each in said.items() if each["good"] is False] == ["bundle"]
    assert "refine.safetensors of the bundle is not what its manifest says" in said["bundle"]["said"]


def test_check_echoes_a_destination_that_lives(settings_file: Path) -> None:
    echoes: list[str] = []
    entity = AE("PACS")
    entity.add_supported_context("1.2.840.10008.1.1")

    def note(event: evt.Event) -> int:
        echoes.append(event.assoc.requestor.ae_title)
        return 0

    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, note)])
    port = server.socket.getsockname()[1]
    try:
        settings_file.write_text(
            settings_file.read_text()
            + f'[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
        )
        result = run(settings_file, "check")
    finally:
        server.shutdown()
    assert echoes == ["DISSM"]
    assert f"PACS on 127.0.0.1:{port}, as DISSM: answers" in result.output.replace("\n", " ")


def test_check_sees_a_port_that_is_taken(settings_file: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", load_settings(settings_file).listen.port))
        other.listen()
        result = run(settings_file, "check")
    assert "in use" in result.output
