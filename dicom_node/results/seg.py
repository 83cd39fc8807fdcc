"""The mask as a DICOM Segmentation (C5, PS3.3 A.51): binary, one segment, frames in order of position."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import highdicom
import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.results import modules
from dicom_node.results.object_file import save_object
from dicom_node.results.object_times import add_dates
from dicom_node.results.result_identity import ResultIdentity
from dicom_node.results.writer_input import WriterInput
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.equipment import MANUFACTURER, MODEL
from dicom_node.values.results import ObjectKind, WrittenObject

_SOURCE_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def write_seg(given: WriterInput) -> tuple[WrittenObject, ...]:
    """Write the mask [K, J, I] of the CT's grid as one binary segment.

    settings.seg_frames: `all` writes a frame for each source slice, `liver` only those that hold liver.
    Frames carry the source's own positions; the stack's order is the mask's order, never the file order.
    """
    stack, identity = given.stack, given.identity
    step = _step_between_slices(stack)
    # The parts highdicom draws at random or takes from its own clock are replaced: the object can be made again.
    dataset = highdicom.seg.Segmentation(
        source_images=[_geometry_header(header, step) for header in stack.headers],
        pixel_array=given.delineation.mask.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(identity)],
        series_instance_uid=identity.series_uid(ObjectKind.SEG),
        series_number=identity.series_number(ObjectKind.SEG),
        sop_instance_uid=identity.instance_uid(ObjectKind.SEG),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=identity.program_version,
        device_serial_number=identity.bundle_digest[:16],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=given.settings.seg_frames == "liver",
        content_label=modules.CONTENT_LABEL,
        content_description=identity.content_description,
        pixel_measures=_pixel_measures(stack.headers[0], step),
    )
    source = stack.headers[0]
    modules.add_patient_and_study(dataset, source)
    modules.add_series(dataset, ObjectKind.SEG, identity)
    add_dates(dataset, identity)
    modules.add_equipment(dataset, source, identity)
    modules.add_frame_of_reference(dataset, source)
    modules.add_body_part(dataset, source)
    _fix_dimension_organization(dataset, identity)
    return (save_object(dataset, ObjectKind.SEG, given.path(ObjectKind.SEG)),)


def _segment(identity: ResultIdentity) -> Any:
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=modules.SEGMENT_LABEL,
        segmented_property_category=modules.ANATOMICAL_STRUCTURE,
        segmented_property_type=modules.LIVER,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=modules.ALGORITHM_NAME,
            family=modules.ALGORITHM_FAMILY,
            version=identity.algorithm_version,
            source=MANUFACTURER,
            parameters=modules.algorithm_parameters(identity),
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*modules.DISPLAY_RGB),
    )
    modules.add_segment_description(segment, identity)
    return segment


def _geometry_header(header: Dataset, step: float) -> Dataset:
    """What highdicom needs of a source image, and nothing it might choke on.

    It refuses images whose patient module lacks an attribute or holds a value outside the standard;
    the true patient and study modules are copied afterwards.
    """
    reduced = Dataset()
    for keyword in _SOURCE_KEYWORDS:
        with suppress(*PARSE_ERRORS):
            # The same elements, no copies: highdicom only reads its source images.
            reduced.add(header[keyword])
    for keyword in modules.PATIENT_AND_STUDY_TYPE_2:
        setattr(reduced, keyword, None)
    reduced.SliceThickness = _slice_thickness(header, step)
    return reduced


def _pixel_measures(header: Dataset, step: float) -> Any:
    return highdicom.PixelMeasuresSequence(
        pixel_spacing=[float(v) for v in header.PixelSpacing],
        slice_thickness=_slice_thickness(header, step),
        spacing_between_slices=step,
    )


def _slice_thickness(header: Dataset, step: float) -> float:
    """Millimetres. Nothing here rests on it: a value that is no positive number ("3,5") gives way to `step`."""
    try:
        thickness = round(float(header.get("SliceThickness") or step), 8)
    except PARSE_ERRORS:
        return step
    return thickness if thickness > 0 and math.isfinite(thickness) else step


def _step_between_slices(stack: CtStack) -> float:
    """Millimetres from slice to slice along their normal (not along the table, should the gantry be tilted)."""
    affine = stack.volume.lps_from_voxel
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    return round(abs(float(affine[:3, 2] @ normal / np.linalg.norm(normal))), 8)


def _fix_dimension_organization(dataset: Dataset, identity: ResultIdentity) -> None:
    uid = identity.dimension_organization_uid(ObjectKind.SEG)
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
