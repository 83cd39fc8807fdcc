"""The DICOM modules the objects share: patient, study, series, equipment, references (PS3.3 A.51.3, A.57.3)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_node.dicom.character_sets import copied_element
from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.results.result_identity import NOT_FOR_DIAGNOSIS, ResultIdentity
from dicom_node.values.equipment import MANUFACTURER, MODEL
from dicom_node.values.object_kinds import OBJECT_KINDS
from dicom_node.values.results import ObjectKind

PATIENT_AND_STUDY_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Must stand in the object, empty where the source has none (PS3.3 C.7.1.1, C.7.2.1)."""

PATIENT_AND_STUDY_OPTIONAL = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "QualityControlSubject",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "StudyDescription",
    "ProcedureCodeSequence",
    "IssuerOfAccessionNumberSequence",
    "PhysiciansOfRecord",
    "ConsultingPhysicianName",
    "RequestingService",
    "ReferencedStudySequence",
    "ReferencedPatientSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "MedicalAlerts",
    "Allergies",
    "PregnancyStatus",
    "PatientSexNeutered",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
"""Kept where the source has them."""

ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
LIVER = codes.SCT.Liver
ALGORITHM_FAMILY = codes.DCM.ArtificialIntelligence
ALGORITHM_NAME = "Deep implicit statistical shape model"
SEGMENT_LABEL = "Liver"
CONTENT_LABEL = "LIVER"
DISPLAY_RGB = (221, 130, 101)
"""The liver's colour in 3D Slicer's generic anatomy table."""


def add_patient_and_study(target: Dataset, source: Dataset) -> None:
    """Copy the patient and study modules as they are, with their character set; nothing is invented."""
    target.StudyInstanceUID = source.StudyInstanceUID
    for keyword in PATIENT_AND_STUDY_TYPE_2:
        if keyword in source:
            target[keyword] = copied_element(source, keyword)
        else:
            setattr(target, keyword, None)
    for keyword in PATIENT_AND_STUDY_OPTIONAL:
        copy_readable(target, source, keyword)


def copy_readable(target: Dataset, source: Dataset, keyword: str) -> None:
    """Copy an attribute that may be left out; one whose value no reader could take (a size of "1,8") is left out."""
    try:
        if keyword in source:
            target[keyword] = copied_element(source, keyword)
    except PARSE_ERRORS:
        return


def empty_type_2(source: Dataset) -> list[str]:
    """The attributes every object must have and the source has no value for: nothing is invented for them (C8)."""
    return [keyword for keyword in PATIENT_AND_STUDY_TYPE_2 if not source.get(keyword)]


def add_series(target: Dataset, kind: ObjectKind, identity: ResultIdentity, number: int = 1) -> None:
    """The series module (PS3.3 C.7.3.1) and the object's own UIDs. number: of the instance in the series, from 1."""
    target.SOPClassUID = OBJECT_KINDS[kind].sop_class_uid
    target.Modality = OBJECT_KINDS[kind].modality
    target.SeriesInstanceUID = identity.series_uid(kind)
    target.SeriesNumber = identity.series_number(kind)
    target.SeriesDescription = identity.series_description(kind)
    target.SOPInstanceUID = identity.instance_uid(kind, number)
    target.InstanceNumber = number


def add_segment_description(segment: Dataset, identity: ResultIdentity) -> None:
    """Why a person should look at the segment and where (PS3.3 C.8.20.4); nothing where it needs no look."""
    if identity.segment_description:
        segment.SegmentDescription = f"{identity.segment_description}; {NOT_FOR_DIAGNOSIS}"


def add_dates(target: Dataset, identity: ResultIdentity) -> None:
    """Dates of series, content and instance from the audit's clock, in the zone the source declares (else UTC's)."""
    at = identity.created_at.astimezone(_declared_zone(target))
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(target, f"{name}Date", at.strftime("%Y%m%d"))
        setattr(target, f"{name}Time", at.strftime("%H%M%S.%f"))


def add_equipment(target: Dataset, source: Dataset, identity: ResultIdentity) -> None:
    """Who made it (PS3.3 C.7.5.1, C.7.5.2) and who contributed (C.12.1): scanner and node, as IHE AIR asks."""
    target.Manufacturer = MANUFACTURER
    target.ManufacturerModelName = MODEL
    target.DeviceSerialNumber = identity.bundle_digest[:16]
    target.SoftwareVersions = identity.software_versions
    known = list(deepcopy(source.get("ContributingEquipmentSequence", [])))
    target.ContributingEquipmentSequence = [*known, *_scanner(source), _this_node(identity)]


def add_frame_of_reference(target: Dataset, source: Dataset) -> None:
    """The source's frame of reference (PS3.3 C.7.4.1): results lie where the CT lies."""
    target.FrameOfReferenceUID = source.FrameOfReferenceUID
    target.PositionReferenceIndicator = source.get("PositionReferenceIndicator") or ""


def referenced_series(headers: Sequence[Dataset]) -> list[Dataset]:
    """ReferencedSeriesSequence of the common instance reference module (PS3.3 C.12.2)."""
    series = Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = [referenced_instance(header) for header in headers]
    return [series]


def referenced_instance(header: Dataset) -> Dataset:
    """One item that names a source image."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def algorithm_parameters(identity: ResultIdentity) -> dict[str, str]:
    """For AlgorithmParameters: the whole digest of the weights that were used, and the computation's arithmetic."""
    return {"bundle_sha256": identity.bundle_digest, "arithmetic": identity.arithmetic}


def _scanner(source: Dataset) -> list[Dataset]:
    """One item, or none where the source does not say who made it: Manufacturer is type 1 there."""
    if not source.get("Manufacturer"):
        return []
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.AcquisitionEquipment)]
    item["Manufacturer"] = deepcopy(source["Manufacturer"])
    for keyword in ("InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber"):
        if source.get(keyword):
            item[keyword] = deepcopy(source[keyword])
    return [item]


def _this_node(identity: ResultIdentity) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MODEL
    item.SoftwareVersions = identity.software_versions
    item.ContributionDateTime = identity.created_at.strftime("%Y%m%d%H%M%S.%f+0000")
    item.ContributionDescription = ALGORITHM_NAME
    return item


def _declared_zone(target: Dataset) -> timezone:
    """The zone of the object's own dates; a TimezoneOffsetFromUTC that cannot be read counts as none."""
    try:
        declared = datetime.strptime(str(target.get("TimezoneOffsetFromUTC", "+0000")), "%z")
    except ValueError:
        return UTC
    return timezone(declared.utcoffset() or timedelta())
