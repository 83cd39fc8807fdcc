"""The reading commands on a database of release 0.3.0: after the update, and before the node was started once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_node.catalog.database import open_catalog
from dicom_node.catalog.database_url import sqlite_url
from dicom_node.cli.app import app
from dicom_node.reasons import CatalogUnavailableError
from tests.builders import release_0_3_0
from tests.builders.release_0_3_0 import query

TOLD = release_0_3_0.told_by_release()
REFUSED = next(uid for uid, told in TOLD["series"].items() if told["reason_code"] == "MR_IMAGES")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The settings of a node whose database 0.3.0 left."""
    release_0_3_0.write_database(tmp_path / "data")
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[node]\ndata_folder = "{tmp_path / "data"}"\n[listen]\ndisk_watermark_mb = 1\n')
    return settings


@pytest.fixture
def updated(old: Path) -> Path:
    """After the node was started once."""
    open_catalog(sqlite_url(database_of(old))).close()
    return old


def database_of(settings: Path) -> Path:
    return settings.with_name("data") / "catalog.sqlite"


def read(settings: Path, *command: str, exit_code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*command, "--settings", str(settings), "--json"])
    assert done.exit_code == exit_code, (done.output, done.exception)
    return json.loads(done.stdout)


def test_cases_and_series_are_listed(updated: Path) -> None:
    assert [case["case"] for case in read(updated, "cases")] == list(TOLD["cases"])
    assert [series["series_instance_uid"] for series in read(updated, "series")] == list(TOLD["series"])


def test_every_case_can_be_shown_as_json_and_in_words(updated: Path) -> None:
    for case_id, told in TOLD["cases"].items():
        shown = read(updated, "show", case_id)
        assert (shown["state"], shown["reason"]) == (told["state"], told["reason"])
        assert [row["id"] for row in shown["audit"]] == told["audit"]
        words = CliRunner().invoke(app, ["show", case_id, "--settings", str(updated)])
        assert words.exit_code == 0
        assert (told["reason"] or case_id) in words.stdout


def test_every_series_can_be_explained_as_json_and_in_words(updated: Path) -> None:
    for uid, told in TOLD["series"].items():
        explained = read(updated, "explain", uid)
        assert [stack["reason"] for stack in explained["stacks"]] == [stack["reason"] for stack in told["stacks"]]
        assert CliRunner().invoke(app, ["explain", uid, "--settings", str(updated)]).exit_code == 0


def test_status_counts_what_was_there(updated: Path) -> None:
    # Nothing runs, and two objects have waited since then.
    status = read(updated, "status", exit_code=1)
    assert {name: status[name] for name in TOLD["status"]} == TOLD["status"]
    assert any("destination pacs: 8 objects wait" in problem for problem in status["problems"])


def test_the_audit_log_is_listed_verified_and_exported(updated: Path) -> None:
    verdict = read(updated, "audit", "verify")
    assert verdict == TOLD["verdict"]
    assert len(read(updated, "audit", "list", "--newest", "1000")) == verdict["rows"]
    exported = CliRunner().invoke(app, ["audit", "export", "--settings", str(updated)])
    rows = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [row["hash"] for row in rows] == [
        row[0] for row in query(database_of(updated), "SELECT hash FROM audit ORDER BY id")
    ]


def test_before_the_update_what_has_not_changed_is_read_and_the_file_stays_as_it_was(old: Path) -> None:
    assert read(old, "audit", "verify") == TOLD["verdict"]
    assert read(old, "status", exit_code=1)["cases"] == TOLD["status"]["cases"]
    assert [case["case"] for case in read(old, "cases")] == list(TOLD["cases"])
    assert len(read(old, "audit", "list", "--newest", "1000")) == TOLD["verdict"]["rows"]
    assert query(database_of(old), "SELECT version_num FROM alembic_version") == [(release_0_3_0.SCHEMA,)]


def test_a_copy_that_0_3_0_made_can_be_verified_beside_its_anchor(old: Path, tmp_path: Path) -> None:
    shutil.copytree(old.with_name("data"), tmp_path / "copy")
    done = CliRunner().invoke(
        app, ["audit", "verify", "--database", str(tmp_path / "copy" / "catalog.sqlite"), "--json"]
    )
    assert json.loads(done.stdout) == TOLD["verdict"]


@pytest.mark.parametrize(
    "command", [["series"], ["show", "delivered"], ["explain", REFUSED], ["retry", REFUSED]], ids="-".join
)
def test_before_the_update_reading_says_that_the_node_must_be_started(old: Path, command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--settings", str(old)])
    assert isinstance(done.exception, CatalogUnavailableError)
    assert "schema 0002, this release has 0003" in str(done.exception)
    assert "start the node" in str(done.exception)
    assert query(database_of(old), "SELECT version_num FROM alembic_version") == [(release_0_3_0.SCHEMA,)]


@pytest.mark.parametrize("name", ["failed", REFUSED])
def test_retry_works_after_the_update(updated: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["retry", name, "--settings", str(updated)])
    assert done.exit_code == 0, done.output
    assert read(updated, "audit", "verify")["rows"] == TOLD["verdict"]["rows"] + 1
