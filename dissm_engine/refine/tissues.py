"""The tissue classes that the refinement network tells apart on the side, and their HU (the phase gate reads them)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from dissm_engine.volume import FloatArray

_MIN_VOXELS = 40
_PLAUSIBLE_HU = (-40.0, 600.0)
"""Median HU of any soft tissue, blood or fluid of a body, without contrast or full of it; fat and air lie below."""


class TissueClass(IntEnum):
    """Classes of the auxiliary head; OTHER is everything not named."""

    OTHER = 0
    LIVER = 1
    HEART = 2
    VEIN = 3
    AORTA = 4
    KIDNEY = 5
    SPLEEN = 6
    GUT = 7
    FLUID = 8
    MUSCLE = 9


def median_hu(
    hu: FloatArray, tissue: npt.NDArray[np.uint8], liver_mm: npt.NDArray[np.float32], in_view: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Median HU of each class that was seen, by lower-case name.

    The liver is what lies 5 mm inside the field, whatever the tissue head says; the others must lie outside it.

    Args:
        hu: [K, J, I]; all four arrays are on one grid.
        tissue: The most likely `TissueClass` of every voxel.
        liver_mm: Signed distance of the final surface, mm.
        in_view: Where the CT was; what it does not show does not count.
    """
    medians: dict[str, float] = {}
    inside = hu[(liver_mm < -5) & in_view]
    if inside.size >= _MIN_VOXELS:
        medians["liver"] = float(np.median(inside))
    for kind in TissueClass:
        if kind in (TissueClass.OTHER, TissueClass.LIVER, TissueClass.GUT):
            continue
        values = hu[(tissue == kind) & (liver_mm > 3) & in_view]
        if values.size >= _MIN_VOXELS:
            medians[kind.name.lower()] = float(np.median(values))
    return medians


def count_implausible_tissues(medians: Mapping[str, float]) -> int:
    """How many tissues have a median HU that no soft tissue or fluid has: the tissue head named what is not there.

    Args:
        medians: Median HU by the name of the tissue, as `median_hu` returns it.
    """
    low, high = _PLAUSIBLE_HU
    return sum(not low <= value <= high for value in medians.values())
