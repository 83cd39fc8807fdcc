"""A triangle mesh that carries its frame: LPS millimetres, outward faces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import trimesh


@dataclass(frozen=True)
class TriangleMesh:
    """A surface in LPS patient coordinates.

    Attributes:
        vertices: float64 [V, 3], mm.
        faces: int64 [F, 3], zero-based, counter-clockwise seen from outside.

    Examples:
        >>> corners = np.array([[0, 0, 0], [30, 0, 0], [0, 30, 0], [0, 0, 30]], dtype=np.float64)
        >>> faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
        >>> pyramid = TriangleMesh(corners, faces)
        >>> pyramid.closed, round(pyramid.volume_ml, 3)
        (True, 4.5)
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]

    @cached_property
    def trimesh(self) -> trimesh.Trimesh:
        """The same mesh for trimesh's algorithms; vertices keep their order."""
        return trimesh.Trimesh(self.vertices, self.faces, process=False)

    @cached_property
    def normals(self) -> npt.NDArray[np.float64]:
        """Unit vertex normals [V, 3], pointing outward."""
        return np.asarray(self.trimesh.vertex_normals, dtype=np.float64)

    @property
    def closed(self) -> bool:
        """Whether every edge belongs to exactly two faces that run through it in opposite directions."""
        return bool(self.trimesh.is_watertight and self.trimesh.is_winding_consistent)

    @property
    def volume_ml(self) -> float:
        """The enclosed volume; negative where the faces point inward."""
        return float(self.trimesh.volume / 1000.0)

    @property
    def area_cm2(self) -> float:
        """Surface area."""
        return float(self.trimesh.area / 100.0)

    def moved(self, target_from_source: npt.NDArray[np.float64]) -> TriangleMesh:
        """The mesh under a 4x4 affine; faces are flipped when it mirrors."""
        vertices = self.vertices @ target_from_source[:3, :3].T + target_from_source[:3, 3]
        mirrored = np.linalg.det(target_from_source[:3, :3]) < 0
        return TriangleMesh(vertices, self.faces[:, ::-1].copy() if mirrored else self.faces)
