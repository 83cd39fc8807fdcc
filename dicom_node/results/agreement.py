"""How well a surface and a mask in patient coordinates describe one body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from dissm_engine.mesh import TriangleMesh
from dissm_engine.shape.distance import signed_distance_to_mesh
from dissm_engine.volume import Grid

MAX_POINTS = 20_000
"""Of each kind at most so many boundary points are measured, evenly drawn."""


@dataclass(frozen=True, slots=True)
class SegSurfaceAgreement:
    """Distances in mm between a mesh and the boundary of a mask.

    The boundary is taken as the faces between voxels inside and outside, at their centres.
    vertex_to_seg: from each vertex to the boundary; 99th percentile and largest.
    seg_to_surface: from each boundary face to the surface; largest.
    wrong_side: how deep a voxel centre of the mask lies outside the surface, or one beyond it inside; largest.
    """

    vertex_to_seg_p99: float
    max_vertex_to_seg: float
    max_seg_to_surface: float
    max_wrong_side: float
    voxel_diagonal: float


def measure_agreement(mask: npt.NDArray[np.bool_], grid: Grid, mesh: TriangleMesh) -> SegSurfaceAgreement:
    """mask: bool [K, J, I] on `grid`, not empty. mesh: closed, LPS mm."""
    body, body_grid = _cropped(mask, grid)
    faces = body_grid.to_lps(_boundary_faces(body))
    to_seg = np.asarray(cKDTree(faces).query(mesh.vertices)[0])
    to_surface = np.abs(signed_distance_to_mesh(_thinned(faces), mesh))
    inner, outer = _both_sides(body)
    deepest_outside = signed_distance_to_mesh(_thinned(_centres(inner, body_grid)), mesh).max()
    deepest_inside = -signed_distance_to_mesh(_thinned(_centres(outer, body_grid)), mesh).min()
    return SegSurfaceAgreement(
        vertex_to_seg_p99=float(np.percentile(to_seg, 99)),
        max_vertex_to_seg=float(to_seg.max()),
        max_seg_to_surface=float(to_surface.max()),
        max_wrong_side=float(max(deepest_outside, deepest_inside, 0.0)),
        voxel_diagonal=float(np.linalg.norm(grid.spacing)),
    )


def _cropped(mask: npt.NDArray[np.bool_], grid: Grid) -> tuple[npt.NDArray[np.bool_], Grid]:
    """The bounding box of the mask with one empty voxel around it, also beyond the CT's border."""
    k = np.flatnonzero([plane.any() for plane in mask])
    flat = np.logical_or.reduce(mask[k[0] : k[-1] + 1])
    j, i = (np.flatnonzero(np.logical_or.reduce(flat, axis=axis)) for axis in (1, 0))
    body = np.pad(mask[k[0] : k[-1] + 1, j[0] : j[-1] + 1, i[0] : i[-1] + 1], 1)
    start = (int(k[0]) - 1, int(j[0]) - 1, int(i[0]) - 1)
    return body, grid.crop(start, (body.shape[0], body.shape[1], body.shape[2]))


def _both_sides(
    body: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The voxels inside that share a face with one outside, and those outside that share one with one inside."""
    inner, outer = np.zeros_like(body), np.zeros_like(body)
    for axis in range(3):
        first = tuple(slice(None, -1) if axis == other else slice(None) for other in range(3))
        second = tuple(slice(1, None) if axis == other else slice(None) for other in range(3))
        leaves, enters = body[first] & ~body[second], ~body[first] & body[second]
        inner[first] |= leaves
        outer[second] |= leaves
        inner[second] |= enters
        outer[first] |= enters
    return inner, outer


def _boundary_faces(body: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Voxel coordinates [N, 3] (i, j, k) of the centres of the faces between inside and outside."""
    found = []
    for axis in range(3):
        kji = np.argwhere(np.diff(body, axis=axis)).astype(np.float64)
        kji[:, axis] += 0.5
        found.append(kji[:, ::-1])
    return np.concatenate(found)


def _centres(voxels: npt.NDArray[np.bool_], grid: Grid) -> npt.NDArray[np.float64]:
    return grid.to_lps(np.argwhere(voxels)[:, ::-1])


def _thinned(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return points[:: -(-len(points) // MAX_POINTS)]
