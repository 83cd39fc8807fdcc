from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from dicom_node.catalog import audit
from dicom_node.catalog.audit import SubjectKind
from dicom_node.catalog.database import View
from dicom_node.catalog.leases import LeaseLost
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case, Instance, Series
from dicom_node.processes.case_processing import Engine
from dicom_node.processes.worker_process import work_once
from dicom_node.reasons import LEASE_LOST
from dicom_node.results.surface.reader import read_surface
from dicom_node.values.object_kinds import PROFILES
from dicom_node.values.phase import Phase, PhaseVerdict
from dicom_node.values.results import CaseResults, FindingRecord
from dissm_engine.delineation import Delineation
from dissm_engine.errors import NO_SURFACE, DelineationError
from dissm_engine.findings import Finding, Findings, Place, Side, Verdict
from dissm_engine.progress import Cancellation, Monitor, Progress, no_progress
from dissm_engine.volume import Volume
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import changed_rows, rows
from tests.work.engines import HungEngine, RaisingEngine, UnreasonableEngine


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_ct_series(folder, abdomen(), series_description="Abdomen portal venous")
    return folder


@pytest.fixture(scope="module")
def unnamed_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unnamed")
    write_ct_series(folder, abdomen(), name="unnamed", study="unnamed", series_description="Abdomen")
    return folder


def queued(tmp_path: Path, images: Path, **tables: dict[str, object]) -> Intake:
    intake = Intake(tmp_path / "data", **tables)
    intake.decide(images)
    return intake


def worked(intake: Intake, engine: Engine) -> Case:
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), engine)
    return only_case(intake)


def only_case(intake: Intake) -> Case:
    with rows(intake.catalog) as session:
        (case,) = session.query(Case).all()
        session.refresh(case, ["objects"])
        return case


def events(intake: Intake, case: Case) -> list[str]:
    with rows(intake.catalog) as session:
        return [row.event for row in audit.rows(View(session), subject_kind=SubjectKind.CASE, subject=case.id)]


def test_a_case_becomes_proven_objects_with_numbers_in_the_audit(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images)
    case = worked(intake, EllipsoidEngine())
    assert (case.state, case.phase, case.verdict, case.lease_owner) == (CaseState.PROVEN, "venous", "ACCEPT", None)
    assert events(intake, case) == ["CREATED", "LEASED", "FIELD_READY", "OBJECTS_PROVEN"]
    with rows(intake.catalog) as session:
        proof = audit.last_rows(View(session), 1)[0].facts["proof"]
    assert proof["seg_volume_ml"] == pytest.approx(case.volume_ml, abs=0.01)
    assert {item.kind for item in case.objects} == {"seg", "surface"}
    for item in case.objects:
        file = intake.settings.node.spool / item.path
        assert file.is_file()
        assert item.attempt == 1
    assert case.results["bundle"]["name"] == "analytic"
    surface = next(item for item in case.objects if item.kind == "surface")
    assert len(read_surface(intake.settings.node.spool / surface.path).mesh.vertices) == proof["surface_vertices"]


def test_a_doubted_case_gets_every_object_of_its_profile_with_numbers_of_each_in_the_audit(
    tmp_path: Path, images: Path
) -> None:
    intake = queued(tmp_path, images, results={"objects": "all"})
    case = worked(intake, EllipsoidEngine(verdict=Verdict.REVIEW))
    assert case.state == CaseState.PROVEN, case.reason_code
    assert {item.kind for item in case.objects} == set(PROFILES["all"])
    with rows(intake.catalog) as session:
        facts = audit.last_rows(View(session), 1)[0].facts
    for kind in ("capture", "sr", "rtstruct", "stl"):
        assert facts["proof"][kind]
    captures = [item for item in case.objects if item.kind == "capture"]
    assert {f"capture-{number + 1}" for number in range(len(captures))} <= set(facts["objects"])
    assert len({item.sop_instance_uid for item in case.objects}) == len(case.objects)


def test_a_result_that_the_engine_rejects_is_held_and_writes_no_object(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images)
    case = worked(intake, EllipsoidEngine(verdict=Verdict.REJECT))
    assert (case.state, case.reason_code, case.objects) == (CaseState.HELD, "RESULT_REJECTED", [])
    assert not (intake.settings.node.spool / "results").exists()


def test_a_site_may_want_rejected_results_too(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images, results={"send_rejected": True})
    assert worked(intake, EllipsoidEngine(verdict=Verdict.REJECT)).state == CaseState.PROVEN


def test_an_arterial_image_without_words_is_refused_with_its_evidence(tmp_path: Path, unnamed_images: Path) -> None:
    intake = queued(tmp_path, unnamed_images)
    case = worked(intake, EllipsoidEngine(tissue_hu={"liver": 64.0, "aorta": 338.0, "spleen": 99.0}))
    assert (case.state, case.reason_code) == (CaseState.REFUSED, "PHASE_NOT_VENOUS")
    assert "aorta 338" in case.facts["evidence"]


def test_an_unknown_phase_is_processed_and_marked_for_review(tmp_path: Path, unnamed_images: Path) -> None:
    intake = queued(tmp_path, unnamed_images)
    case = worked(intake, EllipsoidEngine(tissue_hu={}))
    assert (case.state, case.phase, case.verdict) == (CaseState.PROVEN, "unknown", "REVIEW")


def test_an_incomplete_series_is_processed_and_marked_for_review_in_catalogue_and_objects(
    tmp_path: Path, images: Path
) -> None:
    intake = Intake(tmp_path / "data")
    intake.decide(images)
    with changed_rows(intake.catalog) as session:
        session.query(Series).one().completeness = "incomplete"
    case = worked(intake, EllipsoidEngine())
    assert (case.state, case.phase, case.verdict) == (CaseState.PROVEN, "venous", "REVIEW")
    assert any("images may be missing" in reason for reason in case.results["findings"]["reasons"])
    written = [pydicom.dcmread(intake.settings.node.spool / item.path) for item in case.objects]
    assert [image.SeriesDescription.endswith("REVIEW") for image in written] == [True, True]


class DoubtfulEngine(EllipsoidEngine):
    """Finds liver-like tissue outside its outline, in the first two slices of the volume."""

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        found = super().delineate(volume, progress, cancellation)
        place = Place((Side.LEFT,), 1, 2, (80.0, -20.04, 130.0))
        item = Finding("left_out", 90.0, "ml", 0.0, 20.0, place, "liver-like tissue of 90 ml lies outside the outline")
        findings = Findings((item,), 0.92, Verdict.REVIEW, ("estimated DSC is 0.92", item.sentence))
        return replace(found, findings=findings)


def test_where_to_look_stands_in_catalogue_audit_and_objects_by_the_numbers_of_the_images(
    tmp_path: Path, images: Path
) -> None:
    intake = queued(tmp_path, images)
    case = worked(intake, DoubtfulEngine())
    numbers = sorted(int(pydicom.dcmread(file).InstanceNumber) for file in images.iterdir())
    lowest = {int(i.InstanceNumber): i.ImagePositionPatient[2] for i in map(pydicom.dcmread, sorted(images.iterdir()))}
    first, second = sorted(lowest, key=lambda number: lowest[number])[:2]
    named = f"images {min(first, second)}-{max(first, second)}"
    reason = f"liver-like tissue of 90 ml lies outside the outline, on the left, {named} (usual 0 to 20 ml)"
    assert len(numbers) == len(set(numbers))
    assert case.results["findings"]["reasons"] == ["estimated DSC is 0.92", reason]
    (item,) = CaseResults.from_json(case.results).findings
    assert (item.place, item.point_lps) == (f"on the left, {named}", (80.0, -20.0, 130.0))
    with rows(intake.catalog) as session:
        facts = [row.facts for row in audit.rows(View(session)) if row.event == "FIELD_READY"]
    assert facts[0]["reasons"] == ["estimated DSC is 0.92", reason]
    written = [pydicom.dcmread(intake.settings.node.spool / item.path) for item in case.objects]
    for image in written:
        assert image.SeriesDescription.endswith(f"REVIEW on the left, {named}")
        assert reason in image.SegmentSequence[0].SegmentDescription


def test_findings_survive_the_catalogue_and_those_of_older_rows_have_no_place() -> None:
    place = FindingRecord("left_out", 90.0, "ml", 0.0, 20.0, True, "on the left, images 40-55", (80.0, -20.0, 130.0))
    older = FindingRecord("volume", 1400.0, "ml", 600.0, 3000.0, False)
    assert older.to_json().keys() == {"name", "value", "unit", "low", "high", "remarkable"}
    results = CaseResults(
        *({"pose": 1.0}, Verdict.REVIEW, 0.92, ("look",), (place, older), {"liver": 105.0}),
        *(PhaseVerdict(Phase.VENOUS, ""), "liver", "0.4.0", "ab" * 32),
    )
    assert CaseResults.from_json(json.loads(json.dumps(results.to_json()))) == results


def test_a_volume_without_a_liver_is_refused(tmp_path: Path, images: Path) -> None:
    case = worked(queued(tmp_path, images), RaisingEngine(DelineationError(NO_SURFACE)))
    assert (case.state, case.reason_code) == (CaseState.REFUSED, "NO_LIVER")


def test_bytes_that_changed_in_the_spool_are_never_delineated(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images)
    with rows(intake.catalog) as session:
        file = intake.settings.node.spool / session.query(Instance).first().path  # type: ignore[union-attr]
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    case = worked(intake, EllipsoidEngine())
    assert (case.state, case.reason_code) == (CaseState.FAILED, "SPOOL_DAMAGED")


def test_an_error_without_a_reason_fails_the_case_and_the_worker_goes_on(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images)
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), UnreasonableEngine())
    case = only_case(intake)
    assert (case.state, case.reason_code, case.lease_owner) == (CaseState.FAILED, "UNEXPECTED_ERROR", None)
    assert case.facts["problem"].startswith("ZeroDivisionError in engines.py:")


def test_trouble_of_the_machine_escapes_and_the_case_is_queued_again(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images, work={"max_attempts": 2})
    for state in (CaseState.QUEUED, CaseState.PARKED):
        with pytest.raises(MemoryError):
            work_once(intake.settings, intake.catalog.acting_as("worker-1"), RaisingEngine(MemoryError()))
        assert only_case(intake).state == state


def test_a_case_that_makes_no_progress_is_given_back_and_its_process_ended(tmp_path: Path, images: Path) -> None:
    intake, engine = queued(tmp_path, images, work={"stalled_minutes": 0.02}), HungEngine()
    # Stands for the end of the process: only that stops an engine that hangs.
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), engine, end=engine.released.set)
    case = only_case(intake)
    assert (case.state, case.reason_code) == (CaseState.QUEUED, "WORKER_LOST")
    assert events(intake, case) == ["CREATED", "LEASED", "WORKER_LOST"]
    with rows(intake.catalog) as session:
        assert audit.last_rows(View(session), 1)[0].facts["problem"] == "no progress for 0.02 minutes"


def test_a_case_whose_lease_could_not_be_renewed_is_given_back_since_its_process_lives(
    tmp_path: Path, images: Path
) -> None:
    intake = queued(tmp_path, images)
    # What the lease renewer does when the database took no renewal for too long; the row is still this process's.
    assert work_once(
        intake.settings, intake.catalog.acting_as("worker-1"), RaisingEngine(LeaseLost(LEASE_LOST, case="this"))
    )
    case = only_case(intake)
    assert (case.state, case.lease_owner) == (CaseState.QUEUED, None)


class OvertakenEngine(EllipsoidEngine):
    """Another worker takes the case while this one computes."""

    def __init__(self, intake: Intake) -> None:
        super().__init__()
        self.intake = intake

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        with changed_rows(self.intake.catalog) as session:
            for case in session.query(Case):
                case.lease_owner = "elsewhere:1:1"
        monitor, deadline = Monitor(progress, cancellation or Cancellation()), time.monotonic() + 20
        while time.monotonic() < deadline:
            monitor.report("waiting", 0.5)
            time.sleep(0.05)
        return super().delineate(volume, progress, cancellation)


def test_a_case_that_another_worker_has_taken_is_left_to_it(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images)
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), OvertakenEngine(intake))
    case = only_case(intake)
    assert (case.state, case.lease_owner) == (CaseState.RUNNING, "elsewhere:1:1")
    assert events(intake, case) == ["CREATED", "LEASED"]


def test_a_case_in_hand_when_the_node_stops_is_queued_again_at_no_cost(tmp_path: Path, images: Path) -> None:
    intake, stop = queued(tmp_path, images, work={"max_attempts": 1}), threading.Event()
    stop.set()
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine(), stop)
    case = only_case(intake)
    assert (case.state, case.lease_owner) == (CaseState.QUEUED, None)
    with rows(intake.catalog) as session:
        assert audit.last_rows(View(session), 1)[0].facts["problem"] == "the node was stopped"


def test_a_retry_makes_the_same_objects_again(tmp_path: Path, images: Path) -> None:
    intake = queued(tmp_path, images, work={"max_attempts": 1})
    with pytest.raises(MemoryError):
        work_once(intake.settings, intake.catalog.acting_as("worker-1"), RaisingEngine(MemoryError()))
    from dicom_node.catalog.leases import retry_case

    retry_case(intake.catalog.acting_as("test"), only_case(intake).id)
    case = worked(intake, EllipsoidEngine())
    assert case.state == CaseState.PROVEN
    other = worked(queued(tmp_path / "other", images), EllipsoidEngine())
    uids = [{item.kind: item.sop_instance_uid for item in each.objects} for each in (case, other)]
    assert uids[0] == uids[1]


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "data")
    assert not work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
