"""A Key Object Selection that rejects results which were replaced (PS3.3 A.35.4, PS3.16 TID 2010, IHE RAD IOCM)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import highdicom
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from dicom_node.reasons import REJECTION_NOTE_WRONG, ProofError
from dicom_node.results import modules
from dicom_node.results.object_file import save_object
from dicom_node.results.object_times import add_dates, local_time
from dicom_node.results.result_identity import NoteIdentity
from dicom_node.values.equipment import AI_MARK, MANUFACTURER, MODEL, SOFTWARE_VERSION
from dicom_node.values.results import ObjectKind, WrittenObject

TITLE = codes.DCM.RejectedForQualityReasons
SERIES_DESCRIPTION = f"{AI_MARK}liver: older results rejected"
KEY_OBJECT_DESCRIPTION = "Replaced by a newer AI result of the same study"
_COPIED = ("StudyInstanceUID", *modules.PATIENT_AND_STUDY_TYPE_2)


def write_rejection_note(
    replaced: Sequence[Path], path: Path, *, series_number: int, created_at: datetime
) -> WrittenObject:
    """Name result objects of one study as "Rejected for Quality Reasons" (113001, DCM).

    replaced: their files, as they were sent. created_at: UTC. The UIDs follow from what is named, so that a note that
    is written again is the same note. `prove_rejection_note` it before it leaves.
    """
    objects = [dcmread(file) for file in replaced]
    identity = NoteIdentity.of([str(one.SOPInstanceUID) for one in objects], created_at)
    content = highdicom.ko.KeyObjectSelection(
        document_title=TITLE, referenced_objects=objects, description=KEY_OBJECT_DESCRIPTION
    )
    dataset = highdicom.ko.KeyObjectSelectionDocument(
        evidence=objects,
        content=content,
        series_instance_uid=identity.uid("series"),
        series_number=series_number,
        sop_instance_uid=identity.uid("instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
    )
    modules.add_patient_and_study(dataset, objects[0])
    add_dates(dataset, identity)
    for item in dataset.get("ContributingEquipmentSequence", []):
        # highdicom names itself there, by its own clock.
        item.ContributionDateTime = local_time(objects[0], identity).strftime("%Y%m%d%H%M%S.%f%z")
    dataset.SeriesDescription = SERIES_DESCRIPTION
    dataset.ManufacturerModelName = MODEL
    dataset.SoftwareVersions = SOFTWARE_VERSION
    return save_object(dataset, ObjectKind.REJECTION_NOTE, path)


def prove_rejection_note(path: Path, replaced: Sequence[Path]) -> int:
    """Read the note back and compare it with the files it is about; how many objects it names.

    Title, patient, study, and the objects named, in the content and in the evidence, must be exactly those: a note
    that names anything else hides it in the archive. Raises ProofError(REJECTION_NOTE_WRONG).
    """
    note, objects = dcmread(path), [dcmread(file) for file in replaced]
    title = note.ConceptNameCodeSequence[0]
    if (title.CodeValue, title.CodingSchemeDesignator) != (TITLE.value, TITLE.scheme_designator):
        raise ProofError(REJECTION_NOTE_WRONG, problem="its title is not the one of a rejection")
    for one in objects:
        changed = [keyword for keyword in _COPIED if _text(note, keyword) != _text(one, keyword)]
        if changed:
            raise ProofError(REJECTION_NOTE_WRONG, problem=f"{', '.join(changed)} differ from the results'")
    expected = {(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in objects}
    if _named_in_content(note) != expected:
        raise ProofError(REJECTION_NOTE_WRONG, problem="its content does not name the replaced objects")
    in_series = {(str(one.SeriesInstanceUID), str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in objects}
    if _named_as_evidence(note) != in_series:
        raise ProofError(REJECTION_NOTE_WRONG, problem="its evidence does not name the replaced objects")
    return len(expected)


def _named_in_content(note: Dataset) -> set[tuple[str, str]]:
    references = [item for part in note.ContentSequence for item in part.get("ReferencedSOPSequence", [])]
    return {(str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID)) for one in references}


def _named_as_evidence(note: Dataset) -> set[tuple[str, str, str]]:
    studies = note.CurrentRequestedProcedureEvidenceSequence
    if [str(study.StudyInstanceUID) for study in studies] != [str(note.StudyInstanceUID)]:
        return set()
    return {
        (str(series.SeriesInstanceUID), str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID))
        for series in studies[0].ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value)
