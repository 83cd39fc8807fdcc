"""A correction comes under the old SOP Instance UIDs: it cures a series that was refused for its bytes (C2, C4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from dicom_node.assemble.content_comparison import compare_waiting
from dicom_node.catalog.tables import AuditRow
from dicom_node.processes.worker_process import work_once
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import rows

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))


def outcome(intake: Intake, folder: Path) -> list[str]:
    return [stack.reason_code or "ADMITTED" for stack in intake.decide(folder)]


def cut_one(folder: Path) -> None:
    file = sorted(folder.iterdir())[20]
    file.write_bytes(file.read_bytes()[:-300])


def test_a_truncated_image_is_replaced_when_the_series_is_sent_again(intake: Intake, tmp_path: Path) -> None:
    for folder in ("first", "again"):
        write_ct_series(tmp_path / folder, BODY)
    cut_one(tmp_path / "first")
    assert outcome(intake, tmp_path / "first") == ["TRUNCATED_FILE"]
    assert outcome(intake, tmp_path / "again") == ["ADMITTED"]
    (stack,) = intake.stacks()
    assert len(stack.images) == 60
    assert "one content an image" in {line["rule"] for line in stack.evidence}
    with rows(intake.catalog) as session:
        (row,) = session.query(AuditRow).where(AuditRow.event == "REPLACED")
    assert row.reason_code == "TRUNCATED_FILE"
    assert row.facts["old_digest"] != row.facts["new_digest"]


def test_a_correction_that_came_before_the_refusal_takes_its_place_when_it_comes_again(
    intake: Intake, tmp_path: Path
) -> None:
    for folder in ("first", "again"):
        write_ct_series(tmp_path / folder, BODY)
    cut_one(tmp_path / "first")
    intake.take(tmp_path / "first", tmp_path / "again")
    assert [stack.reason_code for stack in intake.decide()] == ["TRUNCATED_FILE"]
    assert outcome(intake, tmp_path / "again") == ["ADMITTED"]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"frame_of_reference": None}, "NO_FRAME_OF_REFERENCE"),
        ({"attributes": {"RescaleSlope": None}}, "NOT_HOUNSFIELD"),
        ({"attributes": {"ImagePositionPatient": None}}, "NO_POSITIONS"),
    ],
)
def test_a_series_whose_source_was_corrected_is_admitted(
    intake: Intake, tmp_path: Path, wrong: dict[str, Any], code: str
) -> None:
    write_ct_series(tmp_path / "first", BODY, **wrong)
    write_ct_series(tmp_path / "again", BODY)
    assert outcome(intake, tmp_path / "first") == [code]
    assert outcome(intake, tmp_path / "again") == ["ADMITTED"]


def test_pixels_that_only_the_worker_found_unreadable_are_replaced_too(intake: Intake, tmp_path: Path) -> None:
    for folder in ("first", "again"):
        paths = write_ct_series(tmp_path / folder, BODY)
    broken = pydicom.dcmread(tmp_path / "first" / paths[9].name)
    broken.file_meta.TransferSyntaxUID = RLELossless
    broken.PixelData = encapsulate([b"no run lengths at all"])
    broken.save_as(broken.filename)
    assert outcome(intake, tmp_path / "first") == ["ADMITTED"]
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    assert [case.reason_code for case in intake.cases()] == ["UNREADABLE_PIXELS"]
    assert outcome(intake, tmp_path / "again") == ["ADMITTED"]
    assert [case.state for case in intake.cases()] == ["SUPERSEDED", "QUEUED"]


def test_what_was_admitted_or_refused_for_another_reason_is_not_replaced(intake: Intake, tmp_path: Path) -> None:
    part = {"BodyPartExamined": "HEAD"}
    write_ct_series(tmp_path / "good", BODY)
    write_ct_series(tmp_path / "good_again", BODY, attributes={"RescaleIntercept": "-1025"})
    write_ct_series(tmp_path / "head", BODY, name="head", study="head", attributes=part)
    write_ct_series(
        tmp_path / "head_again", BODY, name="head", study="head", attributes=part | {"RescaleIntercept": "-1025"}
    )
    assert outcome(intake, tmp_path / "good") == ["ADMITTED"]
    assert outcome(intake, tmp_path / "head") == ["ADMITTED", "OTHER_BODY_PART"]
    intake.decide(tmp_path / "good_again")
    intake.decide(tmp_path / "head_again")
    assert [series.revision for series in intake.series()] == [1, 1]
    assert intake.events("series").count("SET_ASIDE") == 120
    compare_waiting(intake.catalog.acting_as("worker-1"), intake.settings.node.spool)
    assert intake.events("series").count("QUARANTINED") == 120


def test_the_correction_of_another_series_replaces_nothing(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "first", BODY, frame_of_reference=None)
    write_ct_series(tmp_path / "again", BODY, attributes={"SeriesInstanceUID": "1.2.3"})
    assert outcome(intake, tmp_path / "first") == ["NO_FRAME_OF_REFERENCE"]
    assert outcome(intake, tmp_path / "again") == ["NO_FRAME_OF_REFERENCE"]


def test_bytes_that_the_disk_lost_are_healed_by_sending_again_and_a_retry(intake: Intake, tmp_path: Path) -> None:
    from dicom_node.catalog.leases import retry_case
    from dicom_node.reasons import SPOOL_DAMAGED

    body = abdomen()
    write_ct_series(tmp_path / "ct", body, series_description="Abdomen portal venous")
    intake.decide(tmp_path / "ct")
    next(intake.settings.node.spool.rglob("*.dcm")).unlink()
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    assert [case.reason_code for case in intake.cases()] == [SPOOL_DAMAGED.code]
    intake.decide(tmp_path / "ct")
    retry_case(intake.catalog.acting_as("test"), intake.cases()[0].id)
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    assert [case.state for case in intake.cases()] == ["PROVEN"]
    assert "dissm-node retry" in SPOOL_DAMAGED.cure
