"""The inferior vena cava behind the liver: in a groove of it, or enclosed by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Canvas, Field, Vector, tube
from dissm_phantom.variety import Trait

_LEVEL_MM = 6.0
_WALL_MM = 2.5
_ENTRY_LEVELS = 5
_PULL = 0.012
_DEPTHS = np.arange(0.75, -1.7, -0.15)
"""Of the vein's axis below the liver's surface, in radii; positive outside."""


@dataclass(frozen=True)
class VenaCava:
    """The course of the vein where the liver encloses it.

    Attributes:
        knots: float64 [N, 3], its axis from below upwards, LPS mm; the last ones lead out of the liver's dome.
        radius: mm.
        enclosed: Share of its circumference that liver surrounds, in the mean over the levels above its entry.
    """

    knots: Vector
    radius: float
    enclosed: float

    def at(self, z: float) -> Vector:
        """x and y of the axis at a height (LPS mm), clamped at the ends."""
        return np.array([np.interp(z, self.knots[:, 2], self.knots[:, axis]) for axis in range(2)])


def nominal_course(plan: BodyPlan, z: float, exit_z: float) -> Vector:
    """x and y (LPS mm) where the vein usually lies at a height: right in front of the spine, further forward on top."""
    share = np.clip((z - plan.middle) / max(exit_z - plan.middle, 1), -1, 1)
    nominal = np.array(
        [plan.spine_x - 21 + 6 * max(share, 0), float(plan.spine_y_at(np.array([z], dtype=np.float32))[0]) - 30]
    )
    nominal[1] -= 16 * max(share, 0)
    return nominal


def carve_vena_cava(canvas: Canvas, plan: BodyPlan) -> tuple[Field, VenaCava]:
    """Lay the vein so deep that liver surrounds 60 to 100 % of it, and take its bed out of the liver.

    Where a liver stays too far from the spine for that, it is surrounded as much as it can be.

    Args:
        canvas: Knows the liver; it must hold all of it.
        plan: Of the body.

    Returns:
        The liver's distance without the bed (mm; true in sign, an approximation in value), and the vein.
    """
    rng = plan.trait_generator(Trait.ENCLOSED_VENA_CAVA)
    radius, wanted = float(rng.uniform(9, 14)), rng.uniform(0.64, 1.0)
    exit_z = plan.dome - rng.uniform(14, 30)
    heights = np.arange(plan.middle - rng.uniform(0, 20), exit_z + 1, _LEVEL_MM)
    # Below, the vein comes in from where it lies beside the liver.
    entry = np.linspace(1.0, 0.0, _ENTRY_LEVELS + 1)[:-1]
    heights = np.concatenate([heights[0] - _LEVEL_MM * np.arange(_ENTRY_LEVELS, 0, -1), heights])
    pull = np.full(len(heights), _PULL)
    pull[:_ENTRY_LEVELS] += 0.06 * entry
    axis, share = np.empty((0, 3)), -1.0
    for depth in _DEPTHS:
        depths = np.full(len(heights), depth)
        depths[:_ENTRY_LEVELS] = entry * _DEPTHS[0] + (1 - entry) * depth
        tried = _course(canvas, plan, heights, depths * radius, pull)
        found = float(enclosed_shares(canvas, tried[_ENTRY_LEVELS:], radius).mean())
        if found > share:
            axis, share = tried, found
        if share >= wanted:
            break
    # Out of the liver: on upwards, forward and to the left, where the heart lies.
    out = axis[-1] + np.arange(1, 8)[:, None] * np.array([1.5, -2.0, _LEVEL_MM])
    knots = np.concatenate([axis, out])
    box, distance = tube(canvas, knots, [radius + 0.3] * len(knots), 0.0)
    carved = canvas.liver_mm.copy()
    near = distance < 3.5
    carved[box][near] = np.maximum(carved[box], -distance)[near]
    return carved, VenaCava(knots, radius, share)


def _course(canvas: Canvas, plan: BodyPlan, heights: Vector, depths_mm: Vector, pull: Vector) -> Vector:
    """An axis [N, 3] at the given distances [N] to the liver (negative inside), held to the usual one by `pull` [N].

    It may give way to the right, hardly forward: the vein stays beside the spine.
    """
    dx, dy = (part.ravel() for part in np.meshgrid(np.arange(-30, 13, 3.0), np.arange(-9, 25, 3.0)))
    axis: list[Vector] = []
    for z, depth_mm, hold in zip(heights, depths_mm, pull, strict=True):
        nominal = nominal_course(plan, float(z), float(heights[-1]))
        points = np.stack([nominal[0] + dx, nominal[1] + dy, np.full(dx.shape, z)], axis=1)
        cost = ((canvas.liver_at(points) - depth_mm) / 3) ** 2 + hold * (dx**2 + dy**2)
        if axis:
            cost = cost + 0.03 * ((points[:, :2] - axis[-1][:2]) ** 2).sum(axis=1)
        axis.append(points[int(np.argmin(cost))])
    return np.asarray(ndimage.gaussian_filter1d(np.array(axis), 1.5, axis=0, mode="nearest"))


def enclosed_shares(canvas: Canvas, axis: Vector, radius: float) -> Vector:
    """Share of the circumference [N] that lies in the liver, a wall's thickness outside of a vein, at every level.

    Args:
        canvas: Knows the liver.
        axis: float64 [N, 3], LPS mm.
        radius: Of the vein, mm.
    """
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    ring = (radius + _WALL_MM) * np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], axis=1)
    return np.asarray((canvas.liver_at(axis[:, None, :] + ring[None]) < 0).mean(axis=1))
