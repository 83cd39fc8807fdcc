"""A delineation without an engine: two fused ellipsoids, lopsided, so that no flip or swapped axis goes unseen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dissm_engine.arithmetic import Arithmetic
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Finding, Findings, Verdict
from dissm_engine.pose.similarity import Pose
from dissm_engine.progress import Cancellation, Monitor, Progress, no_progress
from dissm_engine.surface import OrganSurface
from dissm_engine.volume import Grid, SignedDistance, Volume, axis_aligned_grid

BUNDLE_DIGEST = "ab" * 32
TISSUE_HU = {"liver": 105.0, "aorta": 150.0, "spleen": 115.0, "kidney": 170.0}
"""A venous phase."""
ARITHMETIC = Arithmetic("cpu", "float32", 1, "AVX2", ("torch 0.0.0",))


def ellipsoid_delineation(
    grid: Grid,
    *,
    size: float = 1.0,
    center_lps: npt.ArrayLike | None = None,
    verdict: Verdict = Verdict.ACCEPT,
    tissue_hu: dict[str, float] | None = None,
    field_spacing_mm: float | None = None,
) -> Delineation:
    """What an engine would return for a liver made of two ellipsoids inside the CT.

    grid: the CT's grid. size: 1 fills about two thirds of the CT's smallest extent; larger ones are cut by its border.
    center_lps: LPS mm, default a little beside the CT's centre. field_spacing_mm: default one fortieth of that extent.
    """
    extent = float((np.array(grid.shape[::-1]) * grid.spacing).min())
    middle = grid.center_lps + 0.04 * extent * np.array([1.0, -1.0, 0.7]) if center_lps is None else center_lps
    spacing = extent / 40 if field_spacing_mm is None else field_spacing_mm
    reach = 0.42 * extent * size
    low, high = np.asarray(middle) - reach, np.asarray(middle) + reach
    field_grid = axis_aligned_grid(low, high, spacing)
    field = SignedDistance(_two_ellipsoids(field_grid, np.asarray(middle), reach), field_grid)
    surface = OrganSurface.of(field, grid)
    return Delineation(
        field=field,
        ct_grid=grid,
        mask=surface.mask,
        mesh=surface.mesh,
        pose=Pose.at(middle),
        loadings=np.zeros(4, np.float32),
        findings=_findings(float(surface.mask.sum() * grid.voxel_ml), verdict),
        stage_seconds={"analytic": 0.0},
        bundle_digest=BUNDLE_DIGEST,
        bundle_name="analytic",
        bundle_version="1.0.0",
        tissue_hu=dict(TISSUE_HU if tissue_hu is None else tissue_hu),
        arithmetic=ARITHMETIC,
        rounds=(),
    )


class EllipsoidEngine:
    """Takes the engine's place in tests of the node."""

    bundle_digest = BUNDLE_DIGEST

    def __init__(self, verdict: Verdict = Verdict.ACCEPT, tissue_hu: dict[str, float] | None = None) -> None:
        self.verdict, self.tissue_hu = verdict, tissue_hu

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        Monitor(progress, cancellation or Cancellation()).report("analytic", 1.0)
        return ellipsoid_delineation(volume.grid, verdict=self.verdict, tissue_hu=self.tissue_hu)


def _two_ellipsoids(grid: Grid, middle: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.float32]:
    """A large right lobe and a small left one, both inside a cube of half side `reach` around `middle`, mm."""
    points = grid.points_lps()
    right = _ellipsoid(points, middle + reach * np.array([-0.25, 0.05, -0.05]), reach * np.array([0.6, 0.55, 0.8]))
    left = _ellipsoid(points, middle + reach * np.array([0.4, -0.3, 0.3]), reach * np.array([0.5, 0.35, 0.3]))
    return np.minimum(right, left).astype(np.float32)


def _ellipsoid(
    points: npt.NDArray[np.float64], center: npt.NDArray[np.float64], radii: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """First-order signed distance to an ellipsoid, mm, negative inside; its zero is exact."""
    x = points - center
    level = np.linalg.norm(x / radii, axis=-1)
    slope = np.linalg.norm(x / radii**2, axis=-1)
    deepest = -float(radii.min())
    return np.where(slope > 1e-9, level * (level - 1) / np.maximum(slope, 1e-9), deepest)


def _findings(volume_ml: float, verdict: Verdict) -> Findings:
    items = (Finding("volume_ml", volume_ml, "ml", 0.0, 4000.0),)
    return Findings(items, estimated_dsc=0.95, verdict=verdict, reasons=())
