"""Where in a CT something lies, in words that a radiologist can follow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from dissm_engine.findings import Place, Side
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid

_AXES = ((Side.RIGHT, Side.LEFT), (Side.FRONT, Side.BACK), (Side.BOTTOM, Side.TOP))
"""Negative and positive direction of each LPS axis."""
_MIN_LATERAL = 0.25
"""Left or right is named from this share of the outline's half width on."""
_MIN_OTHER = 0.5
"""A second direction is named from this share of the outline's half extent on."""


def place_of(points_lps: npt.NDArray[np.float64], surface: TriangleMesh, ct_grid: Grid) -> Place:
    """Where points lie: side of the outline, slices of the CT, nearest vertex.

    Args:
        points_lps: [N, 3], LPS mm, at least one.
        surface: The outline; sides are those of the middle of its bounding box.
        ct_grid: Where the CT's voxels lie, in any orientation; slices are its k, counted from 1.
    """
    middle = points_lps.mean(axis=0)
    slices = np.round(ct_grid.to_voxel(points_lps)[:, 2]).clip(0, ct_grid.shape[0] - 1).astype(int) + 1
    _, nearest = cKDTree(surface.vertices).query(middle)
    x, y, z = surface.vertices[int(nearest)].tolist()
    return Place(_sides(middle, surface), int(slices.min()), int(slices.max()), (x, y, z))


def _sides(point_lps: npt.NDArray[np.float64], surface: TriangleMesh) -> tuple[Side, ...]:
    """Left or right where it is clearly so, and the clearest of the other directions; at least one."""
    low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
    offset = (point_lps - (low + high) / 2) / np.maximum((high - low) / 2, 1.0)
    other = 1 + int(np.argmax(np.abs(offset[1:])))
    named = [0] if abs(offset[0]) >= _MIN_LATERAL else []
    if abs(offset[other]) >= _MIN_OTHER or not named:
        named.append(other)
    return tuple(_AXES[axis][int(offset[axis] > 0)] for axis in named)
