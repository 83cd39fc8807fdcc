"""What the reading commands show can be pasted, and a copy can be read where nothing can be written."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dicom_node.catalog import audit
from dicom_node.catalog.audit import SubjectKind
from dicom_node.catalog.database import View
from dicom_node.catalog.histories import case_history, newest_cases, newest_series, series_history
from dicom_node.catalog.states import CaseState
from dicom_node.cli import console as show
from dicom_node.cli.app import app
from dicom_node.processes.worker_process import work_once
from dicom_node.values.case_history import StackRecord, time_as_text
from dicom_node.values.equipment import SOFTWARE_VERSION
from dicom_node.values.evidence import Evidence, RuleOutcome
from dicom_node.values.recorded_reason import RecordedReason
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import rows


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    """One proven case, and a refused series, which has no case."""
    write_ct_series(tmp_path / "ct", abdomen(), series_description="Abdomen portal venous")
    write_ct_series(tmp_path / "mr", abdomen(), name="m", study="m", attributes={"Modality": "MR"})
    intake = Intake(tmp_path / "data")
    intake.decide(tmp_path / "ct", tmp_path / "mr")
    work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    return intake


def narrow() -> Console:
    return Console(width=80, file=io.StringIO())


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_at_80_columns_every_name_is_whole_and_on_one_line(intake: Intake) -> None:
    console = narrow()
    with rows(intake.catalog) as session:
        (line,) = newest_cases(View(session), 10)
        shown = case_history(View(session), line.id)
        series = newest_series(View(session), 10)
        reason = RecordedReason("A_CODE_OF_ANOTHER_RELEASE_" * 8)
        show.print_cases(console, [replace(line, state=CaseState.RUNNING, stage="refine", reason=reason)])
        show.print_case(console, shown)
        show.print_series_lines(console, series)
        show.print_series(console, series_history(View(session), shown.series.series_instance_uid))
    output = printed(console)
    names = [
        line.id,
        time_as_text(line.changed_at),
        shown.bundle_digest,
        *(one.series_instance_uid for one in series),
    ]
    names += [name for item in shown.objects for name in (item.sop_instance_uid, item.path)]
    for name in names:
        assert name in output


def test_the_list_of_series_names_the_refused_one_with_its_reason(intake: Intake) -> None:
    with rows(intake.catalog) as session:
        found = {one.reason_code: one for one in newest_series(View(session), 10)}
        assert set(found) == {None, "MR_IMAGES"}
        assert series_history(View(session), found["MR_IMAGES"].series_instance_uid).series.state == "REFUSED"


def test_the_audit_s_subjects_are_what_explain_takes(intake: Intake) -> None:
    console = narrow()
    with rows(intake.catalog) as session:
        shown = series_history(View(session), newest_series(View(session), 1)[0].series_instance_uid)
    show.print_audit(console, shown.audit)
    assert f"series {shown.series.series_instance_uid}" in printed(console)


def test_a_rule_s_name_is_no_markup() -> None:
    console = narrow()
    evidence = (Evidence("[/x]", RuleOutcome.YES, "[bold]"),)
    show.print_stack(console, StackRecord(1, "[/y]", 1, 3, admitted=True, reason=None, evidence=evidence))
    assert all(word in printed(console) for word in ("[/x]", "[/y]", "[bold]"))


def test_an_auditor_s_copy_is_read_where_nothing_can_be_written_and_stays_as_it_is(
    tmp_path: Path, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.close()
    copy = tmp_path / "a copy #1" / "audit.sqlite"
    copy.parent.mkdir()
    shutil.copy(intake.settings.node.data_folder / "catalog.sqlite", copy)
    copy.chmod(0o400)
    before = copy.read_bytes()
    opened: list[str] = []
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    real = sqlite3.connect

    def connect(name: str, **named: Any) -> Any:
        opened.append(name)
        return real(name, **named)

    monkeypatch.setattr("sqlite3.dbapi2.connect", connect)
    for words in (["audit", "verify"], ["cases"], ["audit", "export"]):
        result = CliRunner().invoke(app, [*words, "--database", str(copy)])
        assert result.exit_code == 0, result.output
    assert all("mode=ro" in name and "immutable=1" in name for name in opened)
    assert opened
    assert copy.read_bytes() == before
    assert [each.name for each in copy.parent.iterdir()] == ["audit.sqlite"]


def test_what_the_source_leaves_empty_stands_in_the_audit_by_name(tmp_path: Path) -> None:
    write_ct_series(
        tmp_path / "ct", abdomen(), series_description="Abdomen portal venous", attributes={"PatientID": None}
    )
    intake = Intake(tmp_path / "data")
    intake.decide(tmp_path / "ct")
    work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    with rows(intake.catalog) as session:
        (proven,) = [
            row for row in audit.rows(View(session), subject_kind=SubjectKind.CASE) if row.event == "OBJECTS_PROVEN"
        ]
    assert proven.facts["empty_in_source"] == ["PatientID", "ReferringPhysicianName"]


def test_the_version_is_said() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"dissm-node {SOFTWARE_VERSION}\n"


def test_a_case_that_cannot_be_retried_says_which_can(intake: Intake) -> None:
    from dicom_node.catalog.leases import retry_case
    from dicom_node.catalog.transitions import ForbiddenTransition

    with pytest.raises(ForbiddenTransition, match="only REFUSED, HELD, PARKED or FAILED cases"):
        retry_case(intake.catalog.acting_as("test"), intake.cases()[0].id)
