"""CTs with masks as files: a lopsided organ in a small volume, written in any orientation and format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK

from dissm_engine.volume import Grid
from tests.builders.analytic import ellipsoid_delineation

SHAPE = (36, 48, 52)
SPACING = (3.0, 2.5, 4.0)


def grid(tilt_degrees: float = 0.0) -> Grid:
    """A small CT's grid (i, j, k spacing of SPACING), turned about the patient's long axis and tilted as much."""
    turn = np.deg2rad(tilt_degrees)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(SPACING)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE[::-1]) - 1) / 2) + np.array([7.0, -11.0, 230.0])
    return Grid(SHAPE, affine)


def organ_mask(on: Grid, size: float = 1.0) -> npt.NDArray[np.bool_]:
    """bool [K, J, I]: the lopsided organ in the middle of a grid."""
    return ellipsoid_delineation(on, size=size, center_lps=on.center_lps).mask


def image_of(values: npt.NDArray[np.generic], on: Grid, orientation: str = "LPS") -> SimpleITK.Image:
    """An ITK image of values [K, J, I], its axes permuted and flipped to an orientation such as "RAS" or "SPR"."""
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(on.spacing.tolist())
    image.SetDirection((on.lps_from_voxel[:3, :3] / on.spacing).ravel().tolist())
    image.SetOrigin(on.lps_from_voxel[:3, 3].tolist())
    return SimpleITK.DICOMOrient(image, orientation)


def hounsfield(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """A CT of a mask: every voxel has a number of its own, so that no exchange of voxels goes unseen."""
    rng = np.random.default_rng(3)
    return np.where(mask, 110, -20).astype(np.int16) + rng.integers(-15, 15, mask.shape, dtype=np.int16)


def write_pair(
    folder: Path, name: str, on: Grid, suffix: str = ".nii.gz", orientation: str = "LPS", label_value: int = 1
) -> None:
    """Write `images/NAME` and `labels/NAME`."""
    mask = organ_mask(on)
    for kind, values in (("images", hounsfield(mask)), ("labels", mask.astype(np.uint8) * np.uint8(label_value))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        SimpleITK.WriteImage(image_of(values, on, orientation), str(folder / kind / (name + suffix)))
