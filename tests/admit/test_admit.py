"""Each series ends as it must: admitted with one case, or refused by its own reason with evidence (C4, C9)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from dicom_node.reasons import ALL_REASONS
from dicom_node.values.equipment import AI_MARK, MANUFACTURER, MODEL
from dissm_engine.volume import Volume
from tests.builders.ct_series import abdomen, derived_uid, oriented, write_ct_series
from tests.builders.intake import Intake

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))


def reasons(intake: Intake, *folders: Path) -> list[str]:
    stacks = intake.decide(*folders)
    for stack in stacks:
        assert stack.evidence, "everything leaves evidence"
        if stack.reason_code:
            ALL_REASONS[stack.reason_code].say(**stack.facts)
    return [stack.reason_code or "ADMITTED" for stack in stacks]


def test_an_abdominal_ct_becomes_one_queued_case_with_its_history_in_the_audit(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY)
    assert reasons(intake, tmp_path / "ct") == ["ADMITTED"]
    (case,) = intake.cases()
    (series,) = intake.series()
    assert (case.state, series.state) == ("QUEUED", "ADMITTED")
    assert intake.events("series") == ["INSTANCE_STORED", "QUIET", "STACK_ADMITTED", "STACK_ADMITTED"]
    assert intake.events("case") == ["CREATED"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"sop_class": MRImageStorage, "attributes": {"Modality": "MR"}}, "MR_IMAGES"),
        ({"attributes": {"Modality": "MR"}}, "MR_IMAGES"),
        ({"sop_class": PositronEmissionTomographyImageStorage, "attributes": {"Modality": "PT"}}, "PET_IMAGES"),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.7"}, "NOT_A_CT"),
        ({"attributes": {"Modality": "OT"}}, "OTHER_MODALITY"),
        ({"attributes": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}}, "LOCALIZER"),
        ({"attributes": {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}}, "DERIVED_REFORMAT"),
        ({"attributes": {"BodyPartExamined": "HEAD"}}, "OTHER_BODY_PART"),
        ({"attributes": {"Manufacturer": MANUFACTURER, "ManufacturerModelName": MODEL}}, "OWN_RESULT"),
        (
            {"series_description": AI_MARK + "liver", "attributes": {"ImageType": ["DERIVED", "SECONDARY"]}},
            "OWN_RESULT",
        ),
        ({"sop_class": EnhancedCTImageStorage}, "ENHANCED_MULTIFRAME"),
        ({"frame_of_reference": None}, "NO_FRAME_OF_REFERENCE"),
        ({"attributes": {"ImagePositionPatient": None}}, "NO_POSITIONS"),
        ({"attributes": {"PhotometricInterpretation": "MONOCHROME1"}}, "NOT_HOUNSFIELD"),
        ({"attributes": {"RescaleSlope": None}}, "NOT_HOUNSFIELD"),
    ],
)
def test_every_unfit_series_is_refused_by_its_own_reason(
    intake: Intake, tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    write_ct_series(tmp_path / "ct", BODY, **options)
    assert reasons(intake, tmp_path / "ct") == [code]
    (series,) = intake.series()
    assert (series.state, series.reason_code) == ("REFUSED", code)
    assert intake.cases() == []


def test_a_two_image_localizer_is_refused_as_one_and_not_for_its_number(intake: Intake, tmp_path: Path) -> None:
    scout = Volume(BODY.hu[:2], BODY.lps_from_voxel)
    write_ct_series(tmp_path / "ct", scout, attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    assert reasons(intake, tmp_path / "ct") == ["LOCALIZER"]


def test_one_slice_is_too_few(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", Volume(BODY.hu[:1], BODY.lps_from_voxel))
    assert reasons(intake, tmp_path / "ct") == ["TOO_FEW_SLICES"]


def test_a_scanner_s_own_series_may_be_named_after_its_ai(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY, series_description="AI recon portal venous")
    assert reasons(intake, tmp_path / "ct") == ["ADMITTED"]


def test_our_equipment_as_contributor_is_recognised(intake: Intake, tmp_path: Path) -> None:
    item = Dataset()
    item.Manufacturer, item.ManufacturerModelName = MANUFACTURER, MODEL
    write_ct_series(tmp_path / "ct", BODY, attributes={"ContributingEquipmentSequence": [item]})
    assert reasons(intake, tmp_path / "ct") == ["OWN_RESULT"]


def test_a_derived_series_is_processed_where_the_site_allows_it(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "node", admit={"derived": "allow"})
    write_ct_series(tmp_path / "ct", BODY, attributes={"ImageType": ["DERIVED", "SECONDARY"]})
    assert reasons(intake, tmp_path / "ct") == ["ADMITTED"]
    intake.close()


def test_lossy_compression_is_flagged_and_refuses_nothing(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY, attributes={"LossyImageCompression": "01"})
    (stack,) = intake.decide(tmp_path / "ct")
    assert stack.admitted
    assert {line["rule"]: line["outcome"] for line in stack.evidence}["lossless"] == "no"


def test_a_rule_of_the_site_refuses_by_name_and_shows_what_it_saw(tmp_path: Path) -> None:
    rule = {
        "name": "no pelvis",
        "attribute": "SeriesDescription",
        "operator": "regex",
        "value": "pelvis",
        "negate": True,
    }
    intake = Intake(tmp_path / "node", admit={"rules": [rule]})
    write_ct_series(tmp_path / "ct", BODY, series_description="PELVIS VENOUS")
    (stack,) = intake.decide(tmp_path / "ct")
    assert stack.reason_code == "RULE_FAILED"
    assert stack.facts == {"rule": "no pelvis", "outcome": "no", "seen": "PELVIS VENOUS"}
    intake.close()


def test_the_venous_thin_soft_series_of_a_study_is_chosen(intake: Intake, tmp_path: Path) -> None:
    thick = abdomen((30, 16, 18), (20.0, 20.0, 5.0))
    write_ct_series(tmp_path / "ct" / "a", BODY, name="arterial", series_description="ABD ARTERIAL")
    write_ct_series(tmp_path / "ct" / "b", BODY, name="venous", series_description="ABD VENOUS")
    write_ct_series(tmp_path / "ct" / "c", thick, name="thick", series_description="ABD VENOUS")
    sharp = {"ConvolutionKernel": "B70f"}
    write_ct_series(tmp_path / "ct" / "d", BODY, name="sharp", series_description="ABD VENOUS", attributes=sharp)
    stacks = intake.decide(tmp_path / "ct")
    outcome = {stack.facts.get("chosen", "chosen") for stack in stacks if not stack.admitted}
    assert [bool(stack.admitted) for stack in stacks].count(True) == 1
    (chosen,) = [stack for stack in stacks if stack.admitted]
    assert outcome == {f"{derived_uid('series', 'venous')}, whole series"}
    assert chosen.series_id in {series.id for series in intake.series() if series.state == "ADMITTED"}


def test_every_series_is_processed_where_the_site_says_so(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "node", admit={"process_all": True})
    for name in ("one", "two"):
        write_ct_series(tmp_path / "ct" / name, BODY, name=name)
    assert reasons(intake, tmp_path / "ct") == ["ADMITTED", "ADMITTED"]
    intake.close()


def test_a_better_series_that_comes_later_is_admitted_and_a_worse_one_is_not(intake: Intake, tmp_path: Path) -> None:
    thick = abdomen((30, 16, 18), (20.0, 20.0, 5.0))
    write_ct_series(tmp_path / "first", BODY, name="first")
    assert reasons(intake, tmp_path / "first") == ["ADMITTED"]
    write_ct_series(tmp_path / "worse", thick, name="worse")
    assert reasons(intake, tmp_path / "worse") == ["ADMITTED", "NOT_CHOSEN"]
    thin = abdomen((120, 16, 18), (20.0, 20.0, 1.25))
    write_ct_series(tmp_path / "better", thin, name="better")
    assert reasons(intake, tmp_path / "better") == ["NOT_CHOSEN", "NOT_CHOSEN", "ADMITTED"]
    assert [case.state for case in intake.cases()] == ["WITHDRAWN", "QUEUED"]


def test_a_late_slice_reopens_the_series_and_the_new_case_overtakes_the_old(intake: Intake, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", BODY)
    (tmp_path / "late").mkdir()
    late = paths[-1].rename(tmp_path / "late" / "late.dcm")
    assert reasons(intake, tmp_path / "ct") == ["ADMITTED"]
    assert reasons(intake, late.parent) == ["ADMITTED"]
    assert [case.state for case in intake.cases()] == ["SUPERSEDED", "QUEUED"]
    assert intake.series()[0].revision == 2


def test_a_case_that_was_carried_over_a_late_localizer_stays_the_studys_choice(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "first", BODY, name="z")
    assert reasons(intake, tmp_path / "first") == ["ADMITTED"]
    scout = Volume(BODY.hu[:1], BODY.lps_from_voxel)
    localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": derived_uid("series", "z")}
    write_ct_series(tmp_path / "late", scout, name="scout", attributes=localizer | {"Rows": 8})
    intake.decide(tmp_path / "late")
    # Equal in all that counts: the UID decides, and no moment of arrival.
    assert derived_uid("series", "z") < derived_uid("series", "b1")
    write_ct_series(tmp_path / "equal", BODY, name="b1")
    intake.decide(tmp_path / "equal")
    assert [case.state for case in intake.cases()] == ["QUEUED"]
    assert [series.reason_code for series in intake.series()] == [None, "NOT_CHOSEN"]


def test_an_overtaken_case_has_no_worker_any_more(intake: Intake, tmp_path: Path) -> None:
    from dicom_node.catalog.leases import take_lease

    paths = write_ct_series(tmp_path / "ct", BODY)
    (tmp_path / "late").mkdir()
    late = paths[-1].rename(tmp_path / "late" / "late.dcm")
    intake.decide(tmp_path / "ct")
    take_lease(intake.catalog.acting_as("test"), "somebody:1", 60.0)
    intake.decide(late.parent)
    old = intake.cases()[0]
    assert (old.state, old.lease_owner, old.lease_until) == ("SUPERSEDED", None, None)


ODD_FILES = {
    "a sequence that is a number": lambda image: image.add(DataElement(0x0018A001, "US", 5)),
    "a sequence of garbage": lambda image: image.add(DataElement(0x0018A001, "OB", b"\x01\x02\x03\x04\x05\x06")),
    # pydicom looks it up when it reads a sequence.
    "a pixel representation of two bytes as four": lambda image: setattr(
        image, "ContributingEquipmentSequence", [Dataset()]
    ),
    "positions beyond all floats": lambda image: setattr(image, "ImagePositionPatient", ["1.7e308"] * 3),
}
ODD_BYTES = {
    "a sequence of garbage": (b"\x18\x00\x01\xa0OB", b"\x18\x00\x01\xa0SQ"),
    "a pixel representation of two bytes as four": (b"\x28\x00\x03\x01US", b"\x28\x00\x03\x01UL"),
}


@pytest.mark.parametrize("fault", ODD_FILES)
def test_an_odd_series_is_decided_and_holds_up_no_other(intake: Intake, tmp_path: Path, fault: str) -> None:
    oblique = oriented(BODY, "oblique")
    paths = write_ct_series(tmp_path / "odd", oblique, each=lambda _, image: ODD_FILES[fault](image))
    for path in paths:
        content = path.read_bytes()
        patched = content.replace(*ODD_BYTES.get(fault, (b"", b"")), 1)
        assert fault not in ODD_BYTES or patched != content
        path.write_bytes(patched)
    write_ct_series(tmp_path / "sound", BODY, name="sound", study="another")
    outcome = reasons(intake, tmp_path / "odd", tmp_path / "sound")
    assert outcome[-1] == "ADMITTED"
    assert {series.state for series in intake.series()} <= {"ADMITTED", "REFUSED"}


@pytest.mark.parametrize(
    "place", ["dicom_node.assemble.stacks.split_into_stacks", "dicom_node.admit.admission.check_eligibility"]
)
def test_what_nobody_foresaw_in_one_series_refuses_it_and_holds_up_no_other(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    module, _, name = place.rpartition(".")
    real, calls = getattr(sys.modules[module], name), []

    def fail_once(*given: Any) -> Any:
        calls.append(1)
        return 1 // 0 if len(calls) == 1 else real(*given)

    monkeypatch.setattr(place, fail_once)
    write_ct_series(tmp_path / "ct" / "odd", BODY)
    write_ct_series(tmp_path / "ct" / "sound", BODY, name="sound", study="another")
    intake.decide(tmp_path / "ct")
    assert sorted(series.reason_code or "ADMITTED" for series in intake.series()) == ["ADMITTED", "UNREADABLE_HEADER"]
    (refused,) = [stack for stack in intake.stacks() if stack.reason_code]
    assert refused.facts["problem"].startswith("ZeroDivisionError in test_admit.py:")
    assert "STACK_REFUSED" in intake.events("series")


def test_the_same_images_again_make_no_new_case_and_reopen_nothing(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY)
    intake.decide(tmp_path / "ct")
    before = intake.events("series")
    intake.decide(tmp_path / "ct")
    assert intake.events("series") == before
    assert len(intake.cases()) == 1


def test_other_bytes_under_a_known_uid_are_kept_aside_and_the_stack_says_so(intake: Intake, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", BODY)
    changed = pydicom.dcmread(paths[9])
    changed.PixelData = bytes(len(changed.PixelData))
    (tmp_path / "ct" / "z").mkdir()
    changed.save_as(tmp_path / "ct" / "z" / "again.dcm")
    (stack,) = intake.decide(tmp_path / "ct")
    assert stack.admitted
    assert len(stack.images) == 60
    assert {"one content an image"} <= {line["rule"] for line in stack.evidence}
    assert "SET_ASIDE" in intake.events("series")


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        (range(0), "ADMITTED"),
        (range(40, 43), "GEOMETRY_GAP"),
        (range(86, 89), "ADMITTED"),
        (range(1, 89, 2), "ADMITTED"),
    ],
)
def test_the_real_venous_series_whole_with_a_gap_cut_at_the_top_and_thinned_out(
    intake: Intake, hcc_048: Path, tmp_path: Path, missing: range, code: str
) -> None:
    files = sorted(hcc_048.rglob("*.dcm"), key=lambda file: float(_position(file)))
    (tmp_path / "ct").mkdir()
    for n, file in enumerate(files):
        if n not in missing:
            (tmp_path / "ct" / file.name).symlink_to(file)
    assert reasons(intake, tmp_path / "ct") == [code]


def _position(file: Path) -> float:
    return pydicom.dcmread(file, specific_tags=["ImagePositionPatient"]).ImagePositionPatient[2]


@pytest.mark.parametrize(
    ("declared", "decision"),
    [
        (b"base64    ", "UNKNOWN_CHARACTER_SET"),
        (b"idna      ", "UNKNOWN_CHARACTER_SET"),
        (b"\\rot13    ", "UNKNOWN_CHARACTER_SET"),
        (b"utf-8     ", "UNKNOWN_CHARACTER_SET"),
        (b"ISO_IR 999", "UNKNOWN_CHARACTER_SET"),
        (b"ISO_IR 192", "ADMITTED"),
        (b"GB18030   ", "ADMITTED"),
        # Senders misspell it so, and pydicom puts it right.
        (b"ISO IR 100", "ADMITTED"),
    ],
)
def test_only_the_defined_character_sets_of_dicom_are_admitted(
    intake: Intake, tmp_path: Path, declared: bytes, decision: str
) -> None:
    for path in write_ct_series(tmp_path / "ct", BODY, attributes={"SpecificCharacterSet": "ISO_IR 100"}):
        content = path.read_bytes()
        assert content.count(b"ISO_IR 100") == 1
        path.write_bytes(content.replace(b"ISO_IR 100", declared))
    assert reasons(intake, tmp_path / "ct") == [decision]
