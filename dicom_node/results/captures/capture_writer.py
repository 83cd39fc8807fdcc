"""The result as Secondary Capture images (PS3.3 A.8.1): a cover, then source images with the contour.

Single-frame images, because every PACS and viewer shows them; the multi-frame classes are often not accepted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.results import modules
from dicom_node.results.captures.canvas import NOT_FOR_DIAGNOSIS, Rgb
from dicom_node.results.captures.cover_page import CoverTexts, CoverView, draw_cover, mm_per_pixel
from dicom_node.results.captures.slice_page import SliceTexts, draw_slice, enlargement
from dicom_node.results.object_file import save_object
from dicom_node.results.object_times import add_dates
from dicom_node.results.result_identity import SHORT_TEXT
from dicom_node.results.writer_input import WriterInput
from dicom_node.values.equipment import MODEL
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.findings import Verdict

MAX_SLICES = 40
"""Of a thin series every n-th slice is captured; the first and the last one with liver always."""
_VERDICTS = {
    Verdict.ACCEPT: "ACCEPT: no finding speaks against it",
    Verdict.REVIEW: "REVIEW: look at this result before it is used",
    Verdict.REJECT: "REJECTED: do not use this result",
}
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}


def write_captures(given: WriterInput) -> tuple[WrittenObject, ...]:
    """Write the cover and the slices; instance 1 is the cover. The mask is not empty."""
    written = [_save(given, 1, *_cover(given))]
    for number, k in enumerate(captured_slices(given), start=2):
        written.append(_save(given, number, *_slice(given, k)))
    return tuple(written)


def captured_slices(given: WriterInput) -> list[int]:
    """The slices k that are shown, from head to feet in an axial stack, else in the order of the volume."""
    occupied = np.flatnonzero([plane.any() for plane in given.delineation.mask])
    positions = np.linspace(0, len(occupied) - 1, min(len(occupied), MAX_SLICES))
    chosen = [int(k) for k in occupied[np.unique(np.rint(positions).astype(int))]]
    x, y, z = given.stack.volume.lps_from_voxel[:3, 2]
    return chosen[::-1] if z > max(abs(x), abs(y)) else chosen


def _cover(given: WriterInput) -> tuple[Rgb, Dataset]:
    volume, mask = given.stack.volume, given.delineation.mask
    points = given.measured.points_lps
    center = points.mean(axis=0)
    scale = mm_per_pixel(points, center)
    image = Dataset()
    image.NominalScannedPixelSpacing = [scale, scale]
    image.PatientOrientation = None
    view = CoverView(center, scale)
    return draw_cover(volume, mask, given.delineation.mesh, view, _cover_texts(given)), image


def _cover_texts(given: WriterInput) -> CoverTexts:
    identity, numbers = given.identity, given.measured.numbers
    wide, deep, tall = numbers.extent_mm
    spleen = "" if numbers.spleen_median_hu is None else f", spleen {numbers.spleen_median_hu:.0f} HU (median)"
    return CoverTexts(
        title=f"Liver {numbers.volume_ml:.0f} ml",
        verdict=_VERDICTS[identity.mark],
        numbers=(
            f"Volume {numbers.volume_ml:.0f} ml, surface {numbers.surface_cm2:.0f} cm\u00b2",
            f"R-L {wide:.0f} mm, A-P {deep:.0f} mm, H-F {tall:.0f} mm",
            f"Liver {numbers.liver_mean_hu:.0f} HU (mean){spleen}",
            f"Contrast phase: {given.phase.phase}",
        ),
        findings=identity.reasons,
        made_by=f"{MODEL} {identity.program_version}, model {identity.bundle_name} {identity.bundle_version}",
        warn=identity.mark is not Verdict.ACCEPT,
    )


def _slice(given: WriterInput, k: int) -> tuple[Rgb, Dataset]:
    header = given.stack.headers[k]
    spacing = given.stack.volume.grid.spacing
    inside = given.delineation.mask[k]
    factors = enlargement((inside.shape[0], inside.shape[1]), (float(spacing[1]), float(spacing[0])))
    row, column = patient_orientation([float(v) for v in header.ImageOrientationPatient])
    mark = given.identity.mark
    texts = SliceTexts(
        result=f"Liver {given.measured.numbers.volume_ml:.0f} ml" + ("" if mark is Verdict.ACCEPT else f"   {mark}"),
        where=_where(header, k, len(given.stack.headers)),
        why=next(iter(given.identity.reasons), ""),
        letters=(_OPPOSITE[row], row, _OPPOSITE[column], column),
    )
    image = Dataset()
    image.PatientOrientation = [row, column]
    # In the order of the class's attributes: which image the picture shows.
    source = modules.referenced_instance(header)
    source.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    image.SourceImageSequence = [source]
    return draw_slice(given.stack.volume.hu[k], inside, factors, texts), image


def _where(header: Dataset, k: int, count: int) -> str:
    position = ", ".join(f"{float(v):.1f}" for v in header.ImagePositionPatient)
    number = header.get("InstanceNumber")
    named = f"slice {k + 1} of {count}" if number is None else f"image {number}, slice {k + 1} of {count}"
    return f"{named}, position {position} mm"


def patient_orientation(cosines: Sequence[float]) -> tuple[str, str]:
    """Towards which side of the patient rows and columns run (PS3.3 C.7.6.1.1.1), the nearest axis of each."""

    def letter(direction: Sequence[float]) -> str:
        axis = int(np.argmax(np.abs(direction)))
        return ("RL", "AP", "FH")[axis][int(direction[axis] > 0)]

    return letter(cosines[:3]), letter(cosines[3:])


def _save(given: WriterInput, number: int, pixels: Rgb, specific: Dataset) -> WrittenObject:
    """The picture with the modules of a Secondary Capture, and what is specific to it."""
    source, identity = given.stack.headers[0], given.identity
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    modules.add_patient_and_study(dataset, source)
    modules.add_series(dataset, ObjectKind.CAPTURE, identity, number)
    add_dates(dataset, identity)
    modules.add_body_part(dataset, source)
    modules.add_equipment(dataset, source, identity)
    dataset.update(specific)
    dataset.ConversionType = "WSD"
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    # Required empty by dciodvfy; the liver is no paired organ.
    dataset.Laterality = None
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.LossyImageCompression = "01" if source.get("LossyImageCompression") == "01" else "00"
    dataset.DerivationDescription = NOT_FOR_DIAGNOSIS
    dataset.ImageComments = _comments(given)
    _add_pixels(dataset, pixels)
    return save_object(dataset, ObjectKind.CAPTURE, given.path(ObjectKind.CAPTURE, number))


def _comments(given: WriterInput) -> str:
    """What a viewer that lists texts shows: that it is an AI's, and why a person should look."""
    said = given.identity.segment_description
    return f"{NOT_FOR_DIAGNOSIS}. {said}".strip()[:SHORT_TEXT] if said else NOT_FOR_DIAGNOSIS


def _add_pixels(dataset: Dataset, pixels: Rgb) -> None:
    """The image pixel module (PS3.3 C.7.6.3): RGB, colour by pixel."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    content = pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
