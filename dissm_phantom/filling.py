"""Organs and masses of a given volume that grow where there is room for them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dissm_phantom.canvas import Field, Mask


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
