"""The numbers that the findings are made of: how plausible shape, refinement, tissue and surface of a result are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.agent import PosePath
from dissm_engine.refine.refiner import Refinement
from dissm_engine.refine.tissues import TissueClass, count_implausible_tissues, median_hu
from dissm_engine.volume import Grid, ScalarField, Volume

_EDGE_HU_PER_MM = 4.0
_EDGE_STEP_MM = 3.0
_CUT_MM = 1.5
_WELL_INSIDE_MM = -3.0


def measure(
    path: PosePath,
    loadings: npt.NDArray[np.float32],
    refinement: Refinement,
    working: Volume,
    mesh: TriangleMesh,
    ct_grid: Grid,
    volume_ml: float,
) -> dict[str, float]:
    """The value of every finding of `dissm_engine.trust.LIMITS`, by name.

    Args:
        path: How the pose was found.
        loadings: Of the chosen hypothesis, float32 [C], standard deviations.
        refinement: Of the chosen hypothesis.
        working: The CT on the grid of the refinement's field.
        mesh: The final surface, LPS mm.
        ct_grid: Where the CT itself lies; the surface on its border was cut.
        volume_ml: Volume of the final mask.
    """
    field = refinement.field
    shell = (np.abs(field.mm) < 1.5 * float(field.grid.spacing.mean())) & refinement.in_view
    change = np.abs(refinement.change_mm[shell])
    inside = (field.mm < _WELL_INSIDE_MM) & refinement.in_view
    hu = working.hu[inside] if inside.any() else np.array([0.0])
    return {
        "shape_distance": float(np.sqrt(np.mean(np.square(loadings)))) if len(loadings) else 0.0,
        "pose_error": float(path.expected_error_mm),
        "start_spread": float(path.spread_mm),
        "change_mean": float(change.mean()) if change.size else 0.0,
        "change_p95": float(np.percentile(change, 95)) if change.size else 0.0,
        "edgeless_share": _edgeless_share(working, mesh),
        "tissue_agreement": tissue_agreement(refinement),
        "liver_hu_sd": float(1.4826 * np.median(np.abs(hu - np.median(hu)))),
        "liver_hu": float(np.median(hu)),
        "volume": volume_ml,
        "cut_share": _cut_share(mesh, ct_grid),
        "odd_tissues": float(
            count_implausible_tissues(median_hu(working.hu, refinement.tissue, field.mm, refinement.in_view))
        ),
    }


def tissue_agreement(refinement: Refinement) -> float:
    """Share of the voxels well inside the final field, and in view, that the tissue head calls liver, 0 to 1."""
    inside = (refinement.field.mm < _WELL_INSIDE_MM) & refinement.in_view
    return float((refinement.tissue[inside] == TissueClass.LIVER).mean()) if inside.any() else 0.0


def _edgeless_share(working: Volume, mesh: TriangleMesh) -> float:
    """Share of the surface across which the HU hardly change."""
    image = ScalarField(np.asarray(working.hu, dtype=np.float32), working.grid)
    outer = image.at(mesh.vertices + _EDGE_STEP_MM * mesh.normals)
    inner = image.at(mesh.vertices - _EDGE_STEP_MM * mesh.normals)
    return float((np.abs(outer - inner) / (2 * _EDGE_STEP_MM) < _EDGE_HU_PER_MM).mean())


def _cut_share(mesh: TriangleMesh, ct_grid: Grid) -> float:
    """Share of the surface's vertices that lie on the CT's outer faces."""
    return float((ct_grid.beyond_faces_mm(mesh.vertices) > -_CUT_MM).mean())
