"""Where a liver's parts lie, guessed from its surface alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import SignedDistance
from dissm_phantom.canvas import Vector, xyz

_SPINE_BEFORE_BACK_MM = 23.0
_SPINE_HALF_SLAB_MM = 22.0
_SPINE_BESIDE_LIVER_MM = 28.0
MAX_RIGHT_LOBE_MM = 118.0
"""From the right side of the liver to the medial face of its right lobe beside the spine: 77 to 116 mm in the AMOS
livers. Farther left only a left lobe can lie that reaches far back."""


@dataclass(frozen=True)
class LiverLandmarks:
    """Parts of a liver, LPS mm.

    Attributes:
        low, high: Its bounding box, float64 [3].
        spine_x, spine_y: About the centre of the vertebral bodies.
        vena_cava: About where the vena cava leaves the liver's back, float64 [3].
        left_tip: Middle of the leftmost 10 mm, float64 [3].
    """

    low: Vector
    high: Vector
    spine_x: float
    spine_y: float
    vena_cava: Vector
    left_tip: Vector

    @property
    def size(self) -> Vector:
        """Of the bounding box, float64 [3]."""
        return self.high - self.low

    @property
    def hilum(self) -> Vector:
        """About the porta hepatis, float64 [3]."""
        return xyz(self.spine_x - 25, self.spine_y - 62, self.low[2] + 0.52 * self.size[2])

    @property
    def half_width(self) -> float:
        """Of the trunk's cavity."""
        return max(118.0, self.spine_x - float(self.low[0]) - 6)

    @property
    def half_depth(self) -> float:
        """Of the trunk's cavity."""
        return (self.spine_y + 50 - float(self.low[1])) / 2

    @property
    def cavity_y(self) -> float:
        """Of the middle of the trunk's cavity."""
        return (self.spine_y + 50 + float(self.low[1])) / 2

    def on_left_wall(self, degrees: float, share: float, z: float) -> Vector:
        """A point [3] in the left half of the trunk's ellipse: 0 is lateral, -90 in front, 90 behind; share 1: wall."""
        angle = np.deg2rad(degrees)
        x = self.spine_x + share * self.half_width * np.cos(angle)
        return xyz(float(x), float(self.cavity_y + share * self.half_depth * np.sin(angle)), z)


def landmarks_of(liver: TriangleMesh) -> LiverLandmarks:
    """The landmarks of a surface whose axes are about those of the patient (LPS mm)."""
    points = liver.vertices
    low, high = points.min(axis=0), points.max(axis=0)
    spine_y = float(high[1]) - _SPINE_BEFORE_BACK_MM
    slab = points[np.abs(points[:, 1] - spine_y) < _SPINE_HALF_SLAB_MM]
    medial = min(float(np.percentile(slab[:, 0], 99)), float(low[0]) + MAX_RIGHT_LOBE_MM)
    spine_x = medial + _SPINE_BESIDE_LIVER_MM
    tip = points[points[:, 0] > high[0] - 10].mean(axis=0)
    cava = xyz(spine_x - 26, spine_y - 30, float(low[2] + 0.72 * (high[2] - low[2])))
    return LiverLandmarks(low, high, spine_x, spine_y, cava, tip)


def inner_points(field: SignedDistance, count: int = 6000) -> npt.NDArray[np.float64]:
    """Evenly spread points [about `count`, 3] inside a solid, LPS mm; always the same ones."""
    ijk = np.argwhere(field.mm < 0)[:, ::-1]
    return field.grid.to_lps(ijk[:: max(1, len(ijk) // count)])


def middle_of_section(field: SignedDistance, x: float) -> Vector:
    """The deepest point [3] of the solid's largest part in the sagittal plane at x, LPS mm."""
    column = int(np.clip(np.rint(field.grid.to_voxel(xyz(x, 0, 0))[0]), 0, field.grid.shape[2] - 1))
    plane = field.mm[:, :, column]
    parts, _ = ndimage.label(plane < 0)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    own = np.where(parts == int(sizes.argmax()), plane, 1.0)
    k, j = np.unravel_index(int(own.argmin()), own.shape)
    return np.asarray(field.grid.to_lps(np.array([column, j, k], dtype=np.float64)))
