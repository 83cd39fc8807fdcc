"""The voxels of a mask, found without looking at the whole CT more than once. For writers; provers count themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def inside_voxels(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The indices [N, 3] (k, j, i) of the voxels inside, in the order of `numpy.argwhere`. mask: bool [K, J, I]."""
    slices = np.array([plane.any() for plane in mask])
    if not slices.any():
        return np.zeros((0, 3), dtype=np.int64)
    first, last = _ends(slices)
    flat: npt.NDArray[np.bool_] = np.logical_or.reduce(mask[first : last + 1])
    top, bottom = _ends(np.logical_or.reduce(flat, axis=1))
    left, right = _ends(np.logical_or.reduce(flat))
    box = mask[first : last + 1, top : bottom + 1, left : right + 1]
    found: npt.NDArray[np.int64] = np.argwhere(box) + np.array([first, top, left])
    return found


def _ends(holds: npt.NDArray[np.bool_]) -> tuple[int, int]:
    found = np.flatnonzero(holds)
    return int(found[0]), int(found[-1])
