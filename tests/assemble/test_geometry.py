"""Which sets of images make one volume, and the one reason why others do not (C3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from dicom_node.assemble.geometry import GeometryLimits, check_geometry
from dicom_node.assemble.plane import ImagePlane, plane_of
from dicom_node.reasons import RefusalError
from dicom_node.settings import AssembleSettings
from dissm_engine.volume import Volume
from tests.builders.ct_series import ORIENTATIONS, SeriesOptions, image_header, oriented, tilted

SETTINGS = AssembleSettings()


def flat_volume(count: int = 60, spacing: float = 2.5) -> Volume:
    affine = np.diag([2.0, 2.0, spacing, 1.0])
    affine[:3, 3] = [-10.0, -12.0, -300.0]
    return Volume(np.zeros((count, 12, 10), np.int16), affine)


def planes_of(volume: Volume, **options: Any) -> list[ImagePlane]:
    chosen = SeriesOptions(**options)
    return [plane_of(image_header(volume, k, k + 1, chosen), k) for k in range(volume.hu.shape[0])]


def refusal(planes: list[ImagePlane], chosen: AssembleSettings = SETTINGS) -> str:
    with pytest.raises(RefusalError) as refused:
        check_geometry(planes, GeometryLimits.of(chosen))
    refused.value.reason.say(**refused.value.facts)
    return refused.value.reason.code


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_voxels_of_every_orientation_keep_their_place_in_the_patient(orientation: Any) -> None:
    volume = oriented(
        Volume(np.zeros((62, 64, 66), np.int16), flat_volume().lps_from_voxel @ np.diag([1, 1, 1, 1])), orientation
    )
    planes = planes_of(volume)
    shuffled = list(np.random.default_rng(3).permutation(len(planes)))
    geometry = check_geometry([planes[n] for n in shuffled], GeometryLimits.of(SETTINGS))
    for k, index in enumerate(geometry.order):
        source_k = shuffled[index]
        expected = volume.grid.to_lps([[0, 0, source_k], [5, 7, source_k]])
        found = np.array([[0, 0, k, 1], [5, 7, k, 1]]) @ geometry.lps_from_voxel.T
        np.testing.assert_allclose(found[:, :3], expected, atol=1e-6)
    assert np.linalg.det(geometry.lps_from_voxel[:3, :3]) > 0


def test_order_comes_from_position_and_never_from_instance_number() -> None:
    planes = planes_of(flat_volume())
    lying = [
        replace(plane, instance_number=int(n))
        for plane, n in zip(planes, np.random.default_rng(0).permutation(60), strict=True)
    ]
    assert check_geometry(lying, GeometryLimits.of(SETTINGS)).order == tuple(range(60))


def test_slice_thickness_is_not_spacing() -> None:
    planes = planes_of(flat_volume(spacing=2.5), attributes={"SliceThickness": "5"})
    assert check_geometry(planes, GeometryLimits.of(SETTINGS)).spacing_mm == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"frame_of_reference": None}, "NO_FRAME_OF_REFERENCE"),
        ({"position": None}, "NO_POSITIONS"),
        ({"orientation": None}, "NO_POSITIONS"),
        ({"frame_of_reference": "1.2.3"}, "MIXED_FRAMES_OF_REFERENCE"),
        ({"orientation": np.array([0, 1.0, 0, 0, 0, 1.0])}, "MIXED_ORIENTATION"),
        ({"rows": 13}, "MIXED_SIZE"),
        ({"pixel_spacing": (2.0, 2.1)}, "MIXED_SIZE"),
        ({"rows": 0}, "UNREADABLE_HEADER"),
        ({"pixel_spacing": None}, "UNREADABLE_HEADER"),
        ({"sop_class_uid": EnhancedCTImageStorage}, "ENHANCED_MULTIFRAME"),
    ],
)
def test_one_odd_image_refuses_the_stack_by_its_own_reason(change: dict[str, Any], code: str) -> None:
    planes = planes_of(flat_volume())
    planes[20] = replace(planes[20], **change)
    assert refusal(planes) == code


def test_the_first_reason_in_order_is_given_when_several_apply() -> None:
    planes = planes_of(flat_volume(count=5), frame_of_reference=None)
    assert refusal(planes) == "NO_FRAME_OF_REFERENCE"


def test_directions_that_are_not_orthonormal_are_refused() -> None:
    skew = ["1", "0", "0", "0.1", "0.995", "0"]
    assert (
        refusal(planes_of(flat_volume(), attributes={"ImageOrientationPatient": skew})) == "ORIENTATION_NOT_ORTHONORMAL"
    )


def test_missing_slices_in_the_middle_are_a_gap_and_at_the_end_are_not() -> None:
    planes = planes_of(flat_volume())
    assert refusal(planes[:30] + planes[33:]) == "GEOMETRY_GAP"
    assert len(check_geometry(planes[:-3], GeometryLimits.of(SETTINGS)).order) == 57


def test_every_second_slice_is_an_even_stack_of_twice_the_spacing() -> None:
    assert check_geometry(planes_of(flat_volume())[::2], GeometryLimits.of(SETTINGS)).spacing_mm == pytest.approx(5.0)


def test_two_images_at_one_position_clash() -> None:
    planes = planes_of(flat_volume())
    assert refusal([*planes, replace(planes[7], instance_id=99)]) == "POSITION_CLASH"


def moved(planes: list[ImagePlane], index: int, offset: list[float]) -> list[ImagePlane]:
    other = list(planes)
    other[index] = replace(other[index], position=np.asarray(other[index].position) + offset)
    return other


def test_uneven_steps_are_refused_beyond_the_tolerance_only() -> None:
    planes = planes_of(flat_volume())
    assert refusal(moved(planes, 10, [0, 0, 0.2])) == "UNEVEN_SPACING"
    check_geometry(moved(planes, 10, [0, 0, 0.04]), GeometryLimits.of(SETTINGS))


def test_an_image_shifted_in_its_own_plane_is_refused() -> None:
    assert refusal(moved(planes_of(flat_volume()), 10, [3.0, 0, 0])) == "POSITIONS_NOT_IN_LINE"


def test_a_gantry_tilt_is_refused_by_default_and_becomes_a_sheared_grid_where_the_site_says_so() -> None:
    volume = tilted(flat_volume(), 10)
    planes = planes_of(volume)
    assert refusal(planes) == "GANTRY_TILT"
    geometry = check_geometry(planes, GeometryLimits.of(AssembleSettings(gantry_tilt="resample")))
    assert geometry.tilt_degrees == pytest.approx(10, abs=0.01)
    np.testing.assert_allclose(geometry.lps_from_voxel, volume.lps_from_voxel, atol=1e-6)


def test_an_untilted_oblique_stack_is_no_tilt() -> None:
    assert (
        check_geometry(planes_of(oriented(flat_volume(), "oblique")), GeometryLimits.of(SETTINGS)).tilt_degrees < 0.01
    )


@pytest.mark.parametrize(
    ("count", "spacing", "code"),
    [(1, 2.5, "TOO_FEW_SLICES"), (19, 7.0, "TOO_FEW_SLICES"), (30, 2.5, "TOO_SHORT"), (30, 9.0, "SPACING_TOO_WIDE")],
)
def test_stacks_too_small_or_too_coarse_are_refused(count: int, spacing: float, code: str) -> None:
    assert refusal(planes_of(flat_volume(count, spacing))) == code


@pytest.mark.parametrize("value", ["nan", "", "1\\2", None])
def test_positions_that_are_no_three_finite_numbers_count_as_missing(value: str | None) -> None:
    header = image_header(flat_volume(), 0, 1, SeriesOptions())
    header.ImagePositionPatient = value if value is None else value.split("\\")
    assert plane_of(header, 0).position is None


@settings(max_examples=20, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180) for _ in range(3)]),
    origin=st.tuples(*[st.floats(-1000, 1000) for _ in range(3)]),
    spacing=st.floats(0.4, 8),
    seed=st.integers(0, 10_000),
)
def test_any_rotated_stack_in_any_order_is_rebuilt_exactly(
    angles: tuple[float, ...], origin: tuple[float, ...], spacing: float, seed: int
) -> None:
    from scipy.spatial.transform import Rotation

    count = max(20, int(np.ceil(121 / spacing)))
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = axes * [0.7, 0.9, spacing]
    affine[:3, 3] = origin
    planes = planes_of(Volume(np.zeros((count, 3, 3), np.int16), affine))
    order = np.random.default_rng(seed).permutation(count)
    geometry = check_geometry([planes[n] for n in order], GeometryLimits.of(SETTINGS))
    assert [int(order[index]) for index in geometry.order] == list(range(count))
    np.testing.assert_allclose(geometry.lps_from_voxel, affine, atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(
    numbers=st.lists(st.one_of(st.floats(), st.just("x")), max_size=7),
    keyword=st.sampled_from(
        ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "Rows"]
    ),
)
def test_hostile_numbers_never_escape_as_anything_but_missing_values(numbers: list[Any], keyword: str) -> None:
    header = Dataset()
    try:
        setattr(header, keyword, [str(number)[:16] for number in numbers] or None)
    except (ValueError, TypeError, OverflowError):
        return
    plane = plane_of(header, 0)
    for values in (plane.position, plane.orientation):
        assert values is None or np.isfinite(values).all()
