"""CTs with SEG or RTSTRUCT become the pairs that training reads, voxel for voxel where they lie in the patient."""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import JPEGLSLossless, generate_uid

from dicom_node.export.pairs import ExportedPair, export_pairs
from dicom_node.settings import ResultSettings
from dissm_engine.volume import Grid
from tests.builders.ct_series import ORIENTATIONS, abdomen, oriented
from tests.builders.result_case import ResultCase, case_on_disk, edited
from tests.thirdparty import need
from training.sources.image_pairs import find_image_pairs, lps_from_voxel, read_image_pair

SMALL = abdomen(shape=(22, 25, 27), spacing=(5.0, 5.5, 6.0))
SEG_ONLY = ResultSettings(objects=["seg"], surface=False)
WITH_CONTOURS = ResultSettings(objects=["seg", "rtstruct"], surface=False)


def pairs_of(folder: Path, *labels: str) -> list[ExportedPair]:
    return list(export_pairs(folder, folder / "out", labels))


def mask_in(case: ResultCase, file: Path) -> np.ndarray:
    """A label file's voxels on the case's own grid, by their places in the patient."""
    image = sitk.ReadImage(str(file))
    voxels = sitk.GetArrayFromImage(image)
    grid = Grid(voxels.shape, lps_from_voxel(image))
    found = np.zeros(case.stack.volume.grid.shape, dtype=bool)
    places = grid.to_lps(np.argwhere(voxels)[:, ::-1])
    exact = case.stack.volume.grid.to_voxel(places)
    assert np.abs(exact - np.rint(exact)).max() < 0.01
    i, j, k = np.rint(exact).astype(int).T
    found[k, j, i] = True
    return found


def label_file(folder: Path) -> Path:
    (file,) = (folder / "out" / "labelsTr").iterdir()
    return file


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_seg_of_an_oriented_stack_lies_in_its_pair_where_it_lay_in_the_patient(
    tmp_path: Path, orientation: str
) -> None:
    case = case_on_disk(tmp_path, oriented(SMALL, orientation), SEG_ONLY)
    (pair,) = pairs_of(tmp_path)
    assert pair.refusal is None
    assert pair.volume_ml == pytest.approx(case.delineation.volume_ml, rel=1e-6)
    np.testing.assert_array_equal(mask_in(case, label_file(tmp_path)), case.delineation.mask)
    (files,) = find_image_pairs(tmp_path / "out")
    read = read_image_pair(files)
    assert read.volume_ml == pytest.approx(case.delineation.volume_ml, rel=1e-6)
    assert sorted(np.unique(read.volume.hu)) == sorted(np.unique(case.stack.volume.hu))


@pytest.mark.parametrize("orientation", ["axial", "feet_first", "coronal", "oblique"])
def test_contours_of_an_oriented_stack_enclose_in_their_pair_what_they_enclosed(
    tmp_path: Path, orientation: str
) -> None:
    case = case_on_disk(tmp_path, oriented(SMALL, orientation), WITH_CONTOURS)
    (tmp_path / "seg.dcm").unlink()
    (pair,) = pairs_of(tmp_path)
    assert pair.refusal is None
    found, true = mask_in(case, label_file(tmp_path)), case.delineation.mask
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.97


def test_nifti_says_ras(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path, oriented(SMALL, "oblique"), SEG_ONLY)
    pairs_of(tmp_path)
    header = gzip.decompress(label_file(tmp_path).read_bytes())[:348]
    stored = np.array([struct.unpack_from("<4f", header, 280 + 16 * row) for row in range(3)])
    ras = np.diag([-1.0, -1.0, 1.0]) @ case.stack.volume.lps_from_voxel[:3]
    np.testing.assert_allclose(stored, ras, atol=1e-3)


@pytest.mark.parametrize("frames", ["all", "liver"])
def test_a_seg_without_its_empty_frames_and_a_compressed_ct_give_the_same_pair(tmp_path: Path, frames: str) -> None:
    settings = ResultSettings(objects=["seg"], surface=False, seg_frames=frames)
    case = case_on_disk(tmp_path, SMALL, settings, transfer_syntax=JPEGLSLossless)
    (pair,) = pairs_of(tmp_path)
    assert pair.refusal is None
    np.testing.assert_array_equal(mask_in(case, label_file(tmp_path)), case.delineation.mask)


def segmentation(case: ResultCase, kind: str, *segments: tuple[str, Code]) -> Dataset:
    """A SEG as other programs write it: its first segment a block, the second the liver, the third another block."""
    masks = np.zeros((*case.delineation.mask.shape, len(segments)), dtype=np.uint8)
    blocks = (np.s_[2:5, 1:4, 1:4], np.s_[0:0], np.s_[3:6, -4:-1, -4:-1])
    for number in range(len(segments)):
        masks[..., number][blocks[number]] = 1
    masks[..., min(1, len(segments) - 1)] |= case.delineation.mask
    descriptions = [
        highdicom.seg.SegmentDescription(
            number, name, codes.SCT.Organ, code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number, (name, code) in enumerate(segments, start=1)
    ]
    headers = [pydicom.dcmread(path) for path in sorted((case.seg.parent / "ct").iterdir())]
    by_uid = {header.SOPInstanceUID: header for header in headers}
    ordered = [by_uid[header.SOPInstanceUID] for header in case.stack.headers]
    values = masks.astype(np.float32) if kind == "FRACTIONAL" else masks
    if kind == "LABELMAP":
        values = np.where(masks.any(axis=-1), masks.argmax(axis=-1) + 1, 0).astype(np.uint8)
    return highdicom.seg.Segmentation(
        ordered, values, kind, descriptions, generate_uid(), 7, generate_uid(), 1, "Other", "Program", "1", "2"
    )


LIVER, SPLEEN, LESION = codes.SCT.Liver, codes.SCT.Spleen, Code("4147007", "SCT", "Mass")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize(
    ("names", "by"),
    [
        ((("Tumour", LESION), ("Segment_2", LIVER), ("x", SPLEEN)), "code"),
        ((("Tumour", LESION), ("Leber", codes.SCT.Organ), ("Liver tumour", LESION)), "name"),
    ],
)
def test_the_liver_is_found_among_several_segments(
    tmp_path: Path, kind: str, names: tuple[tuple[str, Code], ...], by: str
) -> None:
    case = case_on_disk(tmp_path, SMALL, SEG_ONLY)
    segmentation(case, kind, *names).save_as(case.seg)
    (pair,) = pairs_of(tmp_path)
    assert pair.refusal is None, pair.said
    assert pair.chosen is not None
    assert (pair.chosen.numbers, pair.chosen.by) == ((2,), by)
    np.testing.assert_array_equal(mask_in(case, label_file(tmp_path)), case.delineation.mask)


def test_labels_that_are_named_are_the_liver_together(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path, SMALL, SEG_ONLY)
    segmentation(case, "BINARY", ("Mass", LESION), ("Liver", LIVER), ("Spleen", SPLEEN)).save_as(case.seg)
    (pair,) = pairs_of(tmp_path, "liver", "MASS")
    assert pair.chosen is not None
    assert pair.chosen.numbers == (1, 2)
    expected = case.delineation.mask.copy()
    expected[2:5, 1:4, 1:4] = True
    np.testing.assert_array_equal(mask_in(case, label_file(tmp_path)), expected)


def two_livers(dataset: Dataset) -> None:
    dataset.SegmentSequence.append(dataset.SegmentSequence[0])


def another_frame(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "1.2.3"


def no_liver(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].SegmentLabel = "Spleen"
    dataset.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "78961009"


def half_a_voxel_aside(dataset: Dataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient[0] += 2.5


def a_slice_without(dataset: Dataset) -> None:
    pixels = dataset.pixel_array
    occupied = np.flatnonzero(pixels.any(axis=(1, 2)))
    pixels[occupied[len(occupied) // 2]] = 0
    dataset.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()


def nothing_at_all(dataset: Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (two_livers, "NO_LIVER_ANNOTATED"),
        (another_frame, "MASK_NOT_ON_CT"),
        (no_liver, "NO_LIVER_ANNOTATED"),
        (half_a_voxel_aside, "MASK_NOT_ON_CT"),
        (a_slice_without, "MASK_WITH_GAPS"),
        (nothing_at_all, "MASK_EMPTY"),
    ],
)
def test_an_annotation_that_does_not_fit_is_refused_by_its_reason(
    tmp_path: Path, edit: Callable[[Dataset], None], code: str
) -> None:
    case = case_on_disk(tmp_path, SMALL, SEG_ONLY)
    edited(case.seg, edit)
    (pair,) = pairs_of(tmp_path)
    assert pair.refusal is not None
    assert pair.refusal.reason.code == code
    assert not list((tmp_path / "out" / "labelsTr").iterdir())


def test_a_ct_with_a_gap_gives_no_pair(tmp_path: Path) -> None:
    case_on_disk(tmp_path, SMALL, SEG_ONLY)
    by_height = sorted((tmp_path / "ct").iterdir(), key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])
    for file in by_height[9:12]:
        file.unlink()
    (pair,) = pairs_of(tmp_path)
    assert pair.refusal is not None
    assert pair.refusal.reason.code == "GEOMETRY_GAP"


def test_an_annotation_without_its_ct_says_so(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path, SMALL, SEG_ONLY)
    for file in (tmp_path / "ct").iterdir():
        file.unlink()
    (pair,) = pairs_of(tmp_path)
    assert pair.refusal is not None
    assert pair.refusal.reason.code == "ANNOTATION_WITHOUT_CT"
    assert case.seg.exists()


def test_no_name_of_a_file_and_no_byte_of_it_tells_of_the_patient(tmp_path: Path) -> None:
    case_on_disk(tmp_path, SMALL, SEG_ONLY)
    pairs_of(tmp_path)
    for file in (tmp_path / "out").rglob("*.nii.gz"):
        content = gzip.decompress(file.read_bytes())
        assert b"TEST-1" not in content
        assert b"Patient" not in content
        assert "TEST" not in file.name
        assert file.stat().st_mode & 0o077 == 0


def test_plastimatch_s_structure_set_of_a_mask_is_read_as_that_mask(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path, SMALL, SEG_ONLY)
    assert pairs_of(tmp_path)[0].refusal is None
    program = need("plastimatch")
    mask = label_file(tmp_path)
    files = ["--input-ss-img", mask, "--referenced-ct", tmp_path / "ct", "--output-dicom", tmp_path / "theirs"]
    subprocess.run([program, "convert", *files], check=True, capture_output=True)
    (tmp_path / "seg.dcm").unlink()
    theirs = next(f for f in (tmp_path / "theirs").iterdir() if pydicom.dcmread(f).Modality == "RTSTRUCT")
    theirs.rename(tmp_path / "theirs.dcm")
    name = str(pydicom.dcmread(tmp_path / "theirs.dcm").StructureSetROISequence[0].ROIName)
    mask.unlink()
    (pair,) = pairs_of(tmp_path, name)
    assert pair.refusal is None, pair.said
    found, true = mask_in(case, label_file(tmp_path)), case.delineation.mask
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.95
