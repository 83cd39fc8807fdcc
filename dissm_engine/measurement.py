"""The numbers that the findings are made of: how plausible shape, refinement, tissue and surface of a result are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.findings import Place
from dissm_engine.hypothesis import Hypothesis
from dissm_engine.mesh import TriangleMesh
from dissm_engine.place import place_of
from dissm_engine.pose.agent import PosePath
from dissm_engine.refine.refiner import Refinement
from dissm_engine.refine.tissues import TissueClass, count_implausible_tissues, median_hu
from dissm_engine.rounds import Round, at_rho, at_rho_share, movement
from dissm_engine.surface import OrganSurface
from dissm_engine.tissue_regions import TissueRegions
from dissm_engine.volume import Grid, ScalarField, Volume

_EDGE_HU_PER_MM = 4.0
_EDGE_STEP_MM = 3.0
_CUT_MM = 1.5
_WELL_INSIDE_MM = -3.0


@dataclass(frozen=True)
class Measurements:
    """What was measured of one result.

    Attributes:
        values: Of every finding that `dissm_engine.trust.LIMITS` names, in its unit.
        places: Where to look, of the findings that have a place here.
    """

    values: Mapping[str, float]
    places: Mapping[str, Place]


@dataclass(frozen=True)
class DelineationSteps:
    """What the steps of a delineation left.

    Attributes:
        path: How the pose was found.
        first: The hypothesis that the rounds began with.
        found: What they ended with.
        rounds: Every round, in order.
        surface: The final one, made of `found`.
    """

    path: PosePath
    first: Hypothesis
    found: Hypothesis
    rounds: Sequence[Round]
    surface: OrganSurface


def measure(steps: DelineationSteps, ct_grid: Grid, rho_mm: float) -> Measurements:
    """The value of every finding of `dissm_engine.trust.LIMITS` by its name, and where to look.

    Args:
        steps: What the steps of the delineation left.
        ct_grid: Where the CT itself lies; the surface on its border was cut.
        rho_mm: The bound on the refinement's change.
    """
    values = {
        **_of_shape_and_pose(steps.path, steps.found.loadings),
        **_of_refinement(steps.found.refinement, rho_mm),
        **_of_rounds(steps),
        **_of_image(steps.found, steps.surface.mesh),
        "volume": float(steps.surface.mask.sum() * ct_grid.voxel_ml),
    }
    cut = _cut_vertices(steps.surface.mesh, ct_grid)
    values["cut_share"] = len(cut) / len(steps.surface.mesh.vertices)
    regions = TissueRegions(steps.surface.field, steps.found.refinement)
    left_out, taken_in = regions.left_out(), regions.taken_in()
    mass, mass_hu = regions.mass(steps.found.working.hu)
    values |= {
        "left_out": left_out.ml,
        "taken_in": taken_in.main_part_ml,
        "mass_like": mass.main_part_ml,
        "mass_hu": mass_hu,
        "tissue_dsc": regions.tissue_dsc,
    }
    points = {
        "left_out": left_out.points_lps,
        "taken_in": taken_in.points_lps,
        "mass_like": mass.points_lps,
        "mass_hu": mass.points_lps,
        "cut_share": cut,
        "at_rho_share": _largest_at_rho(steps.found.refinement, rho_mm),
    }
    places = {name: place_of(where, steps.surface.mesh, ct_grid) for name, where in points.items() if len(where)}
    return Measurements(values, places)


def _of_shape_and_pose(path: PosePath, loadings: npt.NDArray[np.float32]) -> dict[str, float]:
    some = len(loadings) > 0
    return {
        "shape_distance": float(np.sqrt(np.mean(np.square(loadings)))) if some else 0.0,
        "max_loading": float(np.abs(loadings).max()) if some else 0.0,
        "pose_error": float(path.expected_error_mm),
        "start_spread": float(path.spread_mm),
    }


def _of_refinement(refinement: Refinement, rho_mm: float) -> dict[str, float]:
    field = refinement.field
    shell = (np.abs(field.mm) < 1.5 * float(field.grid.spacing.mean())) & refinement.in_view
    change = np.abs(refinement.change_mm[shell])
    return {
        "change_mean": float(change.mean()) if change.size else 0.0,
        "change_p95": float(np.percentile(change, 95)) if change.size else 0.0,
        "at_rho_share": at_rho_share(refinement, rho_mm),
        "tissue_agreement": tissue_agreement(refinement),
    }


def _of_rounds(steps: DelineationSteps) -> dict[str, float]:
    """How far the last round moved the surface, also where its result was not taken, and all of them together."""
    return {
        "last_move": steps.rounds[-1].movement.mean_mm if steps.rounds else 0.0,
        "total_move": movement(steps.first.refinement, steps.found.refinement).mean_mm,
    }


def _of_image(found: Hypothesis, mesh: TriangleMesh) -> dict[str, float]:
    refinement, working = found.refinement, found.working
    field, in_view = refinement.field, refinement.in_view
    inside = (field.mm < _WELL_INSIDE_MM) & in_view
    hu = working.hu[inside] if inside.any() else np.array([0.0])
    medians = median_hu(working.hu, refinement.tissue, field.mm, in_view)
    return {
        "edgeless_share": _edgeless_share(working, mesh),
        "liver_hu_sd": float(1.4826 * np.median(np.abs(hu - np.median(hu)))),
        "liver_hu": float(np.median(hu)),
        "odd_tissues": float(count_implausible_tissues(medians)),
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


def _cut_vertices(mesh: TriangleMesh, ct_grid: Grid) -> npt.NDArray[np.float64]:
    """The surface's vertices that lie on the CT's outer faces, [N, 3], LPS mm."""
    return np.asarray(mesh.vertices[ct_grid.beyond_faces_mm(mesh.vertices) > -_CUT_MM])


def _largest_at_rho(refinement: Refinement, rho_mm: float) -> npt.NDArray[np.float64]:
    """The largest connected part of the surface that was moved as far as may be: voxel centres [N, 3], LPS mm."""
    labels, count = ndimage.label(at_rho(refinement, rho_mm), ndimage.generate_binary_structure(3, 3))
    if count == 0:
        return np.empty((0, 3))
    largest = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return refinement.field.grid.to_lps(np.argwhere(labels == largest)[:, ::-1])
