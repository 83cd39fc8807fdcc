"""Make a surface a solid: closed, one part, outward; smooth it without shrinking; decimate it (appendix A.1)."""

from __future__ import annotations

import fast_simplification
import numpy as np
import point_cloud_utils
import trimesh
from skimage.measure import marching_cubes

from dissm_engine.errors import MESH_NOT_CLOSED, GeometryError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import axis_aligned_grid

REMESH_SPACING_MM = 1.5
_MIN_FACES = 200


def repaired(mesh: TriangleMesh) -> TriangleMesh:
    """The largest part, closed, faces outward.

    Small holes are filled; what stays open is remeshed from its winding number on a grid.
    Raises GeometryError if even that gives no closed surface.
    """
    whole = _largest_part(_with_filled_holes(mesh))
    if not whole.closed:
        whole = _largest_part(_remeshed_by_winding_number(whole))
    if not whole.closed:
        raise GeometryError(MESH_NOT_CLOSED, edges="some")
    return whole if whole.volume_ml > 0 else TriangleMesh(whole.vertices, whole.faces[:, ::-1].copy())


def smoothed(mesh: TriangleMesh, iterations: int) -> TriangleMesh:
    """Taubin's smoothing: a shrinking and a growing step in turn, so that the volume stays."""
    if iterations == 0:
        return mesh
    work = trimesh.Trimesh(mesh.vertices.copy(), mesh.faces, process=False)
    smooth = trimesh.smoothing.filter_taubin
    smooth(work, lamb=0.5, nu=0.53, iterations=iterations)  # type: ignore[no-untyped-call]  # untyped in trimesh
    return TriangleMesh(np.asarray(work.vertices, dtype=np.float64), mesh.faces)


def decimated(mesh: TriangleMesh, share: float) -> TriangleMesh:
    """Quadric edge collapse to `share` of the faces, never below a few hundred."""
    faces = max(int(len(mesh.faces) * share), _MIN_FACES)
    if faces >= len(mesh.faces):
        return mesh
    vertices, triangles = fast_simplification.simplify(
        mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_count=faces
    )[:2]
    return TriangleMesh(np.asarray(vertices, dtype=np.float64), np.asarray(triangles, dtype=np.int64))


def _with_filled_holes(mesh: TriangleMesh) -> TriangleMesh:
    if mesh.closed:
        return mesh
    work = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True)
    trimesh.repair.fill_holes(work)
    trimesh.repair.fix_normals(work)  # type: ignore[no-untyped-call]  # untyped in trimesh
    return TriangleMesh(np.asarray(work.vertices, dtype=np.float64), np.asarray(work.faces, dtype=np.int64))


def _largest_part(mesh: TriangleMesh) -> TriangleMesh:
    parts = mesh.trimesh.split(only_watertight=False)
    if len(parts) <= 1:
        return mesh
    largest = max(parts, key=lambda part: part.area)
    return TriangleMesh(np.asarray(largest.vertices, dtype=np.float64), np.asarray(largest.faces, dtype=np.int64))


def _remeshed_by_winding_number(mesh: TriangleMesh) -> TriangleMesh:
    """Inside is where the generalised winding number is above one half, on a regular grid."""
    margin = 3 * REMESH_SPACING_MM
    grid = axis_aligned_grid(mesh.vertices.min(axis=0) - margin, mesh.vertices.max(axis=0) + margin, REMESH_SPACING_MM)
    points = np.ascontiguousarray(grid.points_lps().reshape(-1, 3))
    winding = point_cloud_utils.triangle_soup_fast_winding_number(
        np.ascontiguousarray(mesh.vertices), np.ascontiguousarray(mesh.faces, dtype=np.int32), points
    )
    # An inward mesh winds to -1: the repair must not depend on how the source turned its faces.
    winding_kji = np.abs(np.asarray(winding)).reshape(grid.shape).astype(np.float32)
    vertices_kji, faces, _, _ = marching_cubes(winding_kji, 0.5)  # type: ignore[no-untyped-call]  # untyped in skimage
    return TriangleMesh(grid.to_lps(vertices_kji[:, ::-1]), faces[:, ::-1].astype(np.int64))
