"""Whatever is wrong in a file on the disk, the proof names it and the object does not leave."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_node.reasons import SEG_NOT_ON_CT, SURFACE_BROKEN, SURFACE_NOT_ON_SEG, ProofError
from dicom_node.results.proof import prove
from dicom_node.results.surface.reader import read_surface
from dicom_node.values.results import ObjectKind
from dissm_engine.mesh import TriangleMesh
from dissm_engine.surface import OrganSurface
from dissm_engine.volume import SignedDistance, Volume, axis_aligned_grid
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import abdomen, oriented
from tests.builders.result_case import ResultCase, case_in_memory, edited, written_case

SMALL = oriented(abdomen(shape=(22, 25, 27), spacing=(6.0, 6.0, 6.0)), "oblique")


@pytest.fixture
def case(tmp_path: Path) -> ResultCase:
    return case_in_memory(tmp_path, SMALL)


def primitives(dataset: Dataset) -> Dataset:
    return dataset.SurfaceSequence[0].SurfaceMeshPrimitivesSequence[0]


def points(dataset: Dataset) -> Dataset:
    return dataset.SurfaceSequence[0].SurfacePointsSequence[0]


def normals(dataset: Dataset) -> Dataset:
    return dataset.SurfaceSequence[0].SurfacePointsNormalsSequence[0]


def indices(dataset: Dataset) -> np.ndarray:
    return np.frombuffer(primitives(dataset).LongTrianglePointIndexList, "<u4").reshape(-1, 3).copy()


def set_indices(dataset: Dataset, values: np.ndarray) -> None:
    primitives(dataset).LongTrianglePointIndexList = values.astype("<u4").tobytes()


def coordinates(dataset: Dataset) -> np.ndarray:
    return np.frombuffer(points(dataset).PointCoordinatesData, "<f4").reshape(-1, 3).copy()


def set_coordinates(dataset: Dataset, values: np.ndarray) -> None:
    points(dataset).PointCoordinatesData = values.astype("<f4").tobytes()


def count_from_zero(dataset: Dataset) -> None:
    set_indices(dataset, indices(dataset) - 1)


def index_beyond_the_points(dataset: Dataset) -> None:
    set_indices(dataset, indices(dataset) + 1)


def use_retired_list(dataset: Dataset) -> None:
    primitives(dataset).TrianglePointIndexList = indices(dataset).astype("<u2").tobytes()


def drop_triangle(dataset: Dataset) -> None:
    set_indices(dataset, indices(dataset)[:-1])


def flip_one_triangle(dataset: Dataset) -> None:
    values = indices(dataset)
    values[0] = values[0, ::-1]
    set_indices(dataset, values)


def flip_all_triangles(dataset: Dataset) -> None:
    set_indices(dataset, indices(dataset)[:, ::-1])


def one_point_too_many_counted(dataset: Dataset) -> None:
    points(dataset).NumberOfSurfacePoints += 1


def one_normal_too_few_counted(dataset: Dataset) -> None:
    normals(dataset).NumberOfVectors -= 1


def mirror(dataset: Dataset) -> None:
    set_coordinates(dataset, coordinates(dataset) * [-1, 1, 1])


def mirror_and_turn_faces_out_again(dataset: Dataset) -> None:
    mirror(dataset)
    flip_all_triangles(dataset)
    stored = np.frombuffer(normals(dataset).VectorCoordinateData, "<f4").reshape(-1, 3)
    normals(dataset).VectorCoordinateData = (stored * [-1, 1, 1]).astype("<f4").tobytes()


def shift_points(dataset: Dataset) -> None:
    set_coordinates(dataset, coordinates(dataset) + np.array([0.01, 0, 0]))


def put_nan(dataset: Dataset) -> None:
    values = coordinates(dataset)
    values[3, 1] = np.nan
    set_coordinates(dataset, values)


def turn_normals_inward(dataset: Dataset) -> None:
    stored = np.frombuffer(normals(dataset).VectorCoordinateData, "<f4")
    normals(dataset).VectorCoordinateData = (-stored).astype("<f4").tobytes()


def stretch_normals(dataset: Dataset) -> None:
    stored = np.frombuffer(normals(dataset).VectorCoordinateData, "<f4")
    normals(dataset).VectorCoordinateData = (stored * np.float32(1.01)).astype("<f4").tobytes()


def empty_normals(dataset: Dataset) -> None:
    dataset.SurfaceSequence[0].SurfacePointsNormalsSequence = []


def two_surfaces(dataset: Dataset) -> None:
    dataset.SurfaceSequence.append(dataset.SurfaceSequence[0])
    dataset.NumberOfSurfaces = 2


def wrong_surface_number(dataset: Dataset) -> None:
    dataset.SurfaceSequence[0].SurfaceNumber = 2


def not_declared_finite(dataset: Dataset) -> None:
    dataset.SurfaceSequence[0].FiniteVolume = "NO"


def no_points(dataset: Dataset) -> None:
    del points(dataset).PointCoordinatesData


def another_class(dataset: Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


def another_patient(dataset: Dataset) -> None:
    dataset.PatientID = "SOMEBODY-ELSE"


def another_frame_of_reference(dataset: Dataset) -> None:
    dataset.FrameOfReferenceUID = "2.25.1"


def another_referenced_series(dataset: Dataset) -> None:
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.2"


def one_reference_missing(dataset: Dataset) -> None:
    del dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[4]


SURFACE_FAULTS = [
    (count_from_zero, "indices begin at 0"),
    (index_beyond_the_points, "names no point"),
    (use_retired_list, "retired"),
    (drop_triangle, "not closed"),
    (flip_one_triangle, "disagree in orientation"),
    (flip_all_triangles, "oriented inward"),
    (one_point_too_many_counted, "NumberOfSurfacePoints"),
    (one_normal_too_few_counted, "normals for"),
    (mirror, "oriented inward"),
    (mirror_and_turn_faces_out_again, "points are not the engine's"),
    (shift_points, "points are not the engine's"),
    (put_nan, "not finite"),
    (turn_normals_inward, "normals point inward"),
    (stretch_normals, "unit length"),
    (empty_normals, "SurfacePointsNormalsSequence"),
    (two_surfaces, "NumberOfSurfaces is 2"),
    (wrong_surface_number, "names surface 1"),
    (not_declared_finite, "FiniteVolume"),
    (no_points, "cannot be read"),
    (another_class, "not a Surface Segmentation"),
    (another_patient, "PatientID"),
    (another_frame_of_reference, "FrameOfReferenceUID"),
    (another_referenced_series, "ReferencedSeriesSequence"),
    (one_reference_missing, "ReferencedSeriesSequence"),
]


@pytest.mark.parametrize(("fault", "named"), SURFACE_FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_tampered_surface_is_refused_by_name(case: ResultCase, fault: Callable[[Dataset], None], named: str) -> None:
    edited(case.surface, fault)
    with pytest.raises(ProofError, match=named) as refused:
        case.prove()
    assert refused.value.reason is SURFACE_BROKEN
    assert "SOMEBODY-ELSE" not in str(refused.value)


def frame_position(dataset: Dataset, frame: int) -> Dataset:
    return dataset.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]


def flip_frame_order(dataset: Dataset) -> None:
    dataset.PixelData = np.packbits(dataset.pixel_array[::-1].ravel(), bitorder="little").tobytes()


def swap_two_frames(dataset: Dataset) -> None:
    frames = dataset.pixel_array.copy()
    frames[[10, 11]] = frames[[11, 10]]
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()


def mirror_rows(dataset: Dataset) -> None:
    dataset.PixelData = np.packbits(dataset.pixel_array[:, :, ::-1].ravel(), bitorder="little").tobytes()


def flip_one_voxel(dataset: Dataset) -> None:
    content = bytearray(dataset.PixelData)
    content[len(content) // 2] ^= 1
    dataset.PixelData = bytes(content)


def reverse_positions(dataset: Dataset) -> None:
    count = len(dataset.PerFrameFunctionalGroupsSequence)
    stated = [frame_position(dataset, frame).ImagePositionPatient for frame in range(count)]
    for frame in range(count):
        frame_position(dataset, frame).ImagePositionPatient = stated[count - 1 - frame]


def shift_positions_by_a_slice(dataset: Dataset) -> None:
    count = len(dataset.PerFrameFunctionalGroupsSequence)
    stated = [frame_position(dataset, frame).ImagePositionPatient for frame in range(count)]
    for frame in range(count - 1):
        frame_position(dataset, frame).ImagePositionPatient = stated[frame + 1]


def shift_positions_a_little(dataset: Dataset) -> None:
    for frame in range(len(dataset.PerFrameFunctionalGroupsSequence)):
        here = frame_position(dataset, frame)
        here.ImagePositionPatient = [round(float(v) + 0.05, 6) for v in here.ImagePositionPatient]


def turn_orientation(dataset: Dataset) -> None:
    item = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    x, y, z, *column = item.ImageOrientationPatient
    item.ImageOrientationPatient = [*column, x, y, z]


def change_spacing(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [6.0, 6.1]


def name_one_image_twice(dataset: Dataset) -> None:
    groups = dataset.PerFrameFunctionalGroupsSequence
    groups[3].DerivationImageSequence = groups[4].DerivationImageSequence


def name_a_foreign_image(dataset: Dataset) -> None:
    derivation = dataset.PerFrameFunctionalGroupsSequence[3].DerivationImageSequence[0]
    derivation.SourceImageSequence[0].ReferencedSOPInstanceUID = "2.25.3"


def drop_a_liver_frame(dataset: Dataset) -> None:
    frames = np.delete(dataset.pixel_array, 11, axis=0)
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    del dataset.PerFrameFunctionalGroupsSequence[11]
    dataset.NumberOfFrames = len(frames)


def one_group_missing(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[0]


SEG_FAULTS = [
    (flip_frame_order, "voxels are not the engine's"),
    (swap_two_frames, "voxels are not the engine's"),
    (mirror_rows, "voxels are not the engine's"),
    (flip_one_voxel, "1 voxels are not the engine's"),
    (reverse_positions, "from the image it names"),
    (shift_positions_by_a_slice, "from the image it names"),
    (shift_positions_a_little, "from the image it names"),
    (turn_orientation, "off the CT's slices"),
    (change_spacing, "off the CT's slices"),
    (name_one_image_twice, "from the image it names"),
    (name_a_foreign_image, "not of this CT"),
    (drop_a_liver_frame, "voxels are not the engine's"),
    (one_group_missing, "functional groups"),
    (another_class, "not a Segmentation"),
    (another_patient, "PatientID"),
    (another_frame_of_reference, "FrameOfReferenceUID"),
    (another_referenced_series, "ReferencedSeriesSequence"),
    (one_reference_missing, "ReferencedSeriesSequence"),
]


@pytest.mark.parametrize(("fault", "named"), SEG_FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_tampered_seg_is_refused_by_name(case: ResultCase, fault: Callable[[Dataset], None], named: str) -> None:
    edited(case.seg, fault)
    with pytest.raises(ProofError, match=named) as refused:
        case.prove()
    assert refused.value.reason is SEG_NOT_ON_CT
    assert "SOMEBODY-ELSE" not in str(refused.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_or_empty_file_is_refused(case: ResultCase, share: float) -> None:
    for path, reason in ((case.surface, SURFACE_BROKEN), (case.seg, SEG_NOT_ON_CT)):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ProofError) as refused:
            case.prove()
        assert refused.value.reason is reason


def moved(millimetres: float) -> Callable[[TriangleMesh], TriangleMesh]:
    matrix = np.eye(4)
    matrix[0, 3] = millimetres
    return lambda mesh: mesh.moved(matrix)


def swollen(factor: float) -> Callable[[TriangleMesh], TriangleMesh]:
    def swell(mesh: TriangleMesh) -> TriangleMesh:
        center = mesh.vertices.mean(axis=0)
        return TriangleMesh((mesh.vertices - center) * factor + center, mesh.faces)

    return swell


def mirrored(mesh: TriangleMesh) -> TriangleMesh:
    center = mesh.vertices.mean(axis=0)
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = 2 * center[2]
    return mesh.moved(flip)


@pytest.mark.parametrize(
    "change",
    [moved(8.0), moved(-40.0), swollen(1.06), swollen(0.94), mirrored],
    ids=["moved 8 mm", "moved 40 mm", "swollen", "shrunk", "mirrored"],
)
def test_a_mesh_and_a_mask_that_disagree_never_leave_though_both_are_written_faithfully(
    tmp_path: Path, change: Callable[[TriangleMesh], TriangleMesh]
) -> None:
    good = case_in_memory(tmp_path / "good", SMALL)
    wrong = replace(good.delineation, mesh=change(good.delineation.mesh))
    case = written_case(tmp_path / "wrong", good.stack, delineation=wrong)
    read_surface(case.surface)
    with pytest.raises(ProofError) as refused:
        case.prove()
    assert refused.value.reason is SURFACE_NOT_ON_SEG


def test_a_mask_that_is_not_on_the_ct_s_grid_is_refused(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, SMALL)
    aside = SMALL.lps_from_voxel.copy()
    aside[:3, 3] += SMALL.lps_from_voxel[:3, 2]
    elsewhere = ellipsoid_delineation(replace(SMALL, lps_from_voxel=aside).grid)
    assert elsewhere.mask.shape == case.delineation.mask.shape
    with pytest.raises(ProofError, match="not on the CT's grid"):
        prove(replace(case.request(), delineation=elsewhere))


def test_the_proof_s_numbers_are_finite_and_within_their_limits(case: ResultCase) -> None:
    numbers = case.prove().to_json()
    assert all(value is not None and math.isfinite(value) for value in numbers.values())
    assert numbers["vertex_to_seg_p99_mm"] <= numbers["allowed_mm"]
    assert numbers["wrong_side_most_mm"] <= numbers["allowed_mm"] / 2
    assert numbers["surface_volume_ml"] == pytest.approx(numbers["seg_volume_ml"], rel=0.02)


def test_without_a_surface_the_seg_alone_is_proven(case: ResultCase) -> None:
    proof = prove(replace(case.request(), files={ObjectKind.SEG: (case.seg,)}))
    assert proof.seg_voxels > 0
    assert proof.surface_vertices is None


def test_the_surface_s_handles_are_counted_and_said(tmp_path: Path) -> None:
    plain = case_in_memory(tmp_path / "plain", SMALL)
    assert plain.prove().surface_handles == 0
    assert "without handles" in dcmread(plain.surface).SurfaceSequence[0].SurfaceComments
    grid = axis_aligned_grid([-40, -40, -40], [40, 40, 40], 2.0)
    x, y, z = np.moveaxis(grid.points_lps(), -1, 0)
    ring = SignedDistance((np.hypot(np.hypot(x, y) - 24.0, z) - 9.0).astype(np.float32), grid)
    torus = OrganSurface.of(ring, grid)
    volume = Volume(np.zeros(grid.shape, np.int16), grid.lps_from_voxel)
    stack = case_in_memory(tmp_path / "stack", volume).stack
    found = replace(ellipsoid_delineation(grid), field=ring, mask=torus.mask, mesh=torus.mesh)
    case = written_case(tmp_path / "torus", stack, delineation=found)
    assert case.prove().surface_handles == 1
    assert "closed, 1 handle" in dcmread(case.surface).SurfaceSequence[0].SurfaceComments
