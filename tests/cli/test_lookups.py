"""A study is found by what a person on the telephone knows, and neither catalogue, audit nor log holds that."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dicom_node.catalog.lookup_key import KEY_NAME, LookupKey, LookupKind
from dicom_node.cli.app import app
from dicom_node.processes.series_index import index_series
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake

ACCESSION, PATIENT = "ACC0042017", "PID-778899"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    identity = {"AccessionNumber": ACCESSION, "PatientID": PATIENT}
    write_ct_series(folder, abdomen(), series_description="Abdomen portal venous", attributes=identity)
    return folder


@pytest.fixture
def intake(tmp_path: Path, images: Path) -> Iterator[Intake]:
    """One study that came without a key, as under an older release, and was made findable by control's job."""
    intake = Intake(tmp_path / "data")
    intake.decide(images)
    assert index_series(intake.catalog.acting_as("control"), intake.settings.node) == 1
    assert index_series(intake.catalog.acting_as("control"), intake.settings.node) == 0
    yield intake
    intake.catalog.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(f"[node]\ndata_folder = {json.dumps(str(tmp_path / 'data'))}\n")
    return file


def run(file: Path, *words: str, **named: str) -> Result:
    return CliRunner().invoke(app, [*words, "--settings", str(file)], **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given", [["--accession", f" {ACCESSION.lower()} "], ["--patient", PATIENT]], ids=lambda g: g[0]
)
def test_cases_series_and_their_histories_are_found_by_accession_number_and_patient_id(
    intake: Intake, file: Path, given: list[str]
) -> None:
    case, series = intake.cases()[0].id, intake.series()[0].series_instance_uid
    for command, expected in (("cases", case), ("show", case), ("series", series), ("explain", series)):
        result = run(file, command, *given)
        assert result.exit_code == 0, result.output
        assert expected in result.output
        none = run(file, command, given[0], "another")
        assert expected not in none.output


def test_a_text_that_is_asked_for_is_not_shown(intake: Intake, file: Path) -> None:
    result = run(file, "cases", "--accession", "-", input=f"{ACCESSION}\n")
    assert intake.cases()[0].id in result.output
    assert ACCESSION not in result.output


def test_series_are_found_by_study_and_day(intake: Intake, file: Path) -> None:
    series = intake.series()[0]
    day = f"{series.last_received_at:%Y-%m-%d}"
    found = ["--study", series.study_instance_uid], ["--since", day], ["--until", day], ["--since", day, "--until", day]
    for words in found:
        assert series.series_instance_uid in run(file, "series", *words).output
    for words in (["--since", "2999-01-01"], ["--until", "1999-01-01"], ["--study", "1.2.3"]):
        assert series.series_instance_uid not in run(file, "series", *words).output


def test_series_are_listed_with_description_time_images_and_sender(intake: Intake, file: Path) -> None:
    said = run(file, "series").output
    series = intake.series()[0]
    for part in ("Abdomen portal venous", f"{series.last_received_at:%Y-%m-%dT%H:%M}", "60 images", "IMPORT"):
        assert part in said
    assert json.loads(run(file, "series", "--json").stdout)[0]["description"] == "Abdomen portal venous"


def test_neither_catalogue_nor_its_write_ahead_log_nor_key_holds_what_is_looked_up(intake: Intake, file: Path) -> None:
    run(file, "series", "--accession", ACCESSION, "--patient", PATIENT)
    kept = [one for one in intake.settings.node.data_folder.iterdir() if one.is_file()]
    assert KEY_NAME in {one.name for one in kept}
    for one in kept:
        content = one.read_bytes()
        assert ACCESSION.encode() not in content
        assert PATIENT.encode() not in content
        assert stat.S_IMODE(one.stat().st_mode) & 0o077 == 0


def test_a_copy_without_its_key_finds_nothing_and_says_so(intake: Intake, file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "catalog.sqlite"
    copy.parent.mkdir()
    copy.write_bytes((intake.settings.node.data_folder / "catalog.sqlite").read_bytes())
    result = CliRunner().invoke(app, ["cases", "--database", str(copy), "--accession", ACCESSION])
    assert "NO_LOOKUP_KEY" in repr(getattr(result.exception, "reason", ""))
    assert not (copy.parent / KEY_NAME).exists()


def test_a_lost_key_is_replaced_and_every_series_is_made_findable_again(intake: Intake, file: Path) -> None:
    (intake.settings.node.data_folder / KEY_NAME).unlink()
    assert index_series(intake.catalog.acting_as("control"), intake.settings.node) == 1
    assert intake.cases()[0].id in run(file, "cases", "--accession", ACCESSION).output


def test_digests_of_two_kinds_and_two_keys_differ(tmp_path: Path) -> None:
    one, other = LookupKey.of(tmp_path / "one"), LookupKey.of(tmp_path / "other")
    assert one == LookupKey.of(tmp_path / "one") != other
    made = {key.digest(kind, "4711") for key in (one, other) for kind in LookupKind}
    assert len(made) == 4
    assert one.digest(LookupKind.PATIENT, "  ") == ""
    assert "4711" not in repr(one)
    assert one.secret.hex() not in repr(one)
