"""The numbers and the findings as a structured report: TID 1500 in a Comprehensive 3D SR (PS3.3 A.35.13, PS3.16)."""

from __future__ import annotations

from collections.abc import Iterator

import highdicom
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from dicom_node.results import modules
from dicom_node.results.object_file import save_object
from dicom_node.results.object_times import add_dates
from dicom_node.results.result_numbers import ResultNumbers
from dicom_node.results.writer_input import WriterInput
from dicom_node.values.equipment import MANUFACTURER, MODEL
from dicom_node.values.phase import Phase
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.findings import Verdict

_OWN_CODES = "99DISSM"
_MILLILITRE = Code("mL", "UCUM", "milliliter")
_SURFACE_AREA = Code("C0JK", "IBSI", "Surface area (mesh)")
_PHASES = {
    Phase.VENOUS: Code("RID11085", "RADLEX", "portal venous phase"),
    Phase.ARTERIAL: Code("RID11080", "RADLEX", "arterial phase"),
    Phase.UNENHANCED: Code("RID11086", "RADLEX", "unenhanced phase"),
    Phase.OTHER: Code("74964007", "SCT", "Other"),
    Phase.UNKNOWN: Code("261665006", "SCT", "Unknown"),
}
_VERDICTS = {
    Verdict.ACCEPT: Code("ACCEPT", _OWN_CODES, "No finding speaks against the result"),
    Verdict.REVIEW: Code("REVIEW", _OWN_CODES, "To be looked at before it is used"),
    Verdict.REJECT: Code("REJECT", _OWN_CODES, "Not to be used"),
}
_NOT_FOR_DIAGNOSIS = "AI result, not for primary diagnosis"
_EVIDENCE_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def write_sr(given: WriterInput) -> tuple[WrittenObject, ...]:
    """Write the report. It refers to the CT, to the SEG, and to the other segmentations that were written before."""
    source, identity = given.stack.headers[0], given.identity
    dataset = sr.Comprehensive3DSR(
        evidence=list(_evidence(given)),
        content=_report(given),
        series_instance_uid=identity.series_uid(ObjectKind.SR),
        series_number=identity.series_number(ObjectKind.SR),
        sop_instance_uid=identity.instance_uid(ObjectKind.SR),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    modules.add_patient_and_study(dataset, source)
    modules.add_series(dataset, ObjectKind.SR, identity)
    add_dates(dataset, identity)
    modules.add_equipment(dataset, source, identity)
    return (save_object(dataset, ObjectKind.SR, given.path(ObjectKind.SR)),)


def _evidence(given: WriterInput) -> Iterator[Dataset]:
    """What the report rests on, by its UIDs; highdicom's copies of the patient's attributes are replaced later."""
    study = given.stack.headers[0].StudyInstanceUID
    for header in given.stack.headers:
        yield _as_evidence({keyword: header[keyword].value for keyword in _EVIDENCE_KEYWORDS})
    for item in given.written:
        if item.kind in (ObjectKind.SEG, ObjectKind.SURFACE):
            uids = (item.sop_class_uid, item.sop_instance_uid, study, given.identity.series_uid(item.kind))
            yield _as_evidence(dict(zip(_EVIDENCE_KEYWORDS, uids, strict=True)))


def _as_evidence(uids: dict[str, str]) -> Dataset:
    named = Dataset()
    for keyword, value in uids.items():
        setattr(named, keyword, value)
    for keyword in modules.PATIENT_AND_STUDY_TYPE_2:
        setattr(named, keyword, None)
    return named


def _report(given: WriterInput) -> sr.MeasurementReport:
    identity = given.identity
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=identity.named_uid(ObjectKind.SR, "device"),
        name=MODEL,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL,
        serial_number=identity.bundle_digest[:16],
    )
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))
    return sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[_liver(given, given.measured.numbers)],
        title=codes.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            sr.CodedConcept("en-US", "RFC5646", "English (United States)")
        ),
    )


def _liver(given: WriterInput, numbers: ResultNumbers) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """One measurement group (TID 1411) of the SEG's segment, with verdict, phase and findings."""
    identity = given.identity
    (seg,) = (item for item in given.written if item.kind is ObjectKind.SEG)
    group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(identity.named_uid(ObjectKind.SR, "liver"), "Liver"),
        referenced_segment=sr.ReferencedSegment(
            seg.sop_class_uid,
            seg.sop_instance_uid,
            segment_number=1,
            source_series=sr.SourceSeriesForSegmentation(given.stack.headers[0].SeriesInstanceUID),
        ),
        finding_type=modules.LIVER,
        finding_category=modules.ANATOMICAL_STRUCTURE,
        algorithm_id=sr.AlgorithmIdentification(modules.ALGORITHM_NAME, identity.algorithm_version),
        measurements=_measurements(numbers),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(codes.DCM.QualityAssessment, _VERDICTS[identity.mark]),
            sr.QualitativeEvaluation(codes.DCM.ContrastPhase, _PHASES[given.phase.phase]),
        ],
    )
    for sentence in (_NOT_FOR_DIAGNOSIS, *identity.reasons):
        text = highdicom.sr.TextContentItem(
            codes.DCM.Comment, sentence.encode("ascii", "replace").decode(), sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(text)
    return group


def _measurements(numbers: ResultNumbers) -> list[sr.Measurement]:
    """What was measured, with one decimal. The spleen, which has no segment, is the site of its own number."""
    wide, deep, tall = (round(v, 1) for v in numbers.extent_mm)
    found = [
        sr.Measurement(codes.SCT.Volume, round(numbers.volume_ml, 1), _MILLILITRE),
        sr.Measurement(_SURFACE_AREA, round(numbers.surface_cm2, 1), codes.UCUM.SquareCentimeter),
        sr.Measurement(codes.SCT.Width, wide, codes.UCUM.Millimeter),
        sr.Measurement(codes.SCT.Depth, deep, codes.UCUM.Millimeter),
        sr.Measurement(codes.DCM.Height, tall, codes.UCUM.Millimeter),
        _attenuation(numbers.liver_mean_hu, codes.SCT.Mean, codes.SCT.Liver),
    ]
    if numbers.spleen_median_hu is not None:
        found.append(_attenuation(numbers.spleen_median_hu, codes.SCT.Median, codes.SCT.Spleen))
    return found


def _attenuation(hu: float, derivation: Code, site: Code) -> sr.Measurement:
    return sr.Measurement(
        codes.DCM.AttenuationCoefficient,
        round(hu, 1),
        codes.UCUM.HounsfieldUnit,
        derivation=derivation,
        finding_sites=[sr.FindingSite(site)],
    )
