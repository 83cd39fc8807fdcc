"""Mask and mesh from one signed distance field (D6): both are its zero set, none is made from the other."""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from dissm_engine.errors import MESH_NOT_CLOSED, NO_SURFACE, DelineationError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.shape.distance import signed_distance_to_mesh
from dissm_engine.volume import Grid, SignedDistance

DECIMATION_TOLERANCE_MM = 0.3
_TARGET_EDGE_MM = 3.5
_NEWTON_STEPS = 3
_ZERO_MM = np.float32(1e-3)


@dataclass(frozen=True)
class OrganSurface:
    """One surface in three forms.

    Attributes:
        field: Signed distance in mm, negative inside; one connected part without holes, closed where the CT ends.
        mask: bool [K, J, I] on the CT's grid, the field interpolated there is negative.
        mesh: The field's zero surface, closed, LPS mm.
    """

    field: SignedDistance
    mask: npt.NDArray[np.bool_]
    mesh: TriangleMesh

    @staticmethod
    def of(field: SignedDistance, ct_grid: Grid) -> OrganSurface:
        """The organ in a field.

        Args:
            field: Signed distance in mm, on a grid that reaches beyond the CT wherever the organ may be cut.
            ct_grid: Where the CT's voxels lie.

        Raises:
            DelineationError: The field has no inside, or its surface cannot be closed.
        """
        organ = organ_field(field, ct_grid)
        return OrganSurface(organ, mask_of(organ, ct_grid), mesh_of(organ, DECIMATION_TOLERANCE_MM))


def organ_field(field: SignedDistance, ct_grid: Grid) -> SignedDistance:
    """The largest part of the field's inside within the CT. Raises DelineationError if there is none."""
    return largest_part(closed_at_border(field, ct_grid))


def closed_at_border(field: SignedDistance, ct_grid: Grid) -> SignedDistance:
    """The field cut flat where the CT ends: outside its outermost voxel faces there is no organ."""
    beyond = ct_grid.beyond_faces_mm(field.grid.points_lps())
    return SignedDistance(np.maximum(field.mm, beyond).astype(np.float32), field.grid)


def largest_part(field: SignedDistance) -> SignedDistance:
    """Only the largest connected inside is kept; holes in it are filled. Raises DelineationError if there is none."""
    labels, count = ndimage.label(field.mm < 0)
    if count == 0:
        raise DelineationError(NO_SURFACE)
    keep = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    filled = ndimage.binary_fill_holes(keep)
    mm = field.mm.copy()
    smallest = np.float32(0.05 * float(field.grid.spacing.min()))
    mm[(mm < 0) & ~filled] = smallest
    mm[(mm >= 0) & filled] = -smallest
    return SignedDistance(mm, field.grid)


def mask_of(field: SignedDistance, ct_grid: Grid) -> npt.NDArray[np.bool_]:
    """bool [K, J, I] on the CT's grid: the field, interpolated at voxel centres, is negative."""
    mask = np.zeros(ct_grid.shape, dtype=np.bool_)
    inside_kji = np.argwhere(field.mm < 0)
    low, high = inside_kji.min(axis=0)[::-1] - 1, inside_kji.max(axis=0)[::-1] + 1
    corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
    ct_ijk = ct_grid.to_voxel(field.grid.to_lps(corners))
    first = np.clip(np.floor(ct_ijk.min(axis=0)).astype(int), 0, None)
    last = np.minimum(np.ceil(ct_ijk.max(axis=0)).astype(int), np.array(ct_grid.shape[::-1]) - 1)
    if (last < first).any():
        return mask
    size = last - first + 1
    for k in range(int(first[2]), int(last[2]) + 1):
        plane = ct_grid.crop((k, int(first[1]), int(first[0])), (1, int(size[1]), int(size[0])))
        mask[k, first[1] : last[1] + 1, first[0] : last[0] + 1] = (field.at(plane.points_lps()) < 0)[0]
    return mask


def mesh_of(field: SignedDistance, max_error_mm: float | None = None) -> TriangleMesh:
    """Zero surface by marching cubes, drawn onto the cubic zero by Newton steps, decimated, closed.

    Args:
        field: One connected part without holes.
        max_error_mm: Fewer triangles are dropped where the decimated surface would lie farther from the one before,
            measured both ways (`decimation_error_mm`). None: it is not measured, for surfaces that nobody gets.

    Raises:
        DelineationError: No closed surface results.
    """
    spacing = float(field.grid.spacing.mean())
    # Far values only have to stay far: a rim of them closes the surface at the grid's border.
    padded = np.pad(np.clip(field.mm, -4 * spacing, 4 * spacing), 1, constant_values=np.float32(spacing))
    # A sample of exactly zero lets marching cubes collapse triangles into open edges.
    padded[np.abs(padded) < _ZERO_MM] = _ZERO_MM
    vertices_kji, faces, _, _ = measure.marching_cubes(padded, 0.0)  # type: ignore[no-untyped-call]  # untyped in skimage
    dense = _largest_component(
        TriangleMesh(field.grid.to_lps(vertices_kji[:, ::-1] - 1.0), np.asarray(faces, dtype=np.int64))
    )
    dense = _outward(_on_zero(dense, field))
    for reduction in _reductions(dense, spacing):
        mesh = _decimated(dense, field, reduction)
        near = max_error_mm is None or reduction <= 0 or decimation_error_mm(dense, mesh) <= max_error_mm
        if mesh.closed and near:
            return mesh
    raise DelineationError(MESH_NOT_CLOSED, edges=int(_open_edges(dense)))


def decimation_error_mm(before: TriangleMesh, after: TriangleMesh) -> float:
    """The largest distance (mm) of two surfaces, measured both ways.

    Of `after` corners and centres of its triangles are measured, of `before`, whose triangles are small, the corners.
    """
    points = np.concatenate([after.vertices, after.vertices[after.faces].mean(axis=1)])
    there = np.abs(signed_distance_to_mesh(points, before))
    back = np.abs(signed_distance_to_mesh(before.vertices, after))
    return float(max(there.max(), back.max()))


def _reductions(mesh: TriangleMesh, spacing: float) -> tuple[float, ...]:
    """Shares of faces to drop, best first; the last one keeps all of them."""
    wanted = 1.0 - min(1.0, (spacing / _TARGET_EDGE_MM) ** 2)
    return (wanted, wanted * 0.6, 0.0) if wanted > 0 else (0.0,)


def _decimated(mesh: TriangleMesh, field: SignedDistance, reduction: float) -> TriangleMesh:
    if reduction <= 0:
        return mesh
    vertices, faces = fast_simplification.simplify(
        mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), target_reduction=reduction, agg=4.0
    )
    coarse = TriangleMesh(np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int64))
    return _outward(_on_zero(_largest_component(coarse), field))


def _on_zero(mesh: TriangleMesh, field: SignedDistance) -> TriangleMesh:
    """Vertices moved along the gradient onto the zero of the cubically interpolated field, at most one voxel."""
    coefficients = ndimage.spline_filter(field.mm.astype(np.float64), order=3)
    spacing = float(field.grid.spacing.mean())
    start = field.grid.to_voxel(mesh.vertices)[:, ::-1].T
    kji = start.copy()
    for _ in range(_NEWTON_STEPS):
        value = _cubic(coefficients, kji)
        gradient = np.stack([(_cubic(coefficients, kji + e) - _cubic(coefficients, kji - e)) for e in _steps()])
        gradient /= 2 * 0.25
        step = value * gradient / np.maximum((gradient**2).sum(axis=0), (0.25 * spacing) ** 2)
        kji = start + np.clip(kji - step - start, -0.7, 0.7)
    return TriangleMesh(field.grid.to_lps(kji[::-1].T), mesh.faces)


def _steps() -> npt.NDArray[np.float64]:
    return 0.25 * np.eye(3)[:, :, None]


def _cubic(coefficients: npt.NDArray[np.float64], kji: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(ndimage.map_coordinates(coefficients, kji, order=3, mode="nearest", prefilter=False))


def _largest_component(mesh: TriangleMesh) -> TriangleMesh:
    parts = mesh.trimesh.split(only_watertight=False)
    if len(parts) <= 1:
        return mesh
    largest = max(parts, key=lambda part: len(part.faces))
    return TriangleMesh(np.asarray(largest.vertices, dtype=np.float64), np.asarray(largest.faces, dtype=np.int64))


def _outward(mesh: TriangleMesh) -> TriangleMesh:
    return mesh if mesh.volume_ml >= 0 else TriangleMesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def _open_edges(mesh: TriangleMesh) -> int:
    edges = np.sort(mesh.trimesh.edges, axis=1)
    _, counts = np.unique(edges, axis=0, return_counts=True)
    return int((counts != 2).sum())
