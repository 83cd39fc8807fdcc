"""Signed distance from points to a triangle mesh, by a library with a bounding volume hierarchy and winding numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import point_cloud_utils

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import FloatArray


def signed_distance_to_mesh(points: FloatArray, mesh: TriangleMesh) -> npt.NDArray[np.float64]:
    """Signed distances [...] from points [..., 3] to the mesh, negative inside, in the unit of both (D4).

    The sign is the generalised winding number's, so that a small hole or a self-intersection does not turn it.
    The length is taken to the closest point itself: the library multiplies it by an approximate winding number.
    """
    flat = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    signed, face, weights = point_cloud_utils.signed_distance_to_mesh(flat, vertices, faces)
    closest = np.einsum("nc,ncd->nd", weights, vertices[faces[face]])
    length = np.linalg.norm(flat - closest, axis=1)
    return np.asarray(np.copysign(length, signed).reshape(np.shape(points)[:-1]))


def surface_points(mesh: TriangleMesh, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """`count` points [count, 3] drawn evenly by area from the surface."""
    triangles = mesh.vertices[mesh.faces]
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    chosen = triangles[rng.choice(len(triangles), size=count, p=area / area.sum())]
    root, second = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - second), root * second], axis=1)
    return np.asarray(np.einsum("nc,ncd->nd", weights, chosen))


def surface_distance_mm(first: TriangleMesh, second: TriangleMesh, count: int = 20_000, seed: int = 0) -> float:
    """Average symmetric surface distance (ASSD, mm) from `count` points on each of the two surfaces."""
    rng = np.random.default_rng(seed)
    there = np.abs(signed_distance_to_mesh(surface_points(first, count, rng), second))
    back = np.abs(signed_distance_to_mesh(surface_points(second, count, rng), first))
    return float((there.mean() + back.mean()) / 2)
