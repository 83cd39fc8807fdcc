"""The result of one case as files of other formats, made from the proven objects as they lie on the disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import pydicom
import trimesh
from PIL import Image

from dicom_node.catalog.database import View
from dicom_node.catalog.histories import case_history
from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.export.image_files import FILE_MODE, write_image
from dicom_node.export.seg_mask import read_segments
from dicom_node.reasons import NOTHING_TO_EXPORT, SPOOL_DAMAGED, NodeError
from dicom_node.results.surface.reader import read_surface
from dicom_node.values.case_history import ObjectRecord
from dicom_node.values.results import ObjectKind
from dissm_engine.atomic_file import write_bytes


class ExportFormat(StrEnum):
    """What a result is exported as."""

    STL = "stl"
    PLY = "ply"
    NIFTI = "nifti"
    NRRD = "nrrd"
    PNG = "png"


SOURCES: Mapping[ExportFormat, ObjectKind] = {
    ExportFormat.STL: ObjectKind.SURFACE,
    ExportFormat.PLY: ObjectKind.SURFACE,
    ExportFormat.NIFTI: ObjectKind.SEG,
    ExportFormat.NRRD: ObjectKind.SEG,
    ExportFormat.PNG: ObjectKind.CAPTURE,
}
"""Which object each format is made from."""


def export_case(view: View, spool: Path, case_id: str, wanted: ExportFormat, out: Path) -> tuple[Path, ...]:
    """Write the result of a case. Coordinates are LPS mm; in NIfTI, by its definition, RAS mm.

    Args:
        view: The catalogue.
        spool: The folder that the objects' paths count from.
        case_id: As `dissm-node cases` lists it; file names begin with it and hold no patient data.
        wanted: The format.
        out: The folder; made where it is missing, readable by its owner only.

    Returns:
        The files that were written.

    Raises:
        NodeError: NOT_FOUND; NOTHING_TO_EXPORT where the case has no such object; SPOOL_DAMAGED where it is no longer
            what was proven; EXPORT_SHEARED.
        OSError: A file cannot be written.
    """
    kind = SOURCES[wanted]
    objects = _newest(case_history(view, case_id).objects, kind)
    if not objects:
        raise NodeError(NOTHING_TO_EXPORT, case=case_id, wanted=kind)
    files = [_proven_file(spool, one) for one in objects]
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _WRITERS[wanted](files, out, case_id)
    except PARSE_ERRORS as problem:
        if isinstance(problem, OSError):
            raise
        raise NodeError(SPOOL_DAMAGED, instance=objects[0].path) from problem


def _newest(objects: Sequence[ObjectRecord], kind: ObjectKind) -> list[ObjectRecord]:
    """Those of the last attempt that proved any."""
    last = max((one.attempt for one in objects), default=0)
    return sorted((one for one in objects if one.attempt == last and one.kind is kind), key=lambda one: one.path)


def _proven_file(spool: Path, found: ObjectRecord) -> Path:
    """The object's file. Raises NodeError(SPOOL_DAMAGED) where it is missing or changed since it was proven."""
    path = spool / found.path
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        digest = ""
    if digest != found.digest:
        raise NodeError(SPOOL_DAMAGED, instance=found.path)
    return path


def _write_mesh(files: Sequence[Path], out: Path, case_id: str, suffix: str) -> tuple[Path, ...]:
    mesh = read_surface(files[0]).mesh
    target = out / f"{case_id}_liver.{suffix}"
    stream = io.BytesIO()
    trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(stream, file_type=suffix)
    write_bytes(target, stream.getvalue(), mode=FILE_MODE)
    return (target,)


def _write_stl(files: Sequence[Path], out: Path, case_id: str) -> tuple[Path, ...]:
    return _write_mesh(files, out, case_id, "stl")


def _write_ply(files: Sequence[Path], out: Path, case_id: str) -> tuple[Path, ...]:
    return _write_mesh(files, out, case_id, "ply")


def _write_mask(files: Sequence[Path], out: Path, case_id: str, suffix: str) -> tuple[Path, ...]:
    mask = read_segments(files[0], [1])
    target = out / f"{case_id}_liver.{suffix}"
    write_image(target, mask.inside.astype(np.uint8), mask.lps_from_voxel)
    return (target,)


def _write_nifti(files: Sequence[Path], out: Path, case_id: str) -> tuple[Path, ...]:
    return _write_mask(files, out, case_id, "nii.gz")


def _write_nrrd(files: Sequence[Path], out: Path, case_id: str) -> tuple[Path, ...]:
    return _write_mask(files, out, case_id, "nrrd")


def _write_png(files: Sequence[Path], out: Path, case_id: str) -> tuple[Path, ...]:
    """One picture for each capture; they say that they are an AI's, and no patient's name is in their pixels."""
    targets = []
    for number, file in enumerate(files, start=1):
        stream = io.BytesIO()
        Image.fromarray(pydicom.dcmread(file).pixel_array).save(stream, "PNG")
        targets.append(out / f"{case_id}_capture-{number:03d}.png")
        write_bytes(targets[-1], stream.getvalue(), mode=FILE_MODE)
    return tuple(targets)


_WRITERS: Mapping[ExportFormat, Callable[[Sequence[Path], Path, str], tuple[Path, ...]]] = {
    ExportFormat.STL: _write_stl,
    ExportFormat.PLY: _write_ply,
    ExportFormat.NIFTI: _write_nifti,
    ExportFormat.NRRD: _write_nrrd,
    ExportFormat.PNG: _write_png,
}
