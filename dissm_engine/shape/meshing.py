"""Meshes out of signed distance fields, and onto the decoder's own zero by Newton steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from skimage.measure import marching_cubes

from dissm_engine.errors import NO_SURFACE, DelineationError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import SignedDistance

ValueAndGradient = Callable[[npt.NDArray[np.float64]], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
"""Points [N, 3] to signed distances [N] and their gradients [N, 3]."""

_MIN_GRADIENT = 0.1


def mesh_of_field(field: SignedDistance) -> TriangleMesh:
    """The largest part of the zero surface, outward, in the field's frame.

    Raises DelineationError if the field has no zero.
    """
    if not field.mm.min() < 0 < field.mm.max():
        raise DelineationError(NO_SURFACE)
    vertices_kji, faces, _, _ = marching_cubes(field.mm, 0.0)  # type: ignore[no-untyped-call]  # untyped in skimage
    mesh = TriangleMesh(field.grid.to_lps(vertices_kji[:, ::-1]), faces.astype(np.int64))
    parts = mesh.trimesh.split(only_watertight=False)
    if len(parts) > 1:
        largest = max(parts, key=lambda part: part.area)
        mesh = TriangleMesh(np.asarray(largest.vertices), np.asarray(largest.faces, dtype=np.int64))
    return mesh if mesh.volume_ml > 0 else TriangleMesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def projected_on_zero(mesh: TriangleMesh, field: ValueAndGradient, steps: int, max_step: float) -> TriangleMesh:
    """The mesh after Newton steps x - f g / |g|^2 of its vertices, each at most `max_step` (the mesh's unit)."""
    vertices = mesh.vertices.copy()
    for _ in range(steps):
        value, gradient = field(vertices)
        norm = np.maximum(np.linalg.norm(gradient, axis=1), _MIN_GRADIENT)
        length = np.clip(value / norm, -max_step, max_step)
        vertices -= length[:, None] * gradient / norm[:, None]
    return TriangleMesh(vertices, mesh.faces)
