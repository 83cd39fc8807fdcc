"""Organs and masses of a given volume that grow where there is room for them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dissm_phantom.canvas import Canvas, Field, Mask, Vector
from dissm_phantom.tissue import Tissue, is_liver

_INTO_LIVER, _INTO_OTHERS, _AWAY = 12.0, 8.0, 0.3
"""What the place of an organ costs: the overlap that is missing or too much, that with other organs, the way."""


def beside_liver(
    canvas: Canvas, cavity_mm: Field, nominal: Vector, cloud: Vector, overlap: float, reach: float
) -> Vector:
    """The centre at which a share of an organ would sink into the liver, and little of it into anything else.

    Args:
        canvas: What is drawn so far.
        cavity_mm: Signed distance to the trunk's walls, negative inside, on the canvas' voxels.
        nominal: float64 [3], where the organ usually lies, LPS mm.
        cloud: float64 [N, 3], points within the organ about its centre, mm.
        overlap: Share that is to sink into the liver, 0 to 1.
        reach: How far the centre may move along each axis, mm.
    """
    shift = np.linspace(-reach, reach, 9)
    offsets = np.stack(np.meshgrid(shift, shift, shift, indexing="ij"), -1).reshape(-1, 3)
    where = canvas.voxels_at((nominal + offsets)[:, None, :] + cloud[None])
    inside = (canvas.liver_mm[where] < 0).mean(axis=1)
    labels = canvas.labels[where]
    blocked = (((labels != Tissue.FAT) & ~is_liver(labels)) | (cavity_mm[where] > -0.5)).mean(axis=1)
    away = (offsets**2).sum(axis=1) / reach**2
    cost = _INTO_LIVER * np.abs(inside - overlap) + _INTO_OTHERS * blocked + _AWAY * away
    return np.asarray(nominal + offsets[int(np.argmin(cost))])


def filled_to_volume(rank: Field, room: Mask, voxels: int) -> Mask:
    """The voxels of the room with the lowest rank, as many as asked for, in one piece and without thin processes.

    Args:
        rank: float32 [K, J, I], low where the organ is to be; it grows outward along it.
        room: bool, of the same shape, where it may lie.
        voxels: How many are wanted; fewer are returned where the room ends or processes are cut off.
    """
    free = np.flatnonzero(room.ravel())
    if len(free) == 0 or voxels < 1:
        return np.zeros_like(room)
    ranks = rank.ravel()[free]
    if len(free) > voxels:
        free = free[ranks <= np.partition(ranks, voxels - 1)[voxels - 1]]
    taken = np.zeros(room.size, dtype=bool)
    taken[free] = True
    filled = ndimage.binary_opening(taken.reshape(room.shape), iterations=2)
    parts, count = ndimage.label(filled)
    if count > 1:
        filled = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.asarray(filled & room)


def touching_share(organ: Mask, other: Mask) -> float:
    """Share of an organ's surface voxels that have a voxel of the other within 2 (bool arrays of one shape)."""
    surface = organ & ~ndimage.binary_erosion(organ, border_value=1)
    if not surface.any():
        return 0.0
    return float(ndimage.binary_dilation(other, iterations=2)[surface].mean())
