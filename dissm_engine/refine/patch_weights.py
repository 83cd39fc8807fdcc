"""How often patches around a surface show each voxel: what the refinement's normalisation was trained to see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_NEAR_SURFACE_MM = 10.0
"""Training draws the middle of a patch from voxels nearer to the surface than this."""


def patch_weights(prior_mm: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """How many cubes of `side` voxels, one around each voxel near the surface, hold a voxel; moved into the grid.

    The statistics of instance normalisation depend on what a patch shows: how much liver, how much air. Statistics over
    a whole grid are unlike those of any patch. Weighted so, they are the mean over the patches that training draws.

    Args:
        prior_mm: Signed distance of the prior, [K, J, I].
        side: Of the cubes, voxels; an axis that is shorter is covered whole.

    Returns:
        float32 [K, J, I], at most 1. All alike where there is no surface.
    """
    weights = (np.abs(prior_mm) < _NEAR_SURFACE_MM).astype(np.float32)
    if not weights.any():
        return np.ones(prior_mm.shape, dtype=np.float32)
    for size in prior_mm.shape:
        # Sums over the first axis and puts its places last: after three turns the axes are in their order again.
        weights = np.tensordot(weights, _covered_by(size, side), axes=(0, 0))
    return np.asarray(weights / weights.max(), dtype=np.float32)


def _covered_by(size: int, side: int) -> npt.NDArray[np.float32]:
    """[middle, place]: 1 where the interval of `side` places around a middle, moved into the axis, covers a place."""
    places = np.arange(size)
    starts = np.clip(places - side // 2, 0, max(0, size - side))[:, None]
    return ((places >= starts) & (places < starts + side)).astype(np.float32)
