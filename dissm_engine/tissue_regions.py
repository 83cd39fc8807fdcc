"""What the tissue head and the HU say against an outline: liver left out, other tissue and masses taken in.

The tissue head is as coarse as the refinement's folded cells, so that a thin rim along the surface says nothing: what
counts lies some millimetres away from it and is thick enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.refine.refiner import Refinement
from dissm_engine.refine.tissues import TissueClass
from dissm_engine.volume import FloatArray, Grid, SignedDistance

Mask = npt.NDArray[np.bool_]

_OUTSIDE_MM = 3.0
_INSIDE_MM = 4.0
_TOUCHING_MM = 3.0
_SMOOTHING_MM = 3.0
_MASS_HU = 25.0
_MIN_LEFT_OUT_MM = 6.0
_MIN_TAKEN_IN_MM = 6.0
_MIN_MASS_MM = 10.0
_LIVER_INSIDE_MM = -3.0


@dataclass(frozen=True)
class Region:
    """Tissue that should lie elsewhere.

    Attributes:
        ml: Its volume.
        main_part_ml: Volume of its largest connected part.
        points_lps: Voxel centres of that part, [N, 3], LPS mm; none where there is no such tissue.
    """

    ml: float
    main_part_ml: float
    points_lps: npt.NDArray[np.float64]


@dataclass(frozen=True)
class TissueRegions:
    """A final field, held against what the refinement's tissue head and the HU say of its surroundings.

    Attributes:
        field: The final signed distance, mm.
        refinement: Whose tissues are looked at; on the grid of `field`.
    """

    field: SignedDistance
    refinement: Refinement

    @cached_property
    def liver_like(self) -> Mask:
        """Connected parts of what the tissue head calls liver, in view, that reach the outline; bool [K, J, I]."""
        liver = (self.refinement.tissue == TissueClass.LIVER) & self.refinement.in_view
        labels, count = ndimage.label(liver)
        if count == 0:
            return np.zeros(liver.shape, dtype=np.bool_)
        reaches = np.zeros(count + 1, dtype=np.bool_)
        reaches[np.unique(labels[self.field.mm < _TOUCHING_MM])] = True
        reaches[0] = False
        return np.asarray(reaches[labels], dtype=np.bool_)

    @property
    def tissue_dsc(self) -> float:
        """Dice similarity coefficient of the outline, in view, with `liver_like`, 0 to 1."""
        inside = (self.field.mm < 0) & self.refinement.in_view
        both = int(inside.sum()) + int(self.liver_like.sum())
        return 2.0 * int((inside & self.liver_like).sum()) / both if both else 0.0

    def left_out(self) -> Region:
        """Liver-like tissue outside the outline that is connected with what lies inside it."""
        # A detached part of the refined field is outside the outline, and as far outside as it is deep.
        mm = np.where(self.field.mm > 0, np.maximum(self.field.mm, np.abs(self.refinement.field.mm)), self.field.mm)
        return _region(self.liver_like & (mm > _OUTSIDE_MM), self.field.grid, _MIN_LEFT_OUT_MM)

    def taken_in(self) -> Region:
        """Tissue well inside the outline, in view, that the tissue head does not call liver."""
        other = self.refinement.tissue != TissueClass.LIVER
        return _region(self._deep & other, self.field.grid, _MIN_TAKEN_IN_MM)

    def mass(self, hu: FloatArray) -> tuple[Region, float]:
        """What differs from the liver in its HU inside the outline, darker or brighter, whichever is larger.

        Args:
            hu: The CT on the grid of the field, [K, J, I].

        Returns:
            The region, and its median difference from the liver in HU; 0 where there is none.
        """
        empty = Region(0.0, 0.0, np.empty((0, 3)))
        reference = (self.field.mm < _LIVER_INSIDE_MM) & self.refinement.in_view
        if not reference.any():
            return empty, 0.0
        box = _bounding_box(reference)
        liver_hu = float(np.median(hu[reference]))
        difference = _smoothed(hu[box] - np.float32(liver_hu), reference[box], _SMOOTHING_MM / self._spacing)
        found, found_hu = empty, 0.0
        for sign in (-1.0, 1.0):
            remarkable = np.zeros(reference.shape, dtype=np.bool_)
            remarkable[box] = self._deep[box] & (sign * difference > _MASS_HU)
            region = _region(remarkable, self.field.grid, _MIN_MASS_MM)
            if region.main_part_ml > found.main_part_ml:
                kji = np.round(self.field.grid.to_voxel(region.points_lps)).astype(int)[:, ::-1].T
                found, found_hu = region, float(np.median(hu[tuple(kji)])) - liver_hu
        return found, found_hu

    @property
    def _deep(self) -> Mask:
        return (self.field.mm < -_INSIDE_MM) & self.refinement.in_view

    @property
    def _spacing(self) -> float:
        return float(self.field.grid.spacing.mean())


def _region(mask: Mask, grid: Grid, min_thickness_mm: float) -> Region:
    """The parts of a mask that are thick enough."""
    nothing = Region(0.0, 0.0, np.empty((0, 3)))
    if not mask.any():
        return nothing
    box = _bounding_box(mask)
    radius = max(1, round((min_thickness_mm / float(grid.spacing.mean()) - 1) / 2))
    # A rim of nothing around the box: what touches the box's faces is not thicker for it.
    padded = np.pad(mask[box], radius)
    opened = ndimage.binary_opening(padded, ndimage.generate_binary_structure(3, 1), iterations=radius)
    labels, count = ndimage.label(opened)
    if count == 0:
        return nothing
    sizes = np.bincount(labels.ravel())[1:]
    largest = np.argwhere(labels == 1 + int(np.argmax(sizes))) + np.array([side.start - radius for side in box])
    return Region(
        float(sizes.sum()) * grid.voxel_ml,
        float(sizes.max()) * grid.voxel_ml,
        grid.to_lps(largest[:, ::-1]),
    )


def _bounding_box(mask: Mask) -> tuple[slice, slice, slice]:
    """The smallest box around what is set; something must be."""
    sides = []
    for axis in range(3):
        seen = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(slice(int(seen[0]), int(seen[-1]) + 1))
    return (sides[0], sides[1], sides[2])


def _smoothed(values: FloatArray, where: Mask, sigma_voxels: float) -> npt.NDArray[np.float32]:
    """Gaussian means over the voxels that count."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), sigma_voxels)
    total = ndimage.gaussian_filter(np.where(where, values, np.float32(0)).astype(np.float32), sigma_voxels)
    return np.asarray(total / np.maximum(weight, np.float32(1e-3)), dtype=np.float32)
