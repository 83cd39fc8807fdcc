"""What the engine returns. Nothing later recomputes any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dissm_engine.arithmetic import Arithmetic
from dissm_engine.findings import Findings
from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_engine.rounds import Round
from dissm_engine.volume import Grid, SignedDistance


@dataclass(frozen=True)
class Delineation:
    """A liver surface found in a CT.

    Attributes:
        field: Signed distance in mm on its own isotropic grid, negative inside.
        ct_grid: Where the CT's voxels lie.
        mask: bool [K, J, I] on `ct_grid`, exactly `field < 0` interpolated there.
        mesh: The field's zero surface, closed, LPS mm.
        pose, loadings: Of the shape model that the last refinement began from (reference frame to image; loadings of
            the principal components in standard deviations).
        findings: How far the result may be trusted.
        stage_seconds: Wall time of each stage.
        bundle_digest, bundle_name, bundle_version: Of the model bundle that made it; SHA-256 of the bundle's manifest.
            Empty where the model came from no bundle.
        tissue_hu: Median HU of named tissues (liver, aorta, spleen, ...) where they could be measured.
        arithmetic: What the bits of the result depend on beside the CT and the bundle.
        rounds: Every round of fit and refinement, in order.
    """

    field: SignedDistance
    ct_grid: Grid
    mask: npt.NDArray[np.bool_]
    mesh: TriangleMesh
    pose: Pose
    loadings: npt.NDArray[np.float32]
    findings: Findings
    stage_seconds: Mapping[str, float]
    bundle_digest: str
    bundle_name: str
    bundle_version: str
    tissue_hu: Mapping[str, float]
    arithmetic: Arithmetic
    rounds: tuple[Round, ...]

    @property
    def volume_ml(self) -> float:
        """Volume inside the mask."""
        return float(np.count_nonzero(self.mask) * self.ct_grid.voxel_ml)
