"""Both writers, in every orientation a stack may come in, judged by patient coordinates."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.results.surface.reader import read_surface
from dicom_node.settings import ResultSettings
from dicom_node.values.ct_stack import CtStack
from dissm_engine.volume import Volume
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import ORIENTATIONS, abdomen, oriented, rearranged, tilted
from tests.builders.result_case import ResultCase, case_in_memory, case_on_disk, written_case

SMALL = abdomen(shape=(22, 25, 27), spacing=(5.0, 5.5, 6.0))
AXES = tuple(itertools.permutations((0, 1, 2)))
FLIPS = tuple(flips for count in range(4) for flips in itertools.combinations((0, 1, 2), count))


def inside_points(seg: Path) -> np.ndarray:
    """LPS mm [N, 3] of every voxel set, by the file's own positions alone, in a canonical order."""
    dataset = pydicom.dcmread(seg)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    direction = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    row_spacing, column_spacing = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    found = []
    for frame, group in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        j, i = np.nonzero(frame)
        steps = np.outer(i * column_spacing, direction[:3]) + np.outer(j * row_spacing, direction[3:])
        found.append(position + steps)
    points = np.concatenate(found)
    return points[np.lexsort(points.round(3).T)]


def assert_on_the_field(case: ResultCase) -> None:
    """The SEG's voxels are where the analytic field is negative; those it leaves out are where it is not."""
    points = inside_points(case.seg)
    field = case.delineation.field
    assert field.at(points).max() < 0
    everywhere = field.at(case.stack.volume.grid.points_lps())
    assert len(points) == (everywhere < 0).sum()


@pytest.mark.parametrize("frames", ["all", "liver"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_seg_and_surface_of_an_oriented_stack_lie_on_its_ct(tmp_path: Path, orientation: str, frames: str) -> None:
    settings = ResultSettings(seg_frames=frames)
    case = case_on_disk(tmp_path, oriented(SMALL, orientation), settings)
    assert_on_the_field(case)
    proof = case.prove()
    assert proof.seg_voxels == case.delineation.mask.sum()
    occupied = case.delineation.mask.any(axis=(1, 2)).sum()
    assert proof.seg_frames == (len(case.stack.headers) if frames == "all" else occupied)
    assert occupied < len(case.stack.headers)


@pytest.mark.slow
def test_all_48_ways_to_store_one_body_give_the_same_points_in_the_patient(tmp_path: Path) -> None:
    """The stack is handed over as it is: left-handed ones and such against their normal, too."""
    reference: ResultCase | None = None
    for number, (axes, flips) in enumerate(itertools.product(AXES, FLIPS)):
        case = case_in_memory(tmp_path / str(number), rearranged(SMALL, axes, flips))
        case.prove()
        if reference is None:
            reference = case
            assert_on_the_field(case)
            continue
        np.testing.assert_allclose(inside_points(case.seg), inside_points(reference.seg), atol=1e-3)
        mesh, first = read_surface(case.surface).mesh, read_surface(reference.surface).mesh
        np.testing.assert_allclose(mesh.vertices, first.vertices, atol=0.05)
        assert mesh.volume_ml == pytest.approx(first.volume_ml, rel=1e-3)


@pytest.mark.parametrize("columns", [24, 25, 26, 27, 29, 31])
def test_columns_that_do_not_fill_bytes_do_not_shift_the_seg(tmp_path: Path, columns: int) -> None:
    case = case_in_memory(tmp_path, abdomen(shape=(21, 23, columns), spacing=(6.0, 6.0, 6.0)))
    assert_on_the_field(case)
    case.prove()


def test_a_tilted_gantry_s_frames_lie_on_the_tilted_images(tmp_path: Path) -> None:
    case = case_in_memory(tmp_path, tilted(SMALL, 12.0))
    assert_on_the_field(case)
    case.prove()


def test_a_seg_cut_by_the_border_of_the_ct_is_proven_with_its_flat_cap(tmp_path: Path) -> None:
    low = SMALL.grid.to_lps([0, 0, 9])
    top_only = Volume(SMALL.hu[9:], np.block([[SMALL.lps_from_voxel[:3, :3], low[:, None]], [0, 0, 0, 1]]))
    whole = case_in_memory(tmp_path / "whole", SMALL)
    center = whole.delineation.pose.translation
    cut = ellipsoid_delineation(top_only.grid, size=1.2, center_lps=center)
    case = written_case(tmp_path / "cut", CtStack(top_only, whole.stack.headers[9:]), delineation=cut)
    assert cut.mask[0].any()
    points = inside_points(case.seg)
    assert len(points) == cut.mask.sum()
    assert cut.field.at(points).max() < 0
    case.prove()


def test_frames_name_the_image_they_were_derived_from(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path, oriented(SMALL, "reversed"))
    by_uid = {header.SOPInstanceUID: header for header in case.stack.headers}
    dataset = pydicom.dcmread(case.seg)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        named = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        stated = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        assert stated == pytest.approx([float(v) for v in by_uid[named].ImagePositionPatient], abs=1e-6)


def test_a_ct_of_clinical_size_is_written_and_proven(tmp_path: Path) -> None:
    affine = np.diag([0.7, 0.7, 2.5, 1.0])
    case = case_in_memory(tmp_path, Volume(np.zeros((100, 512, 512), np.int16), affine))
    proof = case.prove()
    assert proof.seg_frames == 100
    assert proof.seg_volume_ml == pytest.approx(proof.surface_volume_ml, rel=0.01)


def test_images_that_lie_unevenly_within_tolerance_keep_their_own_positions(tmp_path: Path) -> None:
    """Steps of 4.95 and 5.05 mm: the frames say what the images say, not what an even grid would."""
    drift = np.cumsum(np.where(np.arange(22) < 11, -0.04, 0.04))

    def shift(k: int, image: pydicom.Dataset) -> None:
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y, round(float(z) + drift[k] - drift[0], 4)]

    case = case_on_disk(tmp_path, SMALL, each=shift)
    assert 0.3 < case.prove().frame_offset_mm < 0.6
