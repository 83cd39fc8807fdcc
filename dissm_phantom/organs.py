"""Solid organs of the upper abdomen, placed so that they touch the liver where they touch in life."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import (
    Box,
    Canvas,
    Field,
    Mask,
    Vector,
    cloud_of_ellipsoid,
    ellipsoid,
    frame_along,
    touching,
    tube,
    xyz,
)
from dissm_phantom.effusions import draw_much_ascites
from dissm_phantom.filling import beside_liver, filled_to_volume
from dissm_phantom.masses import Mass, make_room
from dissm_phantom.tissue import Tissue
from dissm_phantom.trunk import Trunk
from dissm_phantom.variety import Trait

_DOWN = np.array([0.0, 0.0, -1.0])
_LARGE_SPLEEN_ML = (500.0, 1800.0)


def draw_kidneys(canvas: Canvas, plan: BodyPlan, mass: Mass | None = None) -> Vector:
    """Both kidneys; the right one touches the inferior posterior right lobe most times -> its centre (LPS mm).

    A mass pushes them down.
    """
    rng = canvas.rng
    lengths = rng.uniform(0.85, 1.15, 2)
    right = np.array([plan.spine_x - rng.uniform(58, 70), plan.spine_y + rng.uniform(-18, 0), plan.middle - 0.0])
    right[2] = plan.tip + rng.uniform(0.16, 0.4) * (plan.dome - plan.tip)
    turn = frame_along([-0.28, 0.25, -1.0])
    radii = [56 * lengths[0], 27 * lengths[0], 30 * lengths[0]]
    overlap = rng.choice([0.0, 0.03, 0.08], p=[0.2, 0.45, 0.35])
    right = touching(canvas, right, cloud_of_ellipsoid(radii, turn), float(overlap), (10, 16, 28))
    right = make_room(mass, right, 0.6 * radii[0], _DOWN)
    _draw_kidney(canvas, right, radii, turn, 1)
    left = np.array(
        [plan.spine_x + rng.uniform(60, 78), plan.spine_y + rng.uniform(-14, 4), right[2] + rng.uniform(-5, 26)]
    )
    radii = [56 * lengths[1], 27 * lengths[1], 30 * lengths[1]]
    left = make_room(mass, left, 0.6 * radii[0], _DOWN)
    _draw_kidney(canvas, left, radii, frame_along([0.28, 0.25, -1.0]), -1)
    return right


def _draw_kidney(canvas: Canvas, center: Vector, radii: list[float], turn: Vector, medial: int) -> None:
    """Cortex, medullary pyramids, renal sinus fat opening to the medial side, pelvis."""
    rng = canvas.rng
    box, distance = ellipsoid(canvas, center, radii, turn, 1.4)
    gap = rng.choice([0.0, 0.0, 1.5, 4.0]) + 1.0 * canvas.noise(box, coarse=True)
    inside = (distance < 0) & (canvas.liver_mm[box] > gap)
    sinus_center = center + np.array([medial * 14.0, -6.0, 0.0])
    x, y, z = canvas.axes(box)
    sinus = np.sqrt(
        ((x - sinus_center[0]) / 13) ** 2 + ((y - sinus_center[1]) / 9) ** 2 + ((z - sinus_center[2]) / 20) ** 2
    ) + 0.1 * canvas.noise(box)
    canvas.put(box, inside & (sinus > 1), Tissue.KIDNEY_CORTEX)
    medulla = (distance < -7) & (sinus > 1) & (canvas.noise(box) > -0.1)
    canvas.put(box, medulla, Tissue.KIDNEY_MEDULLA, (Tissue.KIDNEY_CORTEX,))
    canvas.put(box, inside & (sinus < 0.45), Tissue.RENAL_PELVIS)
    if rng.random() < 0.25:
        cyst_at = center + turn @ (np.array(rng.choice([-0.9, 0.9]) * np.array([0.5, 0, 0])) * radii) + xyz(0, -14, 0)
        cyst_box, cyst = ellipsoid(canvas, cyst_at, [rng.uniform(6, 18)] * 3, None, 0.6)
        canvas.put(cyst_box, cyst < 0, Tissue.URINE, (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA, Tissue.FAT))


def draw_adrenals(canvas: Canvas, plan: BodyPlan) -> None:
    """Thin limbs: the right one between IVC, liver and crus, the left one above its kidney."""
    rng = canvas.rng
    for side in (-1, 1):
        start = np.array([plan.spine_x + side * rng.uniform(30, 38), plan.spine_y - rng.uniform(18, 30), plan.middle])
        for tilt in (0.0, 9.0):
            knots = [start, start + xyz(side * (6 + tilt), 12, -8), start + xyz(side * (10 + 1.5 * tilt), 24, -14)]
            box, distance = tube(canvas, knots, [2.6, 2.2, 2.0], 0.4)
            canvas.put(box, distance < 0, Tissue.ADRENAL)


def draw_spleen(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> None:
    """A crescent along the left posterior wall, now and then so large that the left lobe lies on it."""
    rng = canvas.rng
    size = np.clip(np.exp(rng.normal(0.0, 0.22)), 0.65, 1.6)
    center = np.array(
        [
            plan.spine_x + plan.half_width - rng.uniform(22, 34) * size**0.5,
            plan.spine_y - rng.uniform(-2, 24),
            plan.dome - rng.uniform(50, 88),
        ]
    )
    radii = [58 * size, 34 * size, 46 * size]
    box, distance = ellipsoid(canvas, center, radii, frame_along([0.25, -0.35, -1.0]), 3.5)
    thick = rng.uniform(30, 46) * size
    if Trait.SPLENOMEGALY in plan.traits:
        _draw_large_spleen(canvas, plan, trunk)
        return
    shape = (distance < 0) & (trunk.cavity_mm[box] < -1.0) & (trunk.cavity_mm[box] > -thick)
    shape &= canvas.liver_mm[box] > rng.choice([0.0, 0.0, 2.0])
    canvas.put(box, shape, Tissue.SPLEEN)


def _draw_large_spleen(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> None:
    """500 to 1800 ml that fill the left side from under the dome downwards and lie on the left lobe."""
    rng = plan.trait_generator(Trait.SPLENOMEGALY)
    volume_ml = float(np.exp(rng.uniform(*np.log(_LARGE_SPLEEN_ML))))
    size = (volume_ml / 520) ** (1 / 3)
    radii = [75 * size, 36 * size, 46 * size]
    turn = frame_along([0.15, -0.35, -1.0])
    nominal = np.array(
        [
            plan.spine_x + plan.half_width - rng.uniform(30, 44) * size,
            plan.spine_y - rng.uniform(10, 34),
            plan.dome - rng.uniform(50, 70) * size**0.5,
        ]
    )
    cloud = cloud_of_ellipsoid(radii, turn)
    center = beside_liver(canvas, trunk.cavity_mm, nominal, cloud, float(rng.uniform(0.04, 0.12)), 45.0)
    box, distance = ellipsoid(canvas, center, [1.5 * r for r in radii], turn, 0.0)
    distance += np.float32(2.5) * canvas.noise(box, coarse=True, rng=rng)
    # What the left lobe leaves free beside it is filled first: a broad contact, not a point. Towards the middle there
    # is the stomach: the spleen grows down and forward rather than there.
    x, y, z = canvas.axes(box)
    pull = np.float32(rng.uniform(10, 22))
    nearness = np.exp(np.maximum(canvas.liver_mm[box], 0) * np.float32(-0.05))
    rank: Field = np.asarray(distance - pull * nearness, dtype=np.float32)
    bulge = (y - np.float32(center[1])) ** 2 + 0.5 * (z - np.float32(center[2])) ** 2
    rank += np.float32(0.8) * np.maximum(np.float32(plan.spine_x + 48) + np.float32(0.005) * bulge - x, 0)
    room = (canvas.labels[box] == Tissue.FAT) & (trunk.cavity_mm[box] < -1.0) & (x > plan.spine_x + 14)
    room &= (canvas.liver_mm[box] > 0) & ~_round_left_kidney(canvas, plan, box)
    canvas.put(box, filled_to_volume(rank, room, int(volume_ml * 1000 / canvas.step**3)), Tissue.SPLEEN)


def _round_left_kidney(canvas: Canvas, plan: BodyPlan, box: Box) -> Mask:
    """The left kidney and the fat round it, which the spleen is pressed by."""
    x, y, z = canvas.axes(box)
    where = np.argwhere((canvas.labels[box] == Tissue.KIDNEY_CORTEX) & (x > plan.spine_x))
    if len(where) == 0:
        return np.zeros(canvas.labels[box].shape, dtype=bool)
    k, j, i = where.mean(axis=0).astype(int)
    across, along = x - canvas.x[box[2]][i] + 14, y - canvas.y[box[1]][j] - 8
    up = z - canvas.z[box[0]][k]
    return np.asarray((across / 50) ** 2 + (along / 40) ** 2 + (up / 64) ** 2 < 1)


def draw_pancreas(canvas: Canvas, plan: BodyPlan, hilum: Vector) -> None:
    """Lobulated: head beside the duodenum, neck over the confluence, tail to the spleen's hilum."""
    rng = canvas.rng
    head = np.array([plan.spine_x - 18, plan.spine_y - 60, hilum[2] - rng.uniform(58, 80)])
    knots = [head, head + xyz(16, -6, 24), head + xyz(48, 4, 36), head + xyz(92, 30, 48)]
    size = rng.uniform(0.7, 1.15)
    box, distance = tube(canvas, knots, [15 * size, 9 * size, 10 * size, 10 * size], 2.6)
    canvas.put(box, distance < 0, Tissue.PANCREAS)


def draw_ascites(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> None:
    """Free fluid around the liver and along the wall, in one of eight bodies; much of it where a trait says so."""
    rng = canvas.rng
    if Trait.MUCH_ASCITES in plan.traits:
        draw_much_ascites(canvas, plan, trunk)
        return
    if rng.random() > 0.13:
        return
    extent = rng.uniform(3, 16)
    box = canvas.box([-1e4, -1e4, plan.bottom], [1e4, plan.spine_y + 30, plan.dome + 5])
    near_liver = canvas.liver_mm[box] < extent * (1 + 0.5 * canvas.noise(box, coarse=True))
    gutter = (trunk.cavity_mm[box] > -extent) & (trunk.cavity_mm[box] < 0)
    inside = trunk.cavity_mm[box] < 0
    fluid = ndimage.binary_opening((near_liver | gutter) & inside & (canvas.labels[box] == Tissue.FAT))
    canvas.put(box, fluid, Tissue.ASCITES)


def draw_pelvis(canvas: Canvas, plan: BodyPlan) -> None:
    """Iliac wings and bladder, where the scan reaches them; coarse, for orientation only."""
    rng = canvas.rng
    crest = plan.tip - rng.uniform(20, 90)
    if canvas.z[0] > crest:
        return
    for side in (-1, 1):
        center = np.array([plan.spine_x + side * 92, plan.spine_y - 6, crest - 62])
        box, distance = ellipsoid(canvas, center, [62, 58, 13], frame_along([0.25 * side, 0.1, 1.0]), 2.0)
        over = (Tissue.FAT, Tissue.MUSCLE)
        canvas.put(box, distance < 0, Tissue.BONE_CORTEX, over)
        canvas.put(box, distance < -2.6, Tissue.BONE_MARROW, (Tissue.BONE_CORTEX,))
    bladder = np.array([plan.spine_x, plan.front + 60, crest - 150])
    box, distance = ellipsoid(canvas, bladder, [rng.uniform(25, 50), 32, 34], None, 2.0)
    canvas.put(box, distance < 0, Tissue.URINE)
