"""The surface seen from the front: points on its triangles, the nearest of each pixel, lit by the normal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_node.results.captures.canvas import BACKGROUND_RGB, Rgb
from dissm_engine.mesh import TriangleMesh

_LIVER_RGB = np.array([206.0, 108.0, 84.0])
_LAMP = np.array([-0.45, -0.75, 0.5])
"""Towards the light, LPS: from the patient's right, from the front, from above."""
_POINTS_PER_PIXEL = 1.5
_FRONT = np.array([0.0, -1.0, 0.0])


def draw_surface(
    mesh: TriangleMesh, center_lps: npt.NDArray[np.float64], mm_per_pixel: float, shape: tuple[int, int]
) -> Rgb:
    """The mesh from the front, the patient's right at the left. center_lps: of the picture. shape: rows, columns."""
    points, normals = _points_on_triangles(_front_triangles(mesh), mesh, mm_per_pixel / _POINTS_PER_PIXEL)
    columns = np.rint((points[:, 0] - center_lps[0]) / mm_per_pixel + shape[1] / 2).astype(np.int64)
    rows = np.rint(-(points[:, 2] - center_lps[2]) / mm_per_pixel + shape[0] / 2).astype(np.int64)
    seen = np.flatnonzero((columns >= 0) & (columns < shape[1]) & (rows >= 0) & (rows < shape[0]))
    # The frontmost point of a pixel is written last.
    seen = seen[np.argsort(-points[seen, 1], kind="stable")]
    nearest = np.full(shape[0] * shape[1], -1)
    nearest[rows[seen] * shape[1] + columns[seen]] = seen
    covered = nearest >= 0
    picture = np.tile(np.array(BACKGROUND_RGB, dtype=np.float64), (len(nearest), 1))
    picture[covered] = _lit(normals[nearest[covered]])
    return np.asarray(np.rint(picture.reshape(*shape, 3)), dtype=np.uint8)


def _front_triangles(mesh: TriangleMesh) -> npt.NDArray[np.int64]:
    """The faces [F, 3] that somewhere look to the front; of a closed surface no other one is seen."""
    front: npt.NDArray[np.int64] = mesh.faces[(mesh.normals[mesh.faces] @ _FRONT > -0.2).any(axis=1)]
    return front


def _lit(normals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Diffuse light with a soft highlight. normals: [N, 3], unit."""
    lamp = _LAMP / np.linalg.norm(_LAMP)
    half = (lamp + _FRONT) / np.linalg.norm(lamp + _FRONT)
    diffuse = np.clip(normals @ lamp, 0, 1)[:, None]
    highlight = np.clip(normals @ half, 0, 1)[:, None] ** 24
    return np.asarray(np.clip(_LIVER_RGB * (0.22 + 0.78 * diffuse) + 46 * highlight, 0, 255))


def _points_on_triangles(
    faces: npt.NDArray[np.int64], mesh: TriangleMesh, step_mm: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points [N, 3] at most `step_mm` apart on every triangle, and their interpolated unit normals [N, 3]."""
    corners, corner_normals = mesh.vertices[faces], mesh.normals[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    divisions = np.ceil(np.maximum(longest / step_mm, 1)).astype(np.int64)
    points, normals = [], []
    for count in np.unique(divisions):
        weights = _barycentric(int(count))
        chosen = divisions == count
        points.append((weights @ corners[chosen]).reshape(-1, 3))
        normals.append((weights @ corner_normals[chosen]).reshape(-1, 3))
    found = np.concatenate(normals)
    return np.concatenate(points), found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _barycentric(count: int) -> npt.NDArray[np.float64]:
    """Weights [P, 3] of points on a triangle whose edges are divided in `count` parts."""
    a, b = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
    inside = a + b <= count
    first, second = a[inside] / count, b[inside] / count
    return np.stack([first, second, 1 - first - second], axis=1)
