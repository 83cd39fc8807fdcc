"""The report's numbers are the SEG's, its words the case's; validators find no error; a wrong one does not leave."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from dicom_node.reasons import ProofError
from dicom_node.results.proof import prove
from dicom_node.results.proof_request import ProofRequest
from dicom_node.settings import ResultSettings
from dicom_node.values.phase import Phase
from dicom_node.values.results import ObjectKind
from dissm_engine.findings import Verdict
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import ORIENTATIONS, abdomen, oriented
from tests.builders.result_case import ResultCase, case_in_memory, edited, written_case
from tests.thirdparty import need, need_file

SMALL = abdomen(shape=(22, 25, 27), spacing=(5.0, 5.5, 6.0))
REPORT = ResultSettings(objects=["seg", "surface", "sr"])
REASON = "the scan ends within the liver, at the bottom, images 1-2"


def report(case: ResultCase) -> Path:
    (path,) = case.request().files[ObjectKind.SR]
    return path


def items(parent: Dataset) -> list[Dataset]:
    own = list(parent.get("ContentSequence") or [])
    return own + [below for item in own for below in items(item)]


def numbers(path: Path) -> dict[str, float]:
    return {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
        for item in items(pydicom.dcmread(path))
        if item.ValueType == "NUM"
    }


@pytest.fixture
def doubted(tmp_path: Path) -> ResultCase:
    plain = case_in_memory(tmp_path / "plain", SMALL)
    found = ellipsoid_delineation(SMALL.grid)
    found = replace(found, findings=replace(found.findings, verdict=Verdict.REVIEW, reasons=(REASON,)))
    return written_case(tmp_path / "doubted", plain.stack, REPORT, found)


def request_of(case: ResultCase) -> ProofRequest:
    return replace(case.request(), mark=Verdict.REVIEW, reasons=(REASON,))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_numbers_are_those_of_the_seg_on_the_disk(tmp_path: Path, orientation: str) -> None:
    case = case_in_memory(tmp_path, oriented(SMALL, orientation), REPORT)
    proof = case.prove()
    assert proof.further["sr"]["numbers"] == 7
    said = numbers(report(case))
    assert said["Volume"] == pytest.approx(proof.seg_volume_ml, abs=0.06)
    assert said["Surface area (mesh)"] == pytest.approx(case.delineation.mesh.area_cm2, abs=0.06)
    if orientation != "oblique":
        spread = np.ptp(case.delineation.mesh.vertices, axis=0)
        assert [said[name] for name in ("Width", "Depth", "Height")] == pytest.approx(spread, abs=7)


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_dciodvfy_and_pixelmed_find_no_error(tmp_path: Path, orientation: str) -> None:
    case = case_in_memory(tmp_path, oriented(SMALL, orientation), REPORT)
    said = subprocess.run([need("dciodvfy"), report(case)], capture_output=True, text=True, check=False)
    assert "Error" not in said.stderr + said.stdout, said.stderr
    assert "Comprehensive3DSR" in said.stderr.split()
    jar = need_file(Path("/usr/share/java/pixelmed.jar"), "libpixelmed-java")
    limits = [f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprOp", "ExprGrp")]
    validator = [need("java"), *limits, "-cp", jar, "com.pixelmed.validate.DicomSRValidator", report(case)]
    done = subprocess.run(validator, capture_output=True, text=True, check=False)
    assert "Found Root Template TID_1500" in done.stdout + done.stderr
    assert "IOD validation complete" in done.stdout + done.stderr
    assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_dcmqi_reads_the_report(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL, REPORT)
    out = tmp_path / "report.json"
    done = subprocess.run(
        [need("tid1500reader"), "--inputDICOM", report(case), "--outputMetadata", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{numbers(report(case))['Volume']:.1f}" in out.read_text(encoding="utf-8")


def test_verdict_and_reasons_stand_in_words(doubted: ResultCase) -> None:
    prove(request_of(doubted))
    dataset = pydicom.dcmread(report(doubted))
    texts = {item.TextValue for item in items(dataset) if item.ValueType == "TEXT"}
    assert {REASON, "AI result, not for primary diagnosis"} <= texts
    assert "REVIEW" in dataset.SeriesDescription
    assert dataset.SeriesNumber == 9104
    assert (dataset.CompletionFlag, dataset.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


def test_a_report_that_hides_a_reason_or_the_verdict_does_not_leave(doubted: ResultCase) -> None:
    asked = request_of(doubted)
    with pytest.raises(ProofError, match="sentences are missing"):
        prove(replace(asked, reasons=(REASON, "liver-like tissue lies outside")))
    with pytest.raises(ProofError, match="another verdict"):
        prove(replace(asked, mark=Verdict.ACCEPT))
    with pytest.raises(ProofError, match="another phase"):
        prove(replace(asked, phase=Phase.ARTERIAL))


def number_of(dataset: Dataset, meaning: str) -> Dataset:
    return next(
        item
        for item in items(dataset)
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    )


def change_the_volume(dataset: Dataset) -> None:
    value = number_of(dataset, "Volume").MeasuredValueSequence[0]
    value.NumericValue = float(value.NumericValue) + 0.2


def give_the_volume_in_litres(dataset: Dataset) -> None:
    number_of(dataset, "Volume").MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "L"


def swap_width_and_depth(dataset: Dataset) -> None:
    wide, deep = number_of(dataset, "Width"), number_of(dataset, "Depth")
    wide.MeasuredValueSequence, deep.MeasuredValueSequence = deep.MeasuredValueSequence, wide.MeasuredValueSequence


def name_another_seg(dataset: Dataset) -> None:
    (segment,) = (item for item in items(dataset) if item.ValueType == "IMAGE")
    segment.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def drop_the_evidence(dataset: Dataset) -> None:
    del dataset.CurrentRequestedProcedureEvidenceSequence


def give_to_another_patient(dataset: Dataset) -> None:
    dataset.PatientID = "someone else"


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (change_the_volume, "118565006 differs by 0.2"),
        (give_the_volume_in_litres, "other names or units"),
        (swap_width_and_depth, "differs by"),
        (name_another_seg, "does not name the SEG"),
        (drop_the_evidence, "evidence"),
        (give_to_another_patient, "PatientID"),
    ],
)
def test_a_report_that_is_wrong_does_not_leave(tmp_path: Path, edit: Callable[[Dataset], None], problem: str) -> None:
    case = case_in_memory(tmp_path, SMALL, REPORT)
    edited(report(case), edit)
    with pytest.raises(ProofError, match=problem):
        case.prove()


def test_without_a_measured_spleen_nothing_is_said_of_it(tmp_path: Path) -> None:
    plain = case_in_memory(tmp_path / "plain", SMALL)
    found = ellipsoid_delineation(SMALL.grid, tissue_hu={"liver": 105.0, "spleen": float("nan")})
    case = written_case(tmp_path / "case", plain.stack, REPORT, found)
    assert case.prove().further["sr"]["numbers"] == 6
