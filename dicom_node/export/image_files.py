"""Volumes as NIfTI and NRRD files, written by SimpleITK."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK

from dicom_node.reasons import EXPORT_SHEARED, NodeError

FILE_MODE = 0o600
"""Readable by its owner only (C10)."""
_MAX_SHEAR = 1e-3
"""By how much the product of two directions may differ from that of perpendicular ones."""


def write_image(
    path: Path, voxels: npt.NDArray[np.uint8] | npt.NDArray[np.int16], lps_from_voxel: npt.NDArray[np.float64]
) -> None:
    """Write a volume; the file appears whole or not at all.

    Args:
        path: Ends with `.nii.gz` or `.nrrd`. NIfTI's own coordinates are RAS: SimpleITK turns x and y.
        voxels: [K, J, I].
        lps_from_voxel: float64 [4, 4], maps (i, j, k, 1) to LPS mm.

    Raises:
        NodeError: EXPORT_SHEARED where the axes are not perpendicular, which neither format can say.
        OSError: The file cannot be written.
    """
    spacing = np.linalg.norm(lps_from_voxel[:3, :3], axis=0)
    directions = lps_from_voxel[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > _MAX_SHEAR:
        raise NodeError(EXPORT_SHEARED)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing(spacing.tolist())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    image.SetDirection(directions.ravel().tolist())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    image.SetOrigin(lps_from_voxel[:3, 3].tolist())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    partial = path.with_name(f".{path.name}")
    try:
        SimpleITK.WriteImage(image, str(partial), useCompression=True)
    except RuntimeError as problem:
        partial.unlink(missing_ok=True)
        raise OSError(None, "SimpleITK cannot write it", str(path)) from problem
    partial.chmod(FILE_MODE)
    os.replace(partial, path)
