"""A Volume as the CT images a scanner would send (PS3.3 A.3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dissm_engine.volume import Volume

_INTERCEPT = -1024


@dataclass(frozen=True, slots=True)
class SyntheticStudy:
    """Whose images they claim to be. seed: every UID is derived from it."""

    seed: int
    series_description: str = "Synthetic abdomen, portal venous phase"

    def uid(self, *parts: object) -> str:
        """`2.25.` and 128 bits of SHA-256 over the parts (PS3.5 B.2)."""
        digest = hashlib.sha256(f"synthetic ct {self.seed} {parts}".encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def write_ct_images(volume: Volume, study: SyntheticStudy, folder: Path) -> list[Path]:
    """One CT Image for each k of the volume, explicit little endian, as the files image-0001.dcm and on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, plane in enumerate(volume.hu):
        image = _image_of(study, k)
        _place(image, volume, k)
        _add_pixels(image, plane)
        path = folder / f"image-{k + 1:04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _image_of(study: SyntheticStudy, k: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, study.uid("image", k)
    image.PatientName, image.PatientID = "Synthetic^Phantom", f"PHANTOM-{study.seed}"
    image.PatientBirthDate, image.PatientSex = "", "O"
    image.StudyInstanceUID, image.SeriesInstanceUID = study.uid("study"), study.uid("series")
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = study.uid("frame of reference"), ""
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20200101"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "120000"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
    image.Modality, image.Manufacturer, image.ManufacturerModelName = "CT", "Phantom generator", "Synthetic CT"
    image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = 2, 1, k + 1
    image.SeriesDescription, image.BodyPartExamined = study.series_description, "ABDOMEN"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PatientPosition, image.KVP = "HFS", "120"
    return image


def _place(image: Dataset, volume: Volume, k: int) -> None:
    """Position, orientation and spacing of slice k (PS3.3 C.7.6.2)."""
    along_i, along_j, along_k = (volume.lps_from_voxel[:3, axis] for axis in range(3))
    spacing = volume.grid.spacing
    image.PixelSpacing = _decimals(np.array([spacing[1], spacing[0]]))
    image.ImageOrientationPatient = _decimals(np.concatenate([along_i / spacing[0], along_j / spacing[1]]))
    image.ImagePositionPatient = _decimals(volume.lps_from_voxel[:3, 3] + k * along_k)
    image.SliceThickness = _decimals(spacing[2:])[0]


def _decimals(values: npt.NDArray[np.float64]) -> list[str]:
    """DICOM decimal strings, at most 16 characters."""
    return [f"{value:.7g}" for value in values]


def _add_pixels(image: Dataset, plane: npt.NDArray[np.floating] | npt.NDArray[np.int16]) -> None:
    stored = np.clip(np.rint(plane) - _INTERCEPT, 0, 32767).astype("<u2")
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, _INTERCEPT, "HU"
    image.WindowCenter, image.WindowWidth = 40, 400
    image.PixelData = stored.tobytes()
    image["PixelData"].VR = "OW"
