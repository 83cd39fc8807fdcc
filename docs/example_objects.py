"""Objects of two made-up CTs that differ in all they can, so that a table can tell what is the same in all objects."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from dicom_node.results.rejection_note import write_rejection_note
from dicom_node.results.write import write_results
from dicom_node.settings import ResultSettings
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.object_kinds import OBJECT_KINDS
from dicom_node.values.phase import Phase, PhaseVerdict
from dicom_node.values.results import ObjectKind, ResultReference, Revision
from dissm_engine.arithmetic import Arithmetic
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Finding, Findings, Verdict
from dissm_engine.pose.similarity import Pose
from dissm_engine.surface import OrganSurface
from dissm_engine.volume import Grid, SignedDistance, Volume, axis_aligned_grid


@dataclass(frozen=True)
class Example:
    """What shapes the objects of one CT.

    Attributes:
        name: Begins every UID.
        full: Whether the source's header says more than what a CT must say; patient and study are empty in both.
        shape: Of the CT, (K, J, I).
        spacing_mm: Of its voxels, the same in every direction.
        verdict: Of the engine.
        created_at: Of the case.
    """

    name: str
    full: bool
    shape: tuple[int, int, int]
    spacing_mm: float
    verdict: Verdict
    created_at: datetime


EXAMPLES = (
    Example("1.2.3.1", True, (20, 24, 28), 8.0, Verdict.ACCEPT, datetime(2026, 1, 2, 3, 4, 5, 6000, UTC)),
    Example("1.2.3.2", False, (22, 26, 30), 7.5, Verdict.REVIEW, datetime(2027, 6, 7, 8, 9, 10, 11000, UTC)),
)


def example_objects(example: Example) -> dict[ObjectKind, Dataset]:
    """One object of every kind that the node writes; of captures, a slice."""
    stack, delineation = _stack(example), _delineation(example)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = write_results(
            stack,
            delineation,
            ResultSettings(objects=tuple(OBJECT_KINDS)),
            folder,
            input_digest=example.name[-1] * 64,
            created_at=example.created_at,
            phase=PhaseVerdict(Phase.VENOUS if example.full else Phase.UNKNOWN, ""),
            revision=None if example.full else _second_revision(),
        )
        found = {one.kind: _loaded(one.path) for one in written}
        files = [one.path for one in written]
        note = write_rejection_note(
            files[: 1 + example.full],
            folder / "note.dcm",
            series_number=ResultSettings().rejection_note_series_number,
            created_at=example.created_at,
        )
        return {**found, note.kind: _loaded(note.path)}


def _loaded(path: Path) -> Dataset:
    return pydicom.dcmread(path)


def _second_revision() -> Revision:
    return Revision(2, (ResultReference(ObjectKind.SEG, "1.2", "1.2.3.9", "1.2.3.8"),))


def _delineation(example: Example) -> Delineation:
    ct = _volume(example).grid
    middle = ct.center_lps
    radius = (5.0 if example.full else 6.1) * example.spacing_mm
    grid = axis_aligned_grid(middle - 1.6 * radius, middle + 1.6 * radius, example.spacing_mm / 1.5)
    apart = np.linalg.norm(grid.points_lps() - middle, axis=-1)
    surface = OrganSurface.of(SignedDistance((apart - radius).astype(np.float32), grid), ct)
    reasons = () if example.full else ("the liver is cut at the lower end of the scan",)
    volume_ml = float(surface.mask.sum() * ct.voxel_ml)
    findings = Findings((Finding("volume", volume_ml, "ml", 0.0, 4000.0),), 0.95, example.verdict, reasons)
    return Delineation(
        field=surface.field,
        ct_grid=ct,
        mask=surface.mask,
        mesh=surface.mesh,
        pose=Pose.at(middle),
        loadings=np.zeros(4, np.float32),
        findings=findings,
        stage_seconds={},
        bundle_digest=example.name[-1] * 64,
        bundle_name=f"example {example.name}",
        bundle_version=example.name,
        tissue_hu={"liver": 105.0, "spleen": 110.0} if example.full else {},
        arithmetic=Arithmetic("cpu", "float32", int(example.name[-1]), "AVX2", ()),
        rounds=(),
    )


def _volume(example: Example) -> Volume:
    sign = 1 if example.full else -1
    affine = np.diag([sign * example.spacing_mm, sign * example.spacing_mm, example.spacing_mm, 1.0])
    affine[:3, 3] = (-90.0, -80.0, example.spacing_mm * 10)
    hu = np.full(example.shape, 40 if example.full else 60, dtype=np.int16)
    return Volume(hu, affine)


def _stack(example: Example) -> CtStack:
    volume = _volume(example)
    return CtStack(volume, tuple(_header(example, volume.grid, k) for k in range(example.shape[0])))


def _header(example: Example, grid: Grid, k: int) -> Dataset:
    header = Dataset()
    if example.full:
        header.Manufacturer, header.InstitutionName, header.StationName = "A", "A", "A"
        header.ManufacturerModelName, header.DeviceSerialNumber = "A", "A"
        header.TimezoneOffsetFromUTC, header.PositionReferenceIndicator = "+0300", "XY"
        header.BodyPartExamined = "LIVER"
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, f"{example.name}.3.{k}"
    header.StudyInstanceUID, header.SeriesInstanceUID = f"{example.name}.1", f"{example.name}.2"
    header.FrameOfReferenceUID, header.Modality = f"{example.name}.4", "CT"
    header.InstanceNumber = k + (1 if example.full else 100)
    header.ImagePositionPatient = [float(value) for value in grid.to_lps([0, 0, k])]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if example.full else [-1, 0, 0, 0, -1, 0]
    header.PixelSpacing = [example.spacing_mm] * 2
    header.SliceThickness = example.spacing_mm
    header.Rows, header.Columns = grid.shape[1:]
    return header
