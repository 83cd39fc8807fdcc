"""The part of a true surface that a scan shows: an organ that the scan cuts is closed flat there."""

from __future__ import annotations

from dissm_engine.mesh import TriangleMesh
from dissm_engine.surface import mesh_of, organ_field
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid
from dissm_phantom.placement import signed_distance

_MARGIN_MM = 8.0
_SPACING_MM = 1.5
_MAX_BEYOND_MM = 0.5


def visible_surface(mesh: TriangleMesh, ct_grid: Grid) -> TriangleMesh:
    """The surface itself where it lies within a CT; else its largest part within, as the engine closes its own.

    Args:
        mesh: Closed, LPS mm.
        ct_grid: Where the CT's voxels lie.

    Returns:
        A closed surface that nowhere reaches beyond the outermost voxel faces.

    Raises:
        DelineationError: Nothing of it lies within the CT.
    """
    if ct_grid.beyond_faces_mm(mesh.vertices).max() <= _MAX_BEYOND_MM:
        return mesh
    low, high = mesh.vertices.min(axis=0) - _MARGIN_MM, mesh.vertices.max(axis=0) + _MARGIN_MM
    grid = axis_aligned_grid(low, high, _SPACING_MM)
    return mesh_of(organ_field(SignedDistance(signed_distance(mesh, grid), grid), ct_grid))
