"""Whatever a command cannot use is one line on standard error and exit code 2, never a traceback (D10)."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest

from dicom_node.catalog.database import open_catalog
from dicom_node.cli import app as cli
from dicom_node.settings import Settings
from tests.builders.intake import Intake


def said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """What `dissm-node WORDS` says on standard error; it must be one line, and the exit code 2."""
    for module in ("processes.logs", "processes.supervisor"):
        # It would keep this test's captured standard error for those that follow.
        monkeypatch.setattr(f"dicom_node.{module}.configure_logs", lambda *_arguments: None)
    monkeypatch.setattr(sys, "argv", ["dissm-node", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    lines = capfd.readouterr().err.splitlines()
    assert (ended.value.code, len(lines)) == (2, 1), lines
    return lines[0]


def settings_in(folder: Path, node: str, more: str = "") -> str:
    file = folder / "settings.toml"
    file.write_text(f"[node]\n{node}\n{more}")
    return str(file)


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_text("a file")
    return file


@pytest.mark.parametrize(
    "words",
    [
        ("process", "{folder}", "--out", "{file}"),
        ("demo", "--out", "{file}"),
        ("start", "--settings", "{settings}"),
        ("audit", "export", "--database", "{database}", "--out", "{folder}/absent/x"),
    ],
)
def test_a_path_that_cannot_be_used_is_named(
    tmp_path: Path, a_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    database = tmp_path / "copy.sqlite"
    open_catalog(f"sqlite:///{database}").close()
    places = {
        "folder": tmp_path,
        "file": a_file,
        "database": database,
        "settings": settings_in(tmp_path, f"data_folder = {json.dumps(str(a_file / 'data'))}"),
    }
    line = said(monkeypatch, capfd, *(word.format(**places) for word in words))
    assert "name another file or folder" in line
    assert str(tmp_path) in line


def test_a_database_that_is_none_is_said_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for url in ("nonsense", "nosuch://user:secret@host/name"):
        for command in ("status", "cases"):
            file = settings_in(tmp_path, f"database_url = {json.dumps(url)}")
            line = said(monkeypatch, capfd, command, "--settings", file)
            assert "node.database_url is wrong: is no database URL" in line
            assert "secret" not in line


def test_a_missing_driver_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    file = settings_in(tmp_path, 'database_url = "postgresql+psycopg://dissm@localhost/dissm"')
    line = said(monkeypatch, capfd, "cases", "--settings", file)
    assert "driver of postgresql+psycopg://dissm@localhost/dissm is not installed" in line


def test_rows_that_are_no_json_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    intake = Intake(tmp_path / "data")
    intake.close()
    database = tmp_path / "data" / "catalog.sqlite"
    raw = sqlite3.connect(database)
    raw.execute(
        "INSERT INTO audit (id, at, process, subject_kind, subject, event, facts, previous_hash, hash) "
        "VALUES (1, 'x', 'x', 'node', 'x', 'x', '{no json', 'x', 'x')"
    )
    raw.commit()
    raw.close()
    for words in (["audit", "list"], ["audit", "export"]):
        assert "no JSON" in said(monkeypatch, capfd, *words, "--database", str(database))


def test_a_missing_settings_file_leads_to_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "--settings" in said(monkeypatch, capfd, "status", "--settings", str(tmp_path / "absent.toml"))


def test_before_the_first_start_reading_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = settings_in(tmp_path, f"data_folder = {json.dumps(str(tmp_path / 'data'))}")
    for command in ("cases", "series", "status"):
        assert "the node was never started" in said(monkeypatch, capfd, command, "--settings", file)


def test_a_key_that_is_missing_is_named_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = settings_in(tmp_path, "", '[[destinations]]\nname = "pacs"\nhost = "192.0.2.77"\nport = 104\n')
    line = said(monkeypatch, capfd, "cases", "--settings", file)
    assert "destinations.0.ae_title is missing" in line
    assert "192.0.2.77" not in line


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[listen]\ncalling_addresses = ["192.0.2.999"]', "'192.0.2.999', which is no address"),
        ('[listen]\nae_title = "   "', "listen.ae_title"),
        ('[[admit.rules]]\nname = "r"\nattribute = "BodyPart"\noperator = "exists"', "'BodyPart' is no DICOM keyword"),
        (
            '[[admit.rules]]\nname = "r"\nattribute = "StudyID"\noperator = "regex"\nvalue = "(ABD"',
            "no regular expression",
        ),
        ('[[admit.rules]]\nname = "r"\nattribute = "KVP"\noperator = "range"\nvalue = "80-120"', "two numbers"),
        ('[[admit.rules]]\nname = "r"\nattribute = "KVP"\noperator = "range"\nvalue = [120, 80]', "two numbers"),
        ('[[admit.rules]]\nname = "r"\nattribute = "KVP"\noperator = "one_of"\nvalue = []', "list of values"),
        ('[[admit.rules]]\nname = "r"\nattribute = "KVP"\noperator = "equals"', "one value"),
        ("[results]\nseg_series_number = 99999999999", "results.seg_series_number"),
        ("[results]\nseg_series_number = -5", "results.seg_series_number"),
        ("[results]\nseg_series_number = 9102", "are equal"),
        (
            '[results]\nsurface = false\n[[destinations]]\nname = "p"\nae_title = "P"\nhost = "h"\nport = 104\n'
            'objects = ["surface"]',
            "destination p wants no object that is made",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], more: str, problem: str
) -> None:
    file = settings_in(tmp_path, "", more)
    assert problem in said(monkeypatch, capfd, "status", "--settings", file)


def test_site_rules_that_can_work_are_taken() -> None:
    rules = [
        {"name": "a", "attribute": "BodyPartExamined", "operator": "one_of", "value": ["ABDOMEN", "LIVER"]},
        {"name": "b", "attribute": "00091001", "operator": "exists"},
        {"name": "c", "attribute": "KVP", "operator": "range", "value": [80, 140]},
        {"name": "d", "attribute": "StudyDescription", "operator": "regex", "value": "abd(omen)?", "negate": True},
        {"name": "e", "attribute": "Modality", "operator": "equals", "value": "CT"},
    ]
    taken = Settings.model_validate({"admit": {"rules": rules}, "listen": {"calling_addresses": ["10.0.0.0/8"]}})
    assert [rule.name for rule in taken.admit.rules] == ["a", "b", "c", "d", "e"]
