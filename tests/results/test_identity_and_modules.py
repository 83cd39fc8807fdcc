"""Derived UIDs, what is copied from the source, what marks the result, and how files come to lie on the disk."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import UID

from dicom_node.assemble.volume import read_volume
from dicom_node.results.result_identity import ResultIdentity
from dicom_node.results.write import write_results
from dicom_node.settings import ResultSettings
from dicom_node.values import equipment
from dicom_node.values.results import ObjectKind
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Finding, Findings, Place, Side, Verdict
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.result_case import CREATED_AT, INPUT_DIGEST, ResultCase, case_in_memory, written_case

SMALL = abdomen(shape=(20, 21, 23), spacing=(6.0, 6.0, 6.0))


@pytest.fixture(scope="module")
def delineation() -> Delineation:
    return ellipsoid_delineation(SMALL.grid)


def uids(identity: ResultIdentity) -> list[str]:
    return [
        derive(kind)
        for kind in ObjectKind
        for derive in (identity.series_uid, identity.instance_uid, identity.dimension_organization_uid)
    ]


def identity_of(delineation: Delineation, **changes: Any) -> ResultIdentity:
    arguments: dict[str, Any] = {
        "input_digest": INPUT_DIGEST,
        "settings": ResultSettings(),
        "created_at": CREATED_AT,
        **changes,
    }
    return ResultIdentity.of(delineation, **arguments)


def test_uids_are_valid_distinct_and_the_same_for_the_same_inputs(delineation: Delineation) -> None:
    first, again = uids(identity_of(delineation)), uids(identity_of(delineation))
    assert first == again
    assert len(set(first)) == len(first)
    assert all(UID(uid).is_valid and uid.startswith("2.25.") for uid in first)


def test_uids_do_not_depend_on_the_clock(delineation: Delineation) -> None:
    later = identity_of(delineation, created_at=CREATED_AT + timedelta(days=400))
    assert uids(later) == uids(identity_of(delineation))


def test_other_inputs_weights_arithmetic_program_profile_or_mark_give_other_uids(delineation: Delineation) -> None:
    usual = identity_of(delineation)
    others = [
        identity_of(delineation, input_digest="ef" * 32),
        identity_of(replace(delineation, bundle_digest="01" * 32)),
        identity_of(replace(delineation, arithmetic=replace(delineation.arithmetic, threads=2))),
        replace(usual, program_version="9.9.9"),
        identity_of(delineation, settings=ResultSettings(seg_frames="liver")),
        identity_of(delineation, settings=ResultSettings(seg_series_number=77)),
        identity_of(delineation, settings=ResultSettings(surface_series_number=78)),
        identity_of(delineation, mark=Verdict.REVIEW),
        identity_of(delineation, mark=Verdict.REVIEW, doubts=("images may be missing",)),
    ]
    every = [uid for identity in (usual, *others) for uid in uids(identity)]
    assert len(set(every)) == len(every)


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first = case_in_memory(tmp_path / "first", SMALL)
    again = case_in_memory(tmp_path / "again", SMALL)
    for one, other in zip(first.written, again.written, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert one.digest == other.digest == hashlib.sha256(one.path.read_bytes()).hexdigest()


def test_what_is_reported_as_written_is_what_the_files_say(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL)
    assert [item.kind for item in case.written] == ["seg", "surface"]
    for item in case.written:
        dataset = pydicom.dcmread(item.path)
        assert (dataset.SOPClassUID, dataset.SOPInstanceUID) == (item.sop_class_uid, item.sop_instance_uid)
    seg, surface = (pydicom.dcmread(item.path) for item in case.written)
    assert seg.SeriesInstanceUID != surface.SeriesInstanceUID
    assert (seg.SeriesNumber, surface.SeriesNumber) == (9101, 9102)


def test_without_surface_in_the_settings_only_the_seg_is_written(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL, ResultSettings(surface=False))
    assert [item.kind for item in case.written] == ["seg"]
    assert not (tmp_path / "surface.dcm").exists()


def both(case: ResultCase) -> list[Dataset]:
    return [pydicom.dcmread(case.seg), pydicom.dcmread(case.surface)]


def test_patient_and_study_are_copied_and_nothing_is_invented(tmp_path: Path) -> None:
    attributes = {
        "PatientID": None,
        "PatientSex": None,
        "AccessionNumber": None,
        "StudyID": None,
        "StudyTime": "",
        "ReferringPhysicianName": None,
        "IssuerOfPatientID": "HOSPITAL",
        "StudyDescription": "Abdomen",
        "PatientAge": "054Y",
    }
    case = case_in_memory(tmp_path, SMALL, attributes=attributes)
    for dataset in both(case):
        for keyword in ("PatientID", "PatientSex", "AccessionNumber", "StudyID", "StudyTime", "ReferringPhysicianName"):
            assert keyword in dataset
            assert not dataset.get(keyword)
        assert dataset.PatientName == "Test^Patient"
        assert dataset.IssuerOfPatientID == "HOSPITAL"
        assert dataset.StudyDescription == "Abdomen"
        assert dataset.PatientAge == "054Y"
        assert dataset.StudyInstanceUID == case.stack.headers[0].StudyInstanceUID
        assert dataset.FrameOfReferenceUID == case.stack.headers[0].FrameOfReferenceUID
    case.prove()


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Jürgen=李^小龍"),
        ("ISO_IR 144", "Люкceмбypг"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_keep_their_character_set(tmp_path: Path, character_set: str | list[str], name: str) -> None:
    case = case_in_memory(tmp_path, SMALL, attributes={"SpecificCharacterSet": character_set, "PatientName": name})
    for dataset in both(case):
        assert dataset.SpecificCharacterSet == character_set
        assert str(dataset.PatientName) == name
    case.prove()


def series_with_bytes(folder: Path, character_set: str | list[str] | None, texts: dict[str, bytes]) -> list[Path]:
    """A series as its sender wrote it: texts whose bytes no encoder of the declared character set would make."""
    holders = {keyword: str(number) * len(text) for number, (keyword, text) in enumerate(texts.items())}
    paths = write_ct_series(folder, SMALL, attributes={"SpecificCharacterSet": character_set, **holders})
    for path in paths:
        content = path.read_bytes()
        for keyword, holder in holders.items():
            content = content.replace(holder.encode(), texts[keyword])
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize(
    ("character_set", "text"),
    [
        ("ISO_IR 127", "فاطمة^چمن".encode("cp1256")),
        ("ISO_IR 138", "דָוִד^כהן".encode("cp1255")),
        ("ISO_IR 166", "สมชาย^ใจดี".encode("cp874") + b"\xff"),
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1")),
        (["", "ISO 2022 IR 87"], b"Yamada\x1b$B\xff\xff^x"),
        (None, "Müller^Jörg".encode("latin-1")),
    ],
)
def test_texts_that_their_character_set_does_not_hold_keep_their_bytes(
    tmp_path: Path, character_set: str | list[str] | None, text: bytes
) -> None:
    padded = text + b" " * (len(text) % 2)
    texts = dict.fromkeys(("PatientName", "StudyID", "AccessionNumber", "StudyDescription"), padded)
    case = written_case(tmp_path, read_volume(series_with_bytes(tmp_path / "ct", character_set, texts)))
    for dataset in both(case):
        assert {keyword: dataset.get_item(keyword).value for keyword in texts} == texts
        assert dataset.get("SpecificCharacterSet") == character_set
    case.prove()


def test_values_outside_the_standard_in_the_source_do_not_stop_the_result(tmp_path: Path) -> None:
    headers = case_in_memory(tmp_path / "plain", SMALL).stack.headers
    with pydicom.config.disable_value_validation():
        for header in headers:
            header.PatientSex = "male"
            header.PatientBirthDate = "1970.01.01"
            header.AccessionNumber = "12345678901234567890"
            header.PatientID = "P" * 70
    plain = case_in_memory(tmp_path / "again", SMALL)
    case = written_case(tmp_path, replace(plain.stack, headers=headers), delineation=plain.delineation)
    for dataset in both(case):
        assert dataset.PatientSex == "male"
        assert dataset.AccessionNumber == "12345678901234567890"
        assert dataset.PatientID == "P" * 70
    case.prove()


def test_sources_without_slice_thickness_or_manufacturer_are_written(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL, attributes={"SliceThickness": None, "Manufacturer": None})
    case.prove()


@pytest.mark.parametrize(
    ("keyword", "vr", "broken"),
    [
        ("SliceThickness", "DS", b"3,5 "),
        ("SliceThickness", "DS", b"3\\5 "),
        ("SliceThickness", "DS", b"-1"),
        ("SliceThickness", "DS", b"NaN "),
        ("PatientSize", "DS", b"1,8 "),
        ("LossyImageCompressionRatio", "DS", b"1,5 "),
    ],
)
def test_a_broken_number_that_nothing_rests_on_does_not_stop_the_result(
    tmp_path: Path, keyword: str, vr: str, broken: bytes
) -> None:
    stack = case_in_memory(tmp_path / "plain", SMALL).stack
    tag = Tag(keyword)
    for header in stack.headers:
        header.pop(tag, None)
        header._dict[tag] = RawDataElement(tag, vr, len(broken), broken, 0, False, True)
    case = written_case(tmp_path, stack)
    case.prove()
    measures = pydicom.dcmread(case.seg).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == 6.0


@pytest.mark.parametrize("version", ["1", "10"])
def test_no_software_version_is_longer_than_a_long_string_even_where_it_is_padded(tmp_path: Path, version: str) -> None:
    plain = case_in_memory(tmp_path / "plain", SMALL)
    case = written_case(tmp_path, plain.stack, delineation=replace(plain.delineation, bundle_version=version))
    for dataset in both(case):
        raw = dataset.get_item("SoftwareVersions")
        assert isinstance(raw, RawDataElement)
        assert raw.value is not None
        assert [len(value) <= 64 for value in raw.value.split(b"\\")] == [True] * 3


@pytest.mark.parametrize(
    ("verdict", "expected"), [(Verdict.ACCEPT, ""), (Verdict.REVIEW, " REVIEW"), (Verdict.REJECT, " REJECTED")]
)
def test_the_viewer_s_list_says_that_it_is_by_an_ai_and_whether_to_look_twice(
    tmp_path: Path, verdict: Verdict, expected: str
) -> None:
    stack = case_in_memory(tmp_path / "plain", SMALL).stack
    case = written_case(tmp_path, stack, delineation=ellipsoid_delineation(SMALL.grid, verdict=verdict))
    assert [d.SeriesDescription for d in both(case)] == [
        f"AI liver segmentation{expected}",
        f"AI liver surface{expected}",
    ]


LEFT_OUT = Finding(
    *("left_out", 90.0, "ml", 0.0, 20.0),
    Place((Side.LEFT,), 40, 55, (80.0, -20.0, 130.0), "images"),
    "liver-like tissue of 90 ml lies outside the outline",
)


def doubtful(delineation: Delineation, *items: Finding) -> Delineation:
    reasons = tuple(item.sentence for item in items)
    return replace(delineation, findings=Findings(items, 0.92, Verdict.REVIEW, reasons))


def test_both_objects_say_why_and_where_a_person_should_look(tmp_path: Path) -> None:
    plain = case_in_memory(tmp_path / "plain", SMALL)
    case = written_case(tmp_path, plain.stack, delineation=doubtful(plain.delineation, LEFT_OUT))
    for dataset, what in zip(both(case), ("segmentation", "surface"), strict=True):
        assert dataset.SeriesDescription == f"AI liver {what} REVIEW on the left, images 40-55"
        assert dataset.ContentDescription == "AI REVIEW: liver-like tissue of 90 ml lies outside the outline"
        assert dataset.SegmentSequence[0].SegmentDescription == (
            "REVIEW: liver-like tissue of 90 ml lies outside the outline, on the left, images 40-55 (usual 0 to 20 ml)"
            "; AI, not for primary diagnosis"
        )
    case.prove()
    for dataset in both(plain):
        assert "SegmentDescription" not in dataset.SegmentSequence[0]
        assert dataset.ContentDescription == "Liver delineated by an AI, not for primary diagnosis"


def test_reasons_and_places_of_any_length_keep_to_what_dicom_allows(delineation: Delineation) -> None:
    far = replace(
        LEFT_OUT, place=Place((Side.RIGHT, Side.BOTTOM), 1400, 1555, (0.0, 0.0, 0.0), "images"), statement="x" * 300
    )
    identity = identity_of(doubtful(delineation, far, far, far, far), doubts=("\u00e4" * 2000,))
    assert identity.series_description(ObjectKind.SEG) == "AI liver segmentation REVIEW"
    assert identity.content_description == "AI, not for primary diagnosis, REVIEW: see segment description"
    assert identity.segment_description.count("x" * 300) == 2
    only_doubts = identity_of(delineation, mark=Verdict.REVIEW, doubts=("\u00e4" * 2000,))
    for said in (identity.segment_description, only_doubts.segment_description):
        assert len(said) <= 1024
        assert said.isascii()
    for text in (identity.content_description, only_doubts.content_description):
        assert len(text) <= 64


def test_the_node_may_ask_for_a_review_the_engine_did_not(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path / "plain", SMALL)
    written = write_results(
        case.stack,
        case.delineation,
        ResultSettings(),
        tmp_path,
        input_digest=INPUT_DIGEST,
        created_at=CREATED_AT,
        mark=Verdict.REVIEW,
    )
    assert all("REVIEW" in pydicom.dcmread(item.path).SeriesDescription for item in written)


def test_the_node_s_doubt_does_not_soften_the_engine_s_rejection(delineation: Delineation) -> None:
    rejected = ellipsoid_delineation(SMALL.grid, verdict=Verdict.REJECT)
    assert identity_of(rejected, mark=Verdict.REVIEW).mark is Verdict.REJECT
    assert identity_of(delineation, mark=Verdict.REVIEW).mark is Verdict.REVIEW


def test_the_loop_guard_s_marks_and_the_weights_digest_are_on_both_objects(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL)
    for dataset in both(case):
        assert dataset.Manufacturer == equipment.MANUFACTURER
        assert dataset.ManufacturerModelName == equipment.MODEL
        assert dataset.SeriesDescription.startswith(equipment.AI_MARK)
        assert list(dataset.SoftwareVersions)[::2] == [case.delineation.bundle_digest, equipment.SOFTWARE_VERSION]
        purposes = [i.PurposeOfReferenceCodeSequence[0].CodeValue for i in dataset.ContributingEquipmentSequence]
        assert purposes == ["109101", "109102"]
        assert dataset.ContributingEquipmentSequence[0].Manufacturer == "Test builder"
        assert dataset.ContentLabel == "LIVER"
        segment = dataset.SegmentSequence[0]
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"


def test_the_weights_digest_and_the_arithmetic_are_in_both_objects_in_the_same_words(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL)
    seg, surface = both(case)
    reference = surface.SegmentSequence[0].ReferencedSurfaceSequence[0]
    said = {
        seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters,
        reference.SegmentSurfaceGenerationAlgorithmIdentificationSequence[0].AlgorithmParameters,
    }
    found = case.delineation
    assert said == {f"bundle_sha256={found.bundle_digest},arithmetic={found.arithmetic.text()}"}


@pytest.mark.parametrize(
    ("zone", "clock"), [(None, "050607.890000"), ("+0200", "070607.890000"), ("x", "050607.890000")]
)
def test_times_are_the_audit_s_in_the_zone_the_source_declares(tmp_path: Path, zone: str | None, clock: str) -> None:
    with pydicom.config.disable_value_validation():
        case = case_in_memory(tmp_path, SMALL, attributes={"TimezoneOffsetFromUTC": zone})
    for dataset in both(case):
        assert dataset.InstanceCreationDate == CREATED_AT.strftime("%Y%m%d")
        assert dataset.InstanceCreationTime == dataset.ContentTime == dataset.SeriesTime == clock


def test_a_failing_disk_leaves_the_old_object_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_in_memory(tmp_path, SMALL)
    before = case.seg.read_bytes()

    def broken(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        write_results(
            case.stack,
            case.delineation,
            ResultSettings(),
            tmp_path,
            input_digest="ef" * 32,
            created_at=datetime(2027, 1, 1),
        )
    assert case.seg.read_bytes() == before


def test_objects_are_readable_by_the_service_only_and_nothing_else_is_left(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seg.dcm", "surface.dcm"]
    assert all(stat.S_IMODE(item.path.stat().st_mode) == 0o600 for item in case.written)
