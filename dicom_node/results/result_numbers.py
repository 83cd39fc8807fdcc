"""The numbers that a person reads: the same ones in captures and report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_node.values.ct_stack import CtStack
from dissm_engine.delineation import Delineation


@dataclass(frozen=True, slots=True)
class ResultNumbers:
    """What was measured of one delineated liver.

    Attributes:
        volume_ml: Of the mask.
        surface_cm2: Area of the mesh.
        extent_mm: Of the mask's voxels along the patient's axes, from voxel face to voxel face as far as the voxels lie
            along the axes: right to left, front to back, feet to head.
        liver_mean_hu: Mean over the voxels of the mask.
        spleen_median_hu: As the engine measured it; None where it could not.
    """

    volume_ml: float
    surface_cm2: float
    extent_mm: tuple[float, float, float]
    liver_mean_hu: float
    spleen_median_hu: float | None

    @staticmethod
    def of(
        stack: CtStack, delineation: Delineation, inside: npt.NDArray[np.int64], points_lps: npt.NDArray[np.float64]
    ) -> ResultNumbers:
        """Measure mask and mesh.

        Args:
            stack: The CT.
            delineation: What was found in it.
            inside: The mask's voxels [N, 3] (k, j, i), at least one.
            points_lps: Their centres [N, 3], LPS mm.
        """
        grid = delineation.ct_grid
        voxel = np.abs(grid.lps_from_voxel[:3, :3]).max(axis=1)
        x, y, z = (float(v) for v in points_lps.max(axis=0) - points_lps.min(axis=0) + voxel)
        spleen = delineation.tissue_hu.get("spleen", float("nan"))
        return ResultNumbers(
            volume_ml=float(len(inside) * grid.voxel_ml),
            surface_cm2=delineation.mesh.area_cm2,
            extent_mm=(x, y, z),
            liver_mean_hu=float(stack.volume.hu[tuple(inside.T)].mean(dtype=np.float64)),
            spleen_median_hu=float(spleen) if np.isfinite(spleen) else None,
        )
