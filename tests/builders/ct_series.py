"""CT series on disk, made from a Volume: any orientation, syntax and fault a test needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dissm_engine.volume import AIR_HU, Grid, Volume, sample_at_lps

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
Orientation = Literal["axial", "reversed", "feet_first", "sagittal", "coronal", "oblique"]
ORIENTATIONS: tuple[Orientation, ...] = ("axial", "reversed", "feet_first", "sagittal", "coronal", "oblique")


@dataclass(frozen=True)
class SeriesOptions:
    """What the headers say and how the pixels are stored.

    name: every UID is derived from it, so that the same call writes the same bytes.
    attributes: DICOM keywords set on every image; None removes the attribute.
    each: called with the slice's index and its data set just before it is written.
    file_order: order of file names and InstanceNumber against the volume's k.
    """

    name: str = "series"
    study: str = "study"
    transfer_syntax: str = ExplicitVRLittleEndian
    sop_class: str = CTImageStorage
    slope: float = 1.0
    intercept: float = -1024.0
    signed: bool = False
    acquisition_number: int = 1
    series_description: str = "ABDOMEN VENOUS 2.0"
    frame_of_reference: str | None = "frame"
    file_order: Literal["k", "reverse", "shuffled"] = "k"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    each: Callable[[int, Dataset], None] | None = None


def write_ct_series(folder: Path, volume: Volume, **options: Any) -> list[Path]:
    """Write one file for each k of `volume` and return the paths in k order. `options`: fields of SeriesOptions."""
    chosen = SeriesOptions(**options)
    folder.mkdir(parents=True, exist_ok=True)
    count = volume.hu.shape[0]
    numbers = _file_numbers(count, chosen)
    paths = [folder / f"{chosen.name}_{numbers[k]:04d}.dcm" for k in range(count)]
    for k, path in enumerate(paths):
        image_header(volume, k, int(numbers[k]), chosen).save_as(path, enforce_file_format=True)
    return paths


def image_header(volume: Volume, k: int, number: int, options: SeriesOptions) -> Dataset:
    """The complete CT image of slice k, pixel data included."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _add_identity(image, k, number, options)
    _add_plane(image, volume, k, options)
    _add_pixels(image, volume.hu[k], options)
    for keyword, value in options.attributes.items():
        if value is None:
            image.pop(keyword, None)
        else:
            setattr(image, keyword, value)
    if options.each:
        options.each(k, image)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    if options.transfer_syntax in UNCOMPRESSED:
        image.file_meta.TransferSyntaxUID = options.transfer_syntax
    else:
        image.compress(options.transfer_syntax, generate_instance_uid=False)
    return image


def derived_uid(*parts: object) -> str:
    """`2.25.` and 128 bits of SHA-256 over the parts: stable between runs."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def oriented(volume: Volume, orientation: Orientation) -> Volume:
    """The same anatomy stored as another stack; only `oblique` turns it in space (20 degrees about an odd axis).

    Expects an axial volume. axial: as it is. reversed: k runs the other way, so row x column points against it.
    feet_first: rows run from left to right and slices down. sagittal, coronal: slices along x, along y.
    """
    if orientation == "reversed":
        return rearranged(volume, (0, 1, 2), flips=(0,))
    if orientation == "feet_first":
        return rearranged(volume, (0, 1, 2), flips=(0, 2))
    if orientation == "sagittal":
        return rearranged(volume, (2, 0, 1), flips=(1,))
    if orientation == "coronal":
        return rearranged(volume, (1, 0, 2), flips=(1,))
    if orientation == "oblique":
        turn = np.eye(4)
        turn[:3, :3] = _rotation(np.array([0.3, 0.9, 0.2]), np.radians(20))
        return replace(volume, lps_from_voxel=turn @ volume.lps_from_voxel)
    return volume


def rearranged(volume: Volume, axes: tuple[int, int, int], flips: tuple[int, ...] = ()) -> Volume:
    """Permute the array axes (k, j, i) -> `axes`, then flip the named new array axes; every voxel stays in place."""
    hu = np.flip(np.transpose(volume.hu, axes), flips)
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, old in enumerate(axes):
        sign = -1 if new in flips else 1
        to_old[2 - old, 2 - new] = sign
        to_old[2 - old, 3] = hu.shape[new] - 1 if new in flips else 0
    return Volume(np.ascontiguousarray(hu), volume.lps_from_voxel @ to_old)


def tilted(volume: Volume, degrees: float) -> Volume:
    """What a scanner whose gantry leans by `degrees` about x records: planes tilted, table still along z."""
    angle = np.radians(degrees)
    affine = volume.lps_from_voxel.copy()
    row_step = np.linalg.norm(affine[:3, 1])
    affine[:3, 1] = row_step * np.array([0.0, np.cos(angle), np.sin(angle)])
    affine[:3, 3] += volume.grid.center_lps - Grid(volume.grid.shape, affine).center_lps
    grid = Grid(volume.grid.shape, affine)
    return Volume(sample_at_lps(volume.hu, volume.grid, grid.points_lps(), outside=AIR_HU), affine)


def abdomen(
    shape: tuple[int, int, int] = (60, 64, 72), spacing: tuple[float, float, float] = (5.0, 5.0, 2.5), seed: int = 0
) -> Volume:
    """A small axial body without symmetry: trunk, an off-centre liver-like ellipsoid at 110 HU, an aorta, noise.

    shape: (K, J, I). spacing: mm along (i, j, k).
    """
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-spacing[0] * shape[2] / 2, -spacing[1] * shape[1] / 2, -300.0]
    grid = Grid(shape, affine)
    points = grid.points_lps() - grid.center_lps
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    hu = np.full(shape, -1000.0)
    hu[(x / 160) ** 2 + (y / 110) ** 2 < 1] = 40
    hu[((x + 60) / 70) ** 2 + ((y + 15) / 60) ** 2 + ((z - 8) / 55) ** 2 < 1] = 110
    hu[(x + 8) ** 2 + (y - 50) ** 2 < 12**2] = 160
    hu += np.random.default_rng(seed).normal(0, 8, shape)
    return Volume(np.rint(hu).astype(np.int16), affine)


def _file_numbers(count: int, options: SeriesOptions) -> np.ndarray:
    numbers = np.arange(1, count + 1)
    if options.file_order == "reverse":
        return numbers[::-1]
    if options.file_order == "shuffled":
        return np.random.default_rng(7).permutation(numbers)
    return numbers


def _add_identity(image: Dataset, k: int, number: int, options: SeriesOptions) -> None:
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID = options.sop_class
    image.SOPInstanceUID = derived_uid("image", options.name, k)
    image.StudyDate = image.SeriesDate = image.ContentDate = "20240131"
    image.StudyTime = image.SeriesTime = image.ContentTime = "101500"
    image.AccessionNumber = "A1"
    image.Modality = "CT"
    image.Manufacturer = "Test builder"
    image.ReferringPhysicianName = ""
    image.SeriesDescription = options.series_description
    image.PatientName = "Test^Patient"
    image.PatientID = "TEST-1"
    image.PatientBirthDate = "19700101"
    image.PatientSex = "O"
    image.BodyPartExamined = "ABDOMEN"
    image.KVP = "120"
    image.ConvolutionKernel = "B30f"
    image.PatientPosition = "HFS"
    image.StudyInstanceUID = derived_uid("study", options.study)
    image.SeriesInstanceUID = derived_uid("series", options.name)
    image.StudyID = "1"
    image.SeriesNumber = 3
    image.AcquisitionNumber = options.acquisition_number
    image.InstanceNumber = number


def _add_plane(image: Dataset, volume: Volume, k: int, options: SeriesOptions) -> None:
    affine = volume.lps_from_voxel
    spacing = volume.grid.spacing
    row, column = affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]
    image.ImagePositionPatient = [_decimal(v) for v in volume.grid.to_lps([0, 0, k])]
    image.ImageOrientationPatient = [_decimal(v) for v in (*row, *column)]
    image.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    image.SliceThickness = _decimal(spacing[2])
    if options.frame_of_reference is not None:
        image.FrameOfReferenceUID = derived_uid("frame", options.frame_of_reference)
    image.PositionReferenceIndicator = ""


def _add_pixels(image: Dataset, hu: np.ndarray, options: SeriesOptions) -> None:
    stored = np.rint((hu.astype(np.float64) - options.intercept) / options.slope)
    limits = np.iinfo(np.int16 if options.signed else np.uint16)
    pixels = np.clip(stored, limits.min, limits.max).astype("<i2" if options.signed else "<u2")
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = int(options.signed)
    image.RescaleIntercept = _decimal(options.intercept)
    image.RescaleSlope = _decimal(options.slope)
    image.RescaleType = "HU"
    image["PixelData"] = _word_element(pixels.tobytes())


def _word_element(content: bytes) -> Any:
    from pydicom.dataelem import DataElement

    return DataElement("PixelData", "OW", content)


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    text = f"{value:.10f}".rstrip("0").rstrip(".")
    text = text if len(text) <= 16 else f"{value:.8g}"
    return "0" if text in {"-0", ""} else text


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
