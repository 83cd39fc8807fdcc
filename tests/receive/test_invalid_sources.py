"""Images that are withdrawn, or come under another patient, leave no result that stands silently for the wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.dsutils import encode
from typer.testing import CliRunner

from dicom_node.catalog.histories import case_history
from dicom_node.catalog.intake import retry_series
from dicom_node.catalog.states import CaseState, SeriesState
from dicom_node.cli.app import app
from dicom_node.deliver.outbox import deliver_to, queue_proven
from dicom_node.processes.series_index import index_series
from dicom_node.processes.worker_process import work_once
from dicom_node.receive.incoming_rejection import KEY_OBJECT_SELECTION
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake, running_listener
from tests.builders.senders import audit_facts, raw_store, raw_store_bytes
from tests.deliver.destinations import destination, storage_scp


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    identity = {"PatientID": "PID-1", "AccessionNumber": "ACC-1"}
    write_ct_series(folder, abdomen(), series_description="Abdomen portal venous", attributes=identity)
    return folder


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Intake]:
    intake = Intake(tmp_path / "data")
    with running_listener(intake.settings, intake.catalog):
        yield intake
    intake.catalog.close()


def decide(node: Intake, *sources: Path) -> None:
    node.decide(*sources)
    index_series(node.catalog.acting_as("control"), node.settings.node)


def first_image(folder: Path, **changes: str) -> Dataset:
    image = pydicom.dcmread(sorted(folder.iterdir())[0])
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    return image


def rejection_note(folder: Path, code: str, count: int = 1) -> Dataset:
    """A Key Object Selection that names the first images of a folder (PS3.3 A.35.4)."""
    named = [pydicom.dcmread(one, stop_before_pixels=True) for one in sorted(folder.iterdir())[:count]]
    title, evidence, series = Dataset(), Dataset(), Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code, "DCM", "title"
    series.SeriesInstanceUID = named[0].SeriesInstanceUID
    series.ReferencedSOPSequence = []
    for image in named:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        series.ReferencedSOPSequence.append(item)
    evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence = named[0].StudyInstanceUID, [series]
    note = Dataset()
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECT_SELECTION, generate_uid()
    note.StudyInstanceUID, note.SeriesInstanceUID = named[0].StudyInstanceUID, generate_uid()
    note.Modality, note.ValueType = "KO", "CONTAINER"
    note.ConceptNameCodeSequence = [title]
    note.CurrentRequestedProcedureEvidenceSequence = [evidence]
    return note


def send_note(node: Intake, note: Dataset) -> int:
    content = encode(note, False, True)
    return int(raw_store_bytes(node, content, str(note.SOPInstanceUID), KEY_OBJECT_SELECTION).Status)


@pytest.mark.parametrize("code", ["113001", "113037", "113038", "113039"])
def test_a_rejection_note_makes_the_cases_of_its_images_invalid_and_says_so(
    node: Intake, images: Path, code: str
) -> None:
    decide(node, images)
    assert send_note(node, rejection_note(images, code, count=3)) == 0
    (case,), (series,) = node.cases(), node.series()
    assert (case.state, case.reason_code, case.facts["code"]) == (CaseState.INVALID, "SOURCE_REJECTED", code)
    assert (series.state, series.reason_code) == (SeriesState.REFUSED, "SOURCE_REJECTED")
    (facts,) = audit_facts(node, "REJECTION_NOTE")
    assert (facts["code"], facts["images"]) == (code, 3)


def test_images_that_come_after_their_rejection_are_refused(node: Intake, images: Path) -> None:
    assert send_note(node, rejection_note(images, "113001")) == 0
    assert send_note(node, rejection_note(images, "113001")) == 0
    decide(node, images)
    assert (node.cases(), node.series()[0].reason_code) == ([], "SOURCE_REJECTED")


def test_key_objects_that_withdraw_nothing_are_refused_and_change_nothing(node: Intake, images: Path) -> None:
    decide(node, images)
    assert send_note(node, rejection_note(images, "113000")) == 0xC000
    empty = rejection_note(images, "113001")
    del empty.CurrentRequestedProcedureEvidenceSequence
    assert send_note(node, empty) == 0xC000
    assert node.cases()[0].state == CaseState.QUEUED


def test_the_same_image_under_another_patient_makes_a_delivered_case_invalid_and_show_says_what_to_delete(
    node: Intake, images: Path, tmp_path: Path
) -> None:
    decide(node, images)
    recorder = node.catalog.acting_as("test")
    assert work_once(node.settings, recorder, EllipsoidEngine())
    with storage_scp() as pacs:
        to = destination(pacs.port)
        queue_proven(recorder, [to])
        deliver_to(recorder, to, node.settings.node.spool)
    assert node.cases()[0].state == CaseState.DELIVERED
    assert raw_store(node, first_image(images, PatientID="PID-2")).Status == 0
    (case,) = node.cases()
    assert (case.state, case.reason_code) == (CaseState.INVALID, "OTHER_PATIENT")
    with node.catalog.read() as view:
        history = case_history(view, case.id)
    assert [line.partition(" series ")[0] for line in history.to_delete] == ["at pacs delete"] * 2
    assert (history.case.current, history.why_to_delete) == (False, "its images are invalid")
    file = tmp_path / "settings.toml"
    file.write_text(f'[node]\ndata_folder = "{node.settings.node.data_folder}"\n')
    shown = CliRunner().invoke(app, ["show", case.id, "--settings", str(file)]).output
    assert pacs.received[0] in shown
    assert "PID-" not in shown
    assert CliRunner().invoke(app, ["resend", case.id, "--settings", str(file)]).exit_code != 0


def test_a_name_spelt_otherwise_and_a_padded_patient_id_are_no_other_patient(node: Intake, images: Path) -> None:
    decide(node, images)
    raw_store(node, first_image(images, PatientName="OTHER^SPELLING", PatientID=" pid-1 "))
    assert node.cases()[0].state == CaseState.QUEUED


def test_two_patients_in_one_series_are_refused_until_a_person_says_that_the_first_is_right(
    node: Intake, images: Path, tmp_path: Path
) -> None:
    decide(node, images)
    other = first_image(images, PatientID="PID-2", SOPInstanceUID=generate_uid())
    assert raw_store(node, other).Status == 0
    node.decide()
    assert (node.cases()[0].state, node.series()[0].reason_code) == (CaseState.INVALID, "OTHER_PATIENT")
    with node.catalog.acting_as("retry").write() as tx:
        retry_series(tx, node.series()[0].series_instance_uid)
    node.decide()
    assert node.series()[0].reason_code != "OTHER_PATIENT"
