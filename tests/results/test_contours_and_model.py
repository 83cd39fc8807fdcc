"""RTSTRUCT and STL lie on their CT, others read them so, and wrong ones do not leave."""

from __future__ import annotations

import io
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import trimesh
from pydicom import Dataset

from dicom_node.reasons import ProofError
from dicom_node.results.rtstruct_writer import cut
from dicom_node.settings import ResultSettings
from dicom_node.values.results import ObjectKind
from dissm_engine.mesh import TriangleMesh
from tests.builders.ct_series import ORIENTATIONS, abdomen, oriented
from tests.builders.result_case import ResultCase, case_in_memory, case_on_disk, edited
from tests.thirdparty import need

SMALL = abdomen(shape=(22, 25, 27), spacing=(5.0, 5.5, 6.0))
BOTH = ResultSettings(objects=["rtstruct", "stl"])


def file_of(case: ResultCase, kind: ObjectKind) -> Path:
    (path,) = case.request().files[kind]
    return path


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_contours_and_model_of_an_oriented_stack_lie_on_its_seg(tmp_path: Path, orientation: str) -> None:
    case = case_in_memory(tmp_path, oriented(SMALL, orientation), BOTH)
    further = case.prove().further
    assert further["rtstruct"]["dsc"] > 0.98
    assert further["rtstruct"]["contours"] >= case.delineation.mask.any(axis=(1, 2)).sum()
    assert further["rtstruct"]["max_off_plane_mm"] < 1e-3
    assert further["stl"]["triangles"] == len(case.delineation.mesh.faces)
    assert further["stl"]["volume_ml"] == pytest.approx(case.delineation.mesh.volume_ml, rel=1e-4)


@pytest.mark.parametrize("orientation", ["axial", "coronal", "oblique"])
def test_dciodvfy_finds_no_error_in_contours_and_model(tmp_path: Path, orientation: str) -> None:
    case = case_in_memory(tmp_path, oriented(SMALL, orientation), BOTH)
    for kind, said_name in ((ObjectKind.RTSTRUCT, "RTStructureSet"), (ObjectKind.STL, "EncapsulatedSTL")):
        said = subprocess.run([need("dciodvfy"), file_of(case, kind)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr
        assert said_name in said.stderr.split()


def test_plastimatch_reads_the_contours_as_the_seg_s_mask(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path, SMALL, BOTH)
    out = tmp_path / "mask.mha"
    files = ["--input", file_of(case, ObjectKind.RTSTRUCT), "--output-ss-img", out, "--referenced-ct", tmp_path / "ct"]
    subprocess.run([need("plastimatch"), "convert", *files], check=True, capture_output=True)
    image = sitk.ReadImage(str(out))
    inside = sitk.GetArrayFromImage(image) > 0
    grid = case.stack.volume.grid
    lps = np.argwhere(inside)[:, [2, 1, 0]] * image.GetSpacing() + image.GetOrigin()
    ijk = np.rint(grid.to_voxel(lps)).astype(int)
    read = np.zeros(grid.shape, dtype=bool)
    i, j, k = ijk.T
    read[k, j, i] = True
    mask = case.delineation.mask
    assert 2 * (read & mask).sum() / (read.sum() + mask.sum()) > 0.97


def test_trimesh_reads_the_model_as_the_closed_mesh(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL, BOTH)
    dataset = pydicom.dcmread(file_of(case, ObjectKind.STL))
    content = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    mesh = trimesh.load(io.BytesIO(content), file_type="stl")
    assert mesh.is_watertight
    assert mesh.volume / 1000 == pytest.approx(case.delineation.mesh.volume_ml, rel=1e-5)
    np.testing.assert_allclose(mesh.bounds, case.delineation.mesh.trimesh.bounds, atol=1e-3)


def test_a_plane_through_vertices_cuts_closed_loops() -> None:
    box = trimesh.creation.box((10, 20, 30)).subdivide()
    mesh = TriangleMesh(np.asarray(box.vertices), np.asarray(box.faces))
    for height in (0.0, 7.5, -14.9):
        (loop,) = cut(mesh, np.array([0.0, 0.0, height]), np.array([0.0, 0.0, 1.0]), 2.0)
        x, y = loop[:, 0], loop[:, 1]
        assert abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2 == pytest.approx(200, rel=1e-3)
        np.testing.assert_allclose(loop[:, 2], height, atol=1e-9)
    assert cut(mesh, np.array([0.0, 0.0, 16.0]), np.array([0.0, 0.0, 1.0]), 2.0) == []


def contours(dataset: Dataset) -> list[Dataset]:
    return list(dataset.ROIContourSequence[0].ContourSequence)


def move_contours(dataset: Dataset, axis: int, mm: float) -> None:
    for contour in contours(dataset):
        values = [float(value) for value in contour.ContourData]
        values[axis::3] = [round(value + mm, 3) for value in values[axis::3]]
        contour.ContourData = values


def shift_by_two_columns(dataset: Dataset) -> None:
    move_contours(dataset, 0, 12.0)


def shift_off_the_planes(dataset: Dataset) -> None:
    move_contours(dataset, 2, 0.5)


def mirror(dataset: Dataset) -> None:
    for contour in contours(dataset):
        values = [float(value) for value in contour.ContourData]
        values[0::3] = [-value for value in values[0::3]]
        contour.ContourData = values


def name_the_next_image(dataset: Dataset) -> None:
    named = [contour.ContourImageSequence for contour in contours(dataset)]
    for contour, following in zip(contours(dataset)[:-1], named[1:], strict=True):
        contour.ContourImageSequence = following


def drop_half(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ContourSequence = contours(dataset)[::2]


def another_frame(dataset: Dataset) -> None:
    dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"


def miscount(dataset: Dataset) -> None:
    contours(dataset)[0].NumberOfContourPoints += 1


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (shift_by_two_columns, "away from the SEG's boundary"),
        (shift_off_the_planes, "off its image"),
        (mirror, "away from the SEG's boundary"),
        (name_the_next_image, "off its image"),
        (drop_half, "away from the SEG's boundary"),
        (another_frame, "frame of reference"),
        (miscount, "points it counts"),
    ],
)
def test_contours_that_are_wrong_do_not_leave(tmp_path: Path, edit: Callable[[Dataset], None], problem: str) -> None:
    case = case_in_memory(tmp_path, SMALL, BOTH)
    edited(file_of(case, ObjectKind.RTSTRUCT), edit)
    with pytest.raises(ProofError, match=problem):
        case.prove()


def rewrite(dataset: Dataset, change: Callable[[np.ndarray], None]) -> None:
    content = bytearray(dataset.EncapsulatedDocument)
    (count,) = struct.unpack_from("<I", content, 80)
    kind = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
    triangles = np.frombuffer(content, kind, count=count, offset=84).copy()
    change(triangles)
    content[84 : 84 + triangles.nbytes] = triangles.tobytes()
    dataset.EncapsulatedDocument = bytes(content)


def in_centimetres(dataset: Dataset) -> None:
    rewrite(dataset, lambda triangles: triangles["corners"].__imul__(0.1))


def declare_centimetres(dataset: Dataset) -> None:
    dataset.MeasurementUnitsCodeSequence[0].CodeValue = "cm"


def turn_to_ras(dataset: Dataset) -> None:
    rewrite(dataset, lambda triangles: triangles["corners"][..., :2].__imul__(-1))


def turn_a_triangle_over(dataset: Dataset) -> None:
    def change(triangles: np.ndarray) -> None:
        triangles["corners"][0] = triangles["corners"][0, ::-1].copy()

    rewrite(dataset, change)


def cut_the_end_off(dataset: Dataset) -> None:
    dataset.EncapsulatedDocumentLength -= 50


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (in_centimetres, "mm from the engine's"),
        (declare_centimetres, "unit is not mm"),
        (turn_to_ras, "mm from the engine's"),
        (turn_a_triangle_over, "from the engine's"),
        (cut_the_end_off, "length is not"),
    ],
)
def test_a_model_that_is_wrong_does_not_leave(tmp_path: Path, edit: Callable[[Dataset], None], problem: str) -> None:
    case = case_in_memory(tmp_path, SMALL, BOTH)
    edited(file_of(case, ObjectKind.STL), edit)
    with pytest.raises(ProofError, match=problem):
        case.prove()
