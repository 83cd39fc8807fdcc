"""The gallbladder in its fossa: of every size, with clear or dense bile, with stones; or gone, clips in its place."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import (
    Box,
    Canvas,
    Field,
    Vector,
    cloud_of_ellipsoid,
    ellipsoid,
    frame_along,
    touching,
    tube,
    xyz,
)
from dissm_phantom.filling import beside_liver, filled_to_volume
from dissm_phantom.tissue import Tissue
from dissm_phantom.trunk import Trunk
from dissm_phantom.variety import Trait

_LARGE_ML = (80.0, 180.0)
_USUAL_ML = 38.7
"""Of the ellipsoid at fullness 1."""
_WITH_WALL = 1.25
"""Volume of a large gallbladder with its wall, in volumes of its bile."""
_NEEDS_ONE = frozenset({Trait.LARGE_GALLBLADDER, Trait.DENSE_GALLBLADDER, Trait.GALLSTONES})
_BILE = (Tissue.GALLBLADDER, Tissue.DENSE_BILE)


def draw_gallbladder(canvas: Canvas, plan: BodyPlan, trunk: Trunk, hilum: Vector) -> None:
    """In its fossa under the right lobe, pressed into it; absent in one of eight, unless a trait says otherwise."""
    rng = canvas.rng
    absent = rng.random() < 0.13
    if Trait.NO_GALLBLADDER in plan.traits:
        _draw_clips(canvas, plan, hilum)
        return
    if absent and not plan.traits & _NEEDS_ONE:
        return
    fullness = rng.uniform(0.45, 1.15)
    overlap = rng.uniform(0.08, 0.3)
    if Trait.LARGE_GALLBLADDER in plan.traits:
        box, distance = _large(canvas, plan, trunk, hilum, overlap)
    else:
        radii = _radii(fullness)
        center = touching(canvas, _fossa(hilum), cloud_of_ellipsoid(radii, _turn()), overlap, (20, 20, 20))
        box, distance = ellipsoid(canvas, center, radii, _turn(), 1.0)
    wall = rng.uniform(0.0, 2.2)
    gap = canvas.liver_mm[box] > 0
    canvas.put(box, (distance < 0) & gap, Tissue.BOWEL_WALL)
    bile = Tissue.DENSE_BILE if Trait.DENSE_GALLBLADDER in plan.traits else Tissue.GALLBLADDER
    canvas.put(box, distance < -wall, bile, (Tissue.BOWEL_WALL,))
    if Trait.GALLSTONES in plan.traits:
        _draw_stones(canvas, box, plan.trait_generator(Trait.GALLSTONES))


def _radii(fullness: float) -> list[float]:
    """Half axes of the ellipsoid (mm); its volume grows with the fullness to the power of 2.5."""
    return [34 * fullness**0.5, 17 * fullness, 16 * fullness]


def _turn() -> Vector:
    return frame_along([-0.45, -0.75, -0.55])


def _large(canvas: Canvas, plan: BodyPlan, trunk: Trunk, hilum: Vector, overlap: float) -> tuple[Box, Field]:
    """A box and the signed distance (mm) of a gallbladder that keeps its volume where the liver presses it."""
    rng = plan.trait_generator(Trait.LARGE_GALLBLADDER)
    volume_ml = float(np.exp(rng.uniform(*np.log(_LARGE_ML))))
    radii = _radii((volume_ml / _USUAL_ML) ** 0.4)
    cloud = cloud_of_ellipsoid(radii, _turn())
    center = beside_liver(canvas, trunk.cavity_mm, _fossa(hilum), cloud, overlap, 30.0)
    box, rank = ellipsoid(canvas, center, [1.35 * r for r in radii], _turn(), 0.0)
    room = (canvas.labels[box] == Tissue.FAT) & (canvas.liver_mm[box] > 0) & (trunk.cavity_mm[box] < -0.5)
    shape = filled_to_volume(rank, room, int(_WITH_WALL * volume_ml * 1000 / canvas.step**3))
    depth = ndimage.distance_transform_edt(np.pad(shape, 1))[1:-1, 1:-1, 1:-1] * canvas.step
    return box, np.where(shape, 0.5 * canvas.step - depth, 1.0).astype(np.float32)


def _fossa(hilum: Vector) -> Vector:
    return np.asarray(hilum + xyz(-26, -24, -26))


def _draw_stones(canvas: Canvas, box: Box, rng: np.random.Generator) -> None:
    """One to fifteen stones where gravity takes them, at times with a calcified rim; sludge round them now and then."""
    held = np.isin(canvas.labels[box], _BILE)
    if not held.any():
        return
    _, y, _ = canvas.axes(box)
    depth = ndimage.distance_transform_edt(np.pad(held, 1))[1:-1, 1:-1, 1:-1] * canvas.step
    back = np.broadcast_to(y, held.shape)
    if rng.random() < 0.3:
        canvas.put(box, back > np.quantile(back[held], rng.uniform(0.45, 0.8)), Tissue.DENSE_BILE, _BILE)
    radius = min(float(np.exp(rng.uniform(np.log(2.0), np.log(12.0)))), 0.9 * float(depth.max()))
    count = int(rng.integers(1, 3 if radius > 7 else 16))
    rim_mm = rng.uniform(1.0, 2.5) if rng.random() < 0.6 else 0.0
    # A stone lies on the back wall: its centre is about its radius away from it.
    fits = held & (depth >= min(0.6 * radius, 0.8 * float(depth.max())))
    low = np.argwhere(fits & (back > np.quantile(back[fits], 0.55)))
    for spot in low[rng.integers(len(low), size=count)]:
        size = radius * rng.uniform(0.75, 1.1)
        away = [(np.arange(n, dtype=np.float32) - at) * canvas.step for n, at in zip(held.shape, spot, strict=True)]
        ball = np.sqrt(away[0][:, None, None] ** 2 + away[1][None, :, None] ** 2 + away[2][None, None, :] ** 2)
        canvas.put(box, ball < size, Tissue.GALLSTONE_RIM if rim_mm else Tissue.GALLSTONE, _BILE)
        canvas.put(box, ball < size - rim_mm, Tissue.GALLSTONE, (Tissue.GALLSTONE_RIM,))


def _draw_clips(canvas: Canvas, plan: BodyPlan, hilum: Vector) -> None:
    """Two to six metal clips of some millimetres at the neck of what was a gallbladder, outside of the liver."""
    rng = plan.trait_generator(Trait.NO_GALLBLADDER)
    neck = 0.6 * hilum + 0.4 * _fossa(hilum)
    for _ in range(int(rng.integers(2, 7))):
        start = touching(canvas, neck + rng.normal(0, 6, 3), np.zeros((1, 3)), 0.0, (6, 6, 6))
        along = rng.standard_normal(3)
        end = start + rng.uniform(5, 9) * along / np.linalg.norm(along)
        box, distance = tube(canvas, [start, 0.5 * (start + end), end], [1.3] * 3, 0.0)
        canvas.put(box, distance < 0, Tissue.CLIP, (Tissue.FAT, Tissue.PORTAL_TRUNK, Tissue.SMALL_VESSEL))
