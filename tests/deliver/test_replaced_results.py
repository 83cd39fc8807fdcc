"""A replaced result is withdrawn by a rejection note where a destination takes them; elsewhere a person is told."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage, SegmentationStorage, SurfaceSegmentationStorage

from dicom_node.catalog.histories import case_history
from dicom_node.catalog.states import CaseState, DeliveryState
from dicom_node.processes.control_process import Jobs
from dicom_node.processes.replaced_results import answer_for_replaced
from dicom_node.processes.worker_process import work_once
from dicom_node.reasons import ProofError
from dicom_node.results.rejection_note import prove_rejection_note, write_rejection_note
from dicom_node.settings import Destination
from dicom_node.values.results import ObjectKind
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.result_case import CREATED_AT, ResultCase, case_on_disk, edited
from tests.deliver.destinations import destination, storage_scp
from tests.end_to_end.orthanc import Orthanc
from tests.thirdparty import need

THICK, THIN = abdomen((30, 32, 36), (10.0, 10.0, 5.0)), abdomen((60, 32, 36), (10.0, 10.0, 2.5))
CLASSES = (SegmentationStorage, SurfaceSegmentationStorage, KeyObjectSelectionDocumentStorage)


class Node:
    """Intake, worker and outbox over one catalogue; `round` is what the processes do between two images."""

    def __init__(self, folder: Path, to: Destination) -> None:
        self.intake = Intake(folder, destinations=[to.model_dump()])  # type: ignore[arg-type]
        self.jobs = Jobs(self.intake.settings, self.intake.catalog.acting_as("control"))

    def round(self, *sources: Path) -> None:
        self.intake.decide(*sources)
        worker = self.intake.catalog.acting_as("worker")
        while work_once(self.intake.settings, worker, EllipsoidEngine(), threading.Event()):
            pass
        self.intake.decide()
        for _ in range(2):
            self.jobs.outbox()
            self.jobs.deliver(self.intake.settings.destinations[0])

    def objects(self, case_id: str) -> dict[ObjectKind, Dataset]:
        with self.intake.catalog.read() as view:
            found = case_history(view, case_id).objects
        return {one.kind: pydicom.dcmread(self.intake.settings.node.spool / one.path) for one in found}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ResultCase:
    return case_on_disk(tmp_path_factory.mktemp("case"), abdomen())


def test_a_better_series_replaces_the_delivered_result_and_a_note_rejects_that(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "thick", THICK, name="thick")
    write_ct_series(tmp_path / "thin", THIN, name="thin")
    with storage_scp(classes=CLASSES) as pacs:
        node = Node(tmp_path / "node", destination(pacs.port, replaced_results="key-object"))
        node.round(tmp_path / "thick")
        node.round(tmp_path / "thin")
    old, new = node.intake.cases()
    assert (old.state, new.state, old.current, new.current) == (CaseState.SUPERSEDED, CaseState.DELIVERED, False, True)
    before, after = node.objects(old.id), node.objects(new.id)
    note = before[ObjectKind.REJECTION_NOTE]
    sent = [*(before[kind].SOPInstanceUID for kind in (ObjectKind.SEG, ObjectKind.SURFACE))]
    sent += [*(after[kind].SOPInstanceUID for kind in (ObjectKind.SEG, ObjectKind.SURFACE)), note.SOPInstanceUID]
    assert pacs.received == sent, "the note leaves when the new result is there"
    named = {
        str(one.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert named == set(sent[:2])
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    for kind in (ObjectKind.SEG, ObjectKind.SURFACE):
        assert "revision" not in before[kind].SeriesDescription
        assert "(revision 2, replaces 1)" in after[kind].SeriesDescription
        assert before[kind].SeriesInstanceUID in {one.SeriesInstanceUID for one in after[kind].RelatedSeriesSequence}
    node.intake.close()


def test_without_the_setting_the_audit_and_the_history_say_what_a_person_must_delete(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "thick", THICK, name="thick")
    write_ct_series(tmp_path / "thin", THIN, name="thin")
    with storage_scp(classes=CLASSES) as pacs:
        node = Node(tmp_path / "node", destination(pacs.port))
        node.round(tmp_path / "thick")
        node.round(tmp_path / "thin")
    old = node.intake.cases()[0]
    with node.intake.catalog.read() as view:
        history = case_history(view, old.id)
    states = {to.state for item in history.objects for to in item.deliveries}
    assert states == {DeliveryState.TO_DELETE}
    said = [str(row.facts["said"]) for row in history.audit if row.event == "LEFT_BEHIND"]
    series = [one.SeriesInstanceUID for one in node.objects(old.id).values()]
    assert said == [f"a person must delete series {uid}" for uid in series]
    assert history.to_delete == tuple(
        f"at pacs delete series {uid} ({kind})" for uid, kind in zip(series, ("seg", "surface"), strict=True)
    )
    assert len(pacs.received) == 4
    assert answer_for_replaced(node.intake.catalog.acting_as("control"), node.intake.settings) == 0, "it is said once"
    node.intake.close()


def test_a_note_that_the_destination_does_not_accept_leaves_the_old_result_to_a_person(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "thick", THICK, name="thick")
    write_ct_series(tmp_path / "thin", THIN, name="thin")
    with storage_scp() as pacs:
        node = Node(tmp_path / "node", destination(pacs.port, replaced_results="key-object"))
        node.round(tmp_path / "thick")
        node.round(tmp_path / "thin")
    with node.intake.catalog.read() as view:
        history = case_history(view, node.intake.cases()[0].id)
    states = {item.kind: to.state for item in history.objects for to in item.deliveries}
    assert states == {
        ObjectKind.SEG: DeliveryState.TO_DELETE,
        ObjectKind.SURFACE: DeliveryState.TO_DELETE,
        ObjectKind.REJECTION_NOTE: DeliveryState.NOT_ACCEPTED,
    }
    assert len(history.to_delete) == 2
    assert "does not accept Key Object Selection Document Storage" in history.not_accepted[0]
    node.intake.close()


def test_nothing_is_withdrawn_before_the_new_result_has_arrived(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "thick", THICK, name="thick")
    write_ct_series(tmp_path / "thin", THIN, name="thin")
    answers = iter([0x0000, 0x0000, *[0xA700] * 10])
    with storage_scp(lambda _: next(answers), classes=CLASSES) as pacs:
        node = Node(tmp_path / "node", destination(pacs.port, replaced_results="key-object"))
        node.round(tmp_path / "thick")
        node.round(tmp_path / "thin")
    old, new = node.intake.cases()
    assert (old.state, new.state) == (CaseState.SUPERSEDED, CaseState.DELIVERING)
    assert ObjectKind.REJECTION_NOTE not in node.objects(old.id)
    node.intake.close()


def written_note(case: ResultCase, folder: Path) -> Path:
    path = folder / "note.dcm"
    write_rejection_note([case.seg, case.surface], path, series_number=9199, created_at=CREATED_AT)
    return path


def test_the_same_replaced_objects_make_the_same_note(case: ResultCase, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first, second = written_note(case, tmp_path), written_note(case, tmp_path / "again")
    assert first.read_bytes() == second.read_bytes()
    assert prove_rejection_note(first, [case.seg, case.surface]) == 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda note: setattr(note, "PatientID", "other"),
        lambda note: setattr(note, "StudyInstanceUID", "2.25.9"),
        lambda note: setattr(note.ConceptNameCodeSequence[0], "CodeValue", "113000"),
        lambda note: note.ContentSequence.pop(),
        lambda note: note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop(),
        lambda note: setattr(note.ContentSequence[-1].ReferencedSOPSequence[0], "ReferencedSOPInstanceUID", "2.25.9"),
    ],
    ids=["patient", "study", "title", "one less", "one less as evidence", "another object"],
)
def test_a_note_that_says_anything_else_does_not_leave(
    case: ResultCase, tmp_path: Path, edit: Callable[[Dataset], object]
) -> None:
    path = written_note(case, tmp_path)
    edited(path, edit)
    with pytest.raises(ProofError):
        prove_rejection_note(path, [case.seg, case.surface])


@pytest.mark.thirdparty("dciodvfy")
def test_dciodvfy_finds_no_error_in_a_note(case: ResultCase, tmp_path: Path) -> None:
    said = subprocess.run([need("dciodvfy"), written_note(case, tmp_path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "Error" not in said.stderr


@pytest.mark.slow
@pytest.mark.thirdparty("Orthanc")
def test_orthanc_stores_both_results_and_the_note_that_rejects_the_first(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "thick", THICK, name="thick")
    write_ct_series(tmp_path / "thin", THIN, name="thin")
    with Orthanc(tmp_path / "orthanc", node_port=1) as pacs:
        to = destination(pacs.dicom_port, ae_title="ORTHANC", replaced_results="key-object", timeout_seconds=30)
        node = Node(tmp_path / "node", to)
        node.round(tmp_path / "thick")
        node.round(tmp_path / "thin")
        stored = [pacs.file(one) for one in pacs.get("/instances")]
    old = node.intake.cases()[0]
    note = node.objects(old.id)[ObjectKind.REJECTION_NOTE]
    assert len(stored) == 5
    assert note.SOPInstanceUID in {pydicom.dcmread(BytesIO(one)).SOPInstanceUID for one in stored}
    node.intake.close()
