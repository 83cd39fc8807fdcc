"""What the source has wrong or leaves out is told, and neither mended nor invented (C8)."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.catalog import audit
from dicom_node.catalog.audit import SubjectKind
from dicom_node.catalog.database import View
from dicom_node.processes.worker_process import work_once
from dicom_node.results.source_values import empty_type_2, invalid_values
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import SeriesOptions, abdomen, image_header, write_ct_series
from tests.builders.intake import Intake
from tests.builders.result_case import case_in_memory
from tests.builders.rows import rows

SMALL = abdomen((24, 24, 26), (12.0, 12.0, 6.0))


def as_read(**values: Any) -> Dataset:
    """The header of an image on a disk, with values that pydicom would not let one write."""
    image = image_header(SMALL, 0, 1, SeriesOptions())
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            setattr(image, keyword, value)
        stream = BytesIO()
        image.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return pydicom.dcmread(stream, stop_before_pixels=True)


def test_a_header_that_keeps_to_the_standard_has_nothing_invalid() -> None:
    assert invalid_values(as_read()) == []
    assert empty_type_2(as_read()) == ["ReferringPhysicianName"]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "1" * 65),
        ("PatientBirthDate", "01.02.1970"),
        ("PatientSex", "W"),
        ("PatientSex", "m"),
        ("StudyDate", "2024-01-31"),
        ("StudyTime", "10:15:00"),
        ("PatientAge", "44"),
        ("PatientSize", b"1,8 "),
        ("AccessionNumber", "A" * 17),
        ("StudyID", "S" * 17),
        ("BodyPartExamined", "upper abdomen"),
        ("TimezoneOffsetFromUTC", "CET"),
        ("TimezoneOffsetFromUTC", "+01:00"),
    ],
)
def test_a_value_that_breaks_the_rules_of_its_attribute_is_named(keyword: str, value: str | bytes) -> None:
    if isinstance(value, str):
        header = as_read(**{keyword: value})
    else:
        header = as_read(PatientSize="1.88")
        tag = Tag(keyword)
        header._dict[tag] = RawDataElement(tag, "DS", len(value), value, 0, False, True)
    assert invalid_values(header) == [keyword]


def test_a_value_inside_a_sequence_is_told_under_the_name_of_the_sequence() -> None:
    item = Dataset()
    with pydicom.config.disable_value_validation():
        item.PatientID = "1" * 65
    assert invalid_values(as_read(OtherPatientIDsSequence=[item])) == ["OtherPatientIDsSequence"]


def test_bytes_that_are_no_text_of_the_declared_character_set_are_named() -> None:
    header = as_read(SpecificCharacterSet="ISO_IR 192")
    raw = header.get_item("PatientName")
    assert isinstance(raw, RawDataElement)
    header._dict[raw.tag] = raw._replace(value="Müller^Jörg".encode("latin-1"))
    assert invalid_values(header) == ["PatientName"]


def test_what_is_invalid_in_the_source_stands_in_the_audit_by_name_and_never_by_value(tmp_path: Path) -> None:
    with pydicom.config.disable_value_validation():
        write_ct_series(tmp_path / "ct", abdomen(), attributes={"PatientSex": "W", "PatientID": "SECRET" * 12})
    intake = Intake(tmp_path / "data")
    intake.decide(tmp_path / "ct")
    work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    with rows(intake.catalog) as session:
        proven = audit.last_rows(View(session), 1)[0]
        every = list(audit.rows(View(session), subject_kind=SubjectKind.CASE))
    intake.close()
    assert proven.facts["invalid_in_source"] == ["PatientSex", "PatientID"][::-1]
    assert not any("SECRET" in str(row.facts) for row in every)


@pytest.mark.parametrize(("part", "expected"), [("LIVER", "LIVER"), (None, "ABDOMEN"), ("", "ABDOMEN")])
def test_both_objects_say_the_body_part_of_the_source_or_the_abdomen(
    tmp_path: Path, part: str | None, expected: str
) -> None:
    case = case_in_memory(tmp_path, SMALL, attributes={"BodyPartExamined": part})
    for item in case.written:
        dataset = pydicom.dcmread(item.path)
        assert dataset.BodyPartExamined == expected
        assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize(("flag", "verdict"), [("01", "REVIEW"), ("00", "ACCEPT")])
def test_pixels_that_were_compressed_with_loss_before_are_marked_for_review_with_a_sentence(
    tmp_path: Path, flag: str, verdict: str
) -> None:
    attributes = {"LossyImageCompression": flag, "LossyImageCompressionRatio": "10" if flag == "01" else None}
    write_ct_series(tmp_path / "ct", abdomen(), attributes=attributes)
    intake = Intake(tmp_path / "data")
    intake.decide(tmp_path / "ct")
    work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    (case,) = intake.cases()
    assert (case.state, case.verdict) == ("PROVEN", verdict)
    seg = pydicom.dcmread(next((intake.settings.node.spool / "results").rglob("seg.dcm")))
    sentence = "the images were compressed with loss before they were sent"
    assert (sentence in str(seg.SegmentSequence[0].get("SegmentDescription"))) == (flag == "01")
    assert (sentence in str(case.results["findings"]["reasons"])) == (flag == "01")
    intake.close()
