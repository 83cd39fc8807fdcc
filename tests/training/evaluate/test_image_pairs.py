"""CTs with masks: every orientation and format gives the same volume, and what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from dissm_engine.errors import GeometryError
from tests.builders.image_pairs import grid, hounsfield, image_of, organ_mask, write_pair
from training.sources.image_pairs import ImagePair, ImagePairError, find_image_pairs, read_image_pair


def only_pair(folder: Path, labels: tuple[int, ...] = ()) -> ImagePair:
    (files,) = find_image_pairs(folder)
    return read_image_pair(files, labels)


def refusal(folder: Path, labels: tuple[int, ...] = ()) -> ImagePairError:
    with pytest.raises(ImagePairError) as refused:
        only_pair(folder, labels)
    return refused.value


@pytest.mark.parametrize("tilt", [0.0, 17.0])
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LPI", "SPR", "IRP", "AIL"])
@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_a_flipped_permuted_or_oblique_file_is_read_as_the_volume_that_it_shows(
    tmp_path: Path, tilt: float, orientation: str, suffix: str
) -> None:
    on = grid(tilt)
    write_pair(tmp_path, "case", on, suffix, orientation)
    pair = only_pair(tmp_path)
    # NIfTI keeps the affine in single precision.
    np.testing.assert_allclose(pair.volume.lps_from_voxel, on.lps_from_voxel, atol=2e-3)
    np.testing.assert_array_equal(pair.mask, organ_mask(on))
    np.testing.assert_array_equal(pair.volume.hu, hounsfield(organ_mask(on)))
    assert pair.volume.hu.dtype == np.int16


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_every_format_gives_the_same_pair(tmp_path: Path, suffix: str) -> None:
    write_pair(tmp_path, "case", grid(), suffix)
    pair = only_pair(tmp_path)
    assert pair.name == "case"
    np.testing.assert_array_equal(pair.volume.hu, hounsfield(organ_mask(grid())))


def test_a_label_that_is_stored_the_other_way_round_still_lies_on_its_image(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid(9.0), ".nrrd")
    label = image_of(organ_mask(grid(9.0)).astype(np.uint8), grid(9.0), "RAI")
    SimpleITK.WriteImage(label, str(tmp_path / "labels" / "case.nrrd"))
    np.testing.assert_array_equal(only_pair(tmp_path).mask, organ_mask(grid(9.0)))


def test_grids_that_differ_are_refused_and_both_are_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid(), ".nrrd")
    moved = SimpleITK.ReadImage(str(tmp_path / "labels" / "case.nrrd"))
    origin = moved.GetOrigin()
    moved.SetOrigin((origin[0] + 1.0, origin[1], origin[2]))
    SimpleITK.WriteImage(moved, str(tmp_path / "labels" / "case.nrrd"))
    problem = refusal(tmp_path)
    assert problem.reason.code == "GRIDS_DIFFER"
    assert f"({origin[0]:.2f}, " in str(problem)
    assert f"({origin[0] + 1:.2f}, " in str(problem)


def test_grids_of_another_size_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid(), ".nrrd")
    label = SimpleITK.ReadImage(str(tmp_path / "labels" / "case.nrrd"))
    SimpleITK.WriteImage(label[:, :, 1:], str(tmp_path / "labels" / "case.nrrd"))
    assert "52x48x36 voxels" in str(refusal(tmp_path))
    assert "52x48x35 voxels" in str(refusal(tmp_path))


def test_only_the_named_label_is_the_organ(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid(), ".nrrd", label_value=6)
    label = SimpleITK.ReadImage(str(tmp_path / "labels" / "case.nrrd"))
    label[0, 0, 0] = 2
    SimpleITK.WriteImage(label, str(tmp_path / "labels" / "case.nrrd"))
    organ = organ_mask(grid())
    assert only_pair(tmp_path).mask.sum() == organ.sum() + 1
    np.testing.assert_array_equal(only_pair(tmp_path, (6,)).mask, organ)
    np.testing.assert_array_equal(only_pair(tmp_path, (2, 6)).mask, only_pair(tmp_path).mask)
    problem = refusal(tmp_path, (1,))
    assert problem.reason.code == "LABEL_EMPTY"
    assert "0, 2, 6" in str(problem)


def test_images_of_nnunet_have_a_channel_behind_their_name(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid())
    (tmp_path / "images" / "case.nii.gz").rename(tmp_path / "images" / "case_0000.nii.gz")
    assert only_pair(tmp_path).name == "case"
    (tmp_path / "images").rename(tmp_path / "imagesTr")
    (tmp_path / "labels").rename(tmp_path / "labelsTr")
    assert only_pair(tmp_path).name == "case"


def test_a_case_that_lacks_its_partner_or_has_two_files_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", grid())
    write_pair(tmp_path, "b", grid())
    write_pair(tmp_path, "c", grid())
    write_pair(tmp_path, "c", grid(), ".mha")
    (tmp_path / "labels" / "a.nii.gz").unlink()
    (tmp_path / "images" / "b.nii.gz").unlink()
    cases = find_image_pairs(tmp_path)
    assert [case.name for case in cases] == ["a", "b", "c"]
    problems = []
    for case in cases:
        with pytest.raises(ImagePairError) as refused:
            read_image_pair(case)
        problems.append(str(refused.value))
    assert "case a has no file in labels/" in problems[0]
    assert "case b has no file in images/" in problems[1]
    assert "c.mha, c.nii.gz" in problems[2]


def test_a_folder_without_pairs_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ImagePairError, match=r"images/ and labels/ that hold files of the same names \(\.nii\.gz"):
        find_image_pairs(tmp_path)


def test_a_file_that_is_no_image_is_refused_by_its_name(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid())
    (tmp_path / "images" / "case.nii.gz").write_bytes(b"no image at all")
    problem = refusal(tmp_path)
    assert problem.reason.code == "IMAGE_UNREADABLE"
    assert "case.nii.gz" in str(problem)


def test_an_image_of_several_channels_or_times_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid(), ".nrrd")
    image = SimpleITK.ReadImage(str(tmp_path / "images" / "case.nrrd"))
    SimpleITK.WriteImage(SimpleITK.Compose([image, image]), str(tmp_path / "images" / "case.nrrd"))
    assert "2 numbers a voxel" in str(refusal(tmp_path))
    SimpleITK.WriteImage(SimpleITK.JoinSeries([image, image]), str(tmp_path / "images" / "case.nrrd"))
    assert refusal(tmp_path).reason.code == "IMAGE_NOT_3D"
    SimpleITK.WriteImage(SimpleITK.JoinSeries([image]), str(tmp_path / "images" / "case.nrrd"))
    np.testing.assert_array_equal(only_pair(tmp_path).volume.hu, hounsfield(organ_mask(grid())))


def test_an_image_with_values_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "case", grid(), ".nrrd")
    image = SimpleITK.Cast(SimpleITK.ReadImage(str(tmp_path / "images" / "case.nrrd")), SimpleITK.sitkFloat32)
    image[3, 3, 3] = float("nan")
    SimpleITK.WriteImage(image, str(tmp_path / "images" / "case.nrrd"))
    with pytest.raises(GeometryError, match="1 values that are not finite"):
        only_pair(tmp_path)
