"""DICOM CTs with SEG or RTSTRUCT as pairs of images and masks, in the layout that training reads.

OUT/imagesTr/NAME_0000.nii.gz is the CT in HU, OUT/labelsTr/NAME.nii.gz its liver: 1 inside, 0 outside, on the CT's own
voxels. NAME is made of a hash of the annotation's UID, so that no file name tells of a patient.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, RTStructureSetStorage, SegmentationStorage

from dicom_node.assemble.geometry import GeometryLimits
from dicom_node.assemble.plane import ImagePlane, plane_of
from dicom_node.assemble.split import split_into_stacks
from dicom_node.assemble.volume import read_volume
from dicom_node.dicom.header_reading import PARSE_ERRORS, UnreadableDicomError, read_header
from dicom_node.export.contour_mask import read_regions
from dicom_node.export.image_files import write_image
from dicom_node.export.liver_label import ChosenLabels, choose_liver, regions_of, segments_of
from dicom_node.export.seg_mask import on_grid, read_segments
from dicom_node.reasons import (
    ANNOTATION_UNREADABLE,
    ANNOTATION_WITHOUT_CT,
    MASK_EMPTY,
    MASK_NOT_ON_CT,
    MASK_WITH_GAPS,
    NO_ANNOTATIONS,
    NodeError,
    kind_and_place,
)
from dissm_engine.volume import Grid, Volume

_LABEL_MAP = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""Label Map Segmentation Storage, which pydicom 3.0 does not name yet."""
_SEGMENTATIONS = (SegmentationStorage, _LABEL_MAP)
_ANNOTATIONS = (*_SEGMENTATIONS, RTStructureSetStorage)
_LIMITS = GeometryLimits.consistency_only(allow_gantry_tilt=False)
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ExportedPair:
    """What became of one annotation. name: of its files. refusal: why there are none."""

    name: str
    chosen: ChosenLabels | None = None
    volume_ml: float | None = None
    refusal: NodeError | None = None

    @property
    def said(self) -> str:
        """In one line."""
        if self.refusal is not None or self.chosen is None:
            return str(self.refusal)
        return f"{' + '.join(self.chosen.names)} (chosen by {self.chosen.by}), {self.volume_ml:.0f} ml"


@dataclass(frozen=True)
class _Folder:
    """The DICOM files of a folder. images: CT images of each series. annotations: SEGs and structure sets."""

    images: dict[str, list[tuple[Path, Dataset]]]
    annotations: tuple[Path, ...]


def export_pairs(folder: Path, out: Path, labels: Sequence[str] = ()) -> Iterator[ExportedPair]:
    """Export every annotation of a folder, one after the other.

    Args:
        folder: Searched at any depth. Files that are not DICOM are passed over.
        out: Made where it is missing, readable by its owner only.
        labels: Names of what makes up the liver; empty: the one segment or region with a liver's code or name.

    Yields:
        What became of each annotation: a pair of files, or its refusal.

    Raises:
        NodeError: NO_ANNOTATIONS.
        OSError: A file cannot be written.
    """
    found = _read_folder(folder)
    if not found.annotations:
        raise NodeError(NO_ANNOTATIONS, folder=folder)
    for name in ("imagesTr", "labelsTr"):
        (out / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in found.annotations:
        name = "pair"
        try:
            dataset = _read_annotation(path)
            name = _name_of(dataset)
            yield _export(path, dataset, found, out, name, labels)
        except NodeError as refusal:
            yield ExportedPair(name, refusal=refusal)


def _export(path: Path, dataset: Dataset, found: _Folder, out: Path, name: str, labels: Sequence[str]) -> ExportedPair:
    volume = _ct_of(dataset, found)
    try:
        chosen, mask = _liver(path, dataset, volume.grid, labels)
    except PARSE_ERRORS as problem:
        raise NodeError(ANNOTATION_UNREADABLE, problem=kind_and_place(problem)) from problem
    _check_mask(mask)
    write_image(out / "imagesTr" / f"{name}_0000.nii.gz", volume.hu.astype(np.int16), volume.lps_from_voxel)
    write_image(out / "labelsTr" / f"{name}.nii.gz", mask.astype(np.uint8), volume.lps_from_voxel)
    return ExportedPair(name, chosen, float(mask.sum() * volume.grid.voxel_ml))


def _read_folder(folder: Path) -> _Folder:
    images: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    annotations = []
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        try:
            header = read_header(path, path.name)
        except UnreadableDicomError:
            continue
        if header.get("SOPClassUID") == CTImageStorage:
            images[str(header.get("SeriesInstanceUID"))].append((path, header))
        elif header.get("SOPClassUID") in _ANNOTATIONS:
            annotations.append(path)
    return _Folder(images, tuple(annotations))


def _read_annotation(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except PARSE_ERRORS as problem:
        raise NodeError(ANNOTATION_UNREADABLE, problem=kind_and_place(problem)) from problem


def _name_of(dataset: Dataset) -> str:
    return f"liver_{hashlib.sha256(str(dataset.get('SOPInstanceUID')).encode()).hexdigest()[:12]}"


def _liver(path: Path, dataset: Dataset, grid: Grid, labels: Sequence[str]) -> tuple[ChosenLabels, _Mask]:
    if dataset.SOPClassUID in _SEGMENTATIONS:
        chosen = choose_liver(segments_of(dataset), labels)
        return chosen, on_grid(read_segments(path, chosen.numbers), grid)
    chosen = choose_liver(regions_of(dataset), labels)
    return chosen, read_regions(dataset, chosen.numbers, grid)


def _check_mask(mask: _Mask) -> None:
    """Raises NodeError: MASK_EMPTY, MASK_WITH_GAPS."""
    occupied = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(occupied):
        raise NodeError(MASK_EMPTY)
    missing = int(occupied[-1] - occupied[0] + 1 - len(occupied))
    if missing:
        raise NodeError(MASK_WITH_GAPS, count=missing)


def _ct_of(dataset: Dataset, found: _Folder) -> Volume:
    """The stack that holds most of the images which the annotation names; it must lie in the annotation's frame.

    Raises NodeError: ANNOTATION_WITHOUT_CT, MASK_NOT_ON_CT, and what `read_volume` raises.
    """
    named = _named_instances(dataset)
    counted = [(sum(uid in named for uid in stack), stack) for stack in _stacks(found, named)]
    count, stack = max(counted, key=lambda one: one[0], default=(0, {}))
    if not count:
        raise NodeError(ANNOTATION_WITHOUT_CT)
    if len(stack) < 2:
        raise NodeError(MASK_NOT_ON_CT, problem="its CT has one slice")
    ct = read_volume(list(stack.values()))
    frame = str(ct.headers[0].get("FrameOfReferenceUID"))
    if frame not in _frames_of(dataset):
        raise NodeError(MASK_NOT_ON_CT, problem="it lies in another frame of reference")
    return ct.volume


def _stacks(found: _Folder, named: frozenset[str]) -> Iterator[dict[str, Path]]:
    """The files of each stack by SOP Instance UID, of the series of which the annotation names an image."""
    for images in found.images.values():
        by_uid = {str(header.SOPInstanceUID): (path, header) for path, header in images}
        if named.isdisjoint(by_uid):
            continue
        uids = list(by_uid)
        planes: list[ImagePlane] = [plane_of(by_uid[uid][1], number) for number, uid in enumerate(uids)]
        for part in split_into_stacks(planes, _LIMITS):
            yield {uids[plane.instance_id]: by_uid[uids[plane.instance_id]][0] for plane in part.planes}


def _named_instances(dataset: Dataset) -> frozenset[str]:
    """Every SOP Instance UID that the annotation refers to, wherever in it."""
    return frozenset(str(e.value) for e in dataset.iterall() if e.keyword == "ReferencedSOPInstanceUID")


def _frames_of(dataset: Dataset) -> set[str]:
    """Every frame of reference that the annotation says it lies in."""
    keywords = {"FrameOfReferenceUID", "ReferencedFrameOfReferenceUID"}
    return {str(e.value) for e in dataset.iterall() if e.keyword in keywords}
