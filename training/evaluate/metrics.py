"""Agreement of two surfaces: DSC, ASSD, HD95."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import point_cloud_utils
import trimesh

from dissm_engine.json_value import JsonObject
from dissm_engine.mesh import TriangleMesh
from dissm_engine.surface import mesh_of
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid

_SURFACE_POINTS = 20_000
_GRID_MM = 2.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two surfaces agree.

    Attributes:
        dsc: Dice similarity coefficient, 0 to 1, on a 2 mm grid.
        assd_mm: Average symmetric surface distance: the mean of all surface distances, both ways.
        hd95_mm: The 95th percentile of the same distances.
    """

    dsc: float
    assd_mm: float
    hd95_mm: float

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Agreement:
        """The inverse of `to_json`. Raises TypeError if a field is missing or unknown."""
        return Agreement(**content)


NOTHING_FOUND = Agreement(0.0, float("inf"), float("inf"))


class Truth:
    """A true surface, prepared once for many comparisons."""

    def __init__(self, mesh: TriangleMesh) -> None:
        self.mesh = mesh
        margin = 60.0
        self.grid = axis_aligned_grid(mesh.vertices.min(axis=0) - margin, mesh.vertices.max(axis=0) + margin, _GRID_MM)
        self.inside = inside_of(mesh, self.grid)
        self.points = _surface_points(mesh)

    def compare(self, found: SignedDistance) -> Agreement:
        """Agreement with the zero set of a field."""
        inside = found.at(self.grid.points_lps()) < 0
        if not inside.any() or not (found.mm < 0).any():
            return NOTHING_FOUND
        overlap = 2.0 * (inside & self.inside).sum() / (inside.sum() + self.inside.sum())
        return self._with_distances(float(overlap), mesh_of(found))

    def compare_mesh(self, mesh: TriangleMesh) -> Agreement:
        """Agreement with another closed surface."""
        inside = inside_of(mesh, self.grid)
        overlap = 2.0 * (inside & self.inside).sum() / (inside.sum() + self.inside.sum())
        return self._with_distances(float(overlap), mesh)

    def _with_distances(self, dsc: float, mesh: TriangleMesh) -> Agreement:
        there = _distances(_surface_points(mesh), self.mesh)
        back = _distances(self.points, mesh)
        both = np.concatenate([there, back])
        return Agreement(dsc, float(both.mean()), float(np.percentile(both, 95)))


def inside_of(mesh: TriangleMesh, grid: Grid) -> npt.NDArray[np.bool_]:
    """bool [K, J, I]: voxel centres inside a closed mesh, by generalised winding number."""
    points = np.ascontiguousarray(grid.points_lps().reshape(-1, 3))
    inside = np.zeros(len(points), dtype=np.bool_)
    near = ((points > mesh.vertices.min(axis=0)) & (points < mesh.vertices.max(axis=0))).all(axis=1)
    vertices, faces = np.ascontiguousarray(mesh.vertices), np.ascontiguousarray(mesh.faces, dtype=np.int32)
    winding = point_cloud_utils.triangle_soup_fast_winding_number(vertices, faces, points[near])
    inside[near] = winding > 0.5
    return inside.reshape(grid.shape)


def _surface_points(mesh: TriangleMesh) -> npt.NDArray[np.float64]:
    points, _ = trimesh.sample.sample_surface(mesh.trimesh, _SURFACE_POINTS, seed=0)
    return np.asarray(points, dtype=np.float64)


def _distances(points: npt.NDArray[np.float64], mesh: TriangleMesh) -> npt.NDArray[np.float64]:
    """Unsigned distances [N] in mm."""
    distance, _, _ = point_cloud_utils.closest_points_on_mesh(
        np.ascontiguousarray(points), np.ascontiguousarray(mesh.vertices), np.ascontiguousarray(mesh.faces, np.int32)
    )
    return np.asarray(distance, dtype=np.float64)
