"""Stomach, duodenum, colon and small bowel with what is in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Box, Canvas, Field, Mask, Vector, touching, tube, xyz
from dissm_phantom.masses import Mass, make_room
from dissm_phantom.tissue import Tissue
from dissm_phantom.trunk import Trunk
from dissm_phantom.variety import Trait

_LEFT = np.array([1.0, -0.3, 0.0])
_DOWN = np.array([0.0, 0.0, -1.0])


def draw_stomach(canvas: Canvas, plan: BodyPlan, trunk: Trunk, hilum: Vector, mass: Mass | None = None) -> Vector:
    """From under the left dome along the left lobe to the pylorus -> where the duodenum begins (LPS mm).

    A mass pushes it to the left.
    """
    rng = canvas.rng
    full = rng.uniform(0.5, 1.2)
    if Trait.STOMACH_WITH_FOOD in plan.traits:
        full = plan.trait_generator(Trait.STOMACH_WITH_FOOD).uniform(0.95, 1.35)
    droop = rng.uniform(0, 50)
    fundus = np.array([plan.spine_x + rng.uniform(48, 74), plan.spine_y - rng.uniform(38, 62), plan.dome - 48])
    low_front = plan.front + 30 * full + 8
    pylorus = hilum + xyz(rng.uniform(-8, 12), -14, -rng.uniform(38, 60))
    knots: list[npt.ArrayLike] = [
        fundus,
        [plan.spine_x + 76, 0.5 * (fundus[1] + low_front), fundus[2] - 42],
        [plan.spine_x + rng.uniform(48, 70), low_front, hilum[2] - 28 - 0.6 * droop],
        [plan.spine_x + rng.uniform(4, 24), low_front + 4, hilum[2] - 48 - droop],
        pylorus,
    ]
    radii = [36 * full, 34 * full, 30 * full, 21 * full, 10.0]
    body = np.repeat(np.array(knots[:4]), 40, axis=0)
    inside = rng.uniform(-0.7, 0.7, body.shape) * np.repeat(radii[:4], 40)[:, None]
    shift = touching(canvas, np.zeros(3), body + inside, rng.uniform(0.0, 0.09), (16, 16, 12))
    middle = body.mean(axis=0) + shift
    shift = shift + 0.6 * (make_room(mass, middle, 30 * full, _LEFT) - middle)
    knots = [np.asarray(knot) + shift for knot in knots]
    pylorus = pylorus + shift
    box, distance = tube(canvas, knots, radii, 2.8, 6.0)
    free = (trunk.cavity_mm[box] < -0.5) & (canvas.liver_mm[box] > _gap(canvas, box))
    _fill(canvas, box, distance, free, _StomachLayers)
    if Trait.STOMACH_WITH_FOOD in plan.traits:
        _fill_with_food(canvas, plan, box)
    return np.asarray(pylorus)


def _fill_with_food(canvas: Canvas, plan: BodyPlan, box: Box) -> None:
    """Lumps of every HU from fat to meat in what fluid or contrast there is, with air between them."""
    rng = plan.trait_generator(Trait.STOMACH_WITH_FOOD)
    held = np.isin(canvas.labels[box], _StomachLayers[1:])
    gas = canvas.labels[box] == Tissue.GUT_GAS
    if not (held | gas).any():
        return
    _, y, _ = canvas.axes(box)
    rows = canvas.y[box[1]][np.flatnonzero((held | gas).any(axis=(0, 2)))]
    # A full stomach keeps a little gas in front.
    level = rows[0] + (rows[-1] - rows[0]) * rng.uniform(0.0, 0.22)
    canvas.put(box, gas & (y > level), Tissue.STOMACH_CONTENT, (Tissue.GUT_GAS,))
    full = np.isin(canvas.labels[box], _StomachLayers[1:])
    lumps = canvas.noise(box, rng=rng)
    crumbs = ndimage.gaussian_filter(rng.standard_normal(full.shape, dtype=np.float32), 1.2)
    crumbs = crumbs / crumbs.std() + 0.7 * canvas.noise(box, rng=rng)
    canvas.put(box, full & (lumps > rng.uniform(-1.0, 0.4)), Tissue.FOOD, _StomachLayers[1:])
    canvas.put(box, full & (crumbs < rng.uniform(-1.6, -0.7)), Tissue.FATTY_FOOD, (Tissue.FOOD, *_StomachLayers[1:]))
    canvas.put(box, full & (crumbs > rng.uniform(1.9, 2.8)), Tissue.GUT_GAS, (Tissue.FOOD, *_StomachLayers[1:]))


def _gap(canvas: Canvas, box: Box) -> Field:
    """Fat between gut and liver: none in half of the cases, else 1-4 mm, varying along the contact."""
    rng = canvas.rng
    width = 0.0 if rng.random() < 0.5 else rng.uniform(0.5, 3.5)
    return np.asarray(np.maximum(width + width * canvas.noise(box, coarse=True), 0), dtype=np.float32)


_StomachLayers = (Tissue.STOMACH_WALL, Tissue.STOMACH_CONTENT, Tissue.STOMACH_CONTRAST)
_BowelLayers = (Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_CONTRAST)


def _fill(canvas: Canvas, box: Box, distance: Field, free: Mask, layers: tuple[Tissue, Tissue, Tissue]) -> None:
    """Wall, then contents by gravity (the patient lies on the back): contrast behind, fluid or food, gas in front."""
    rng = canvas.rng
    wall, content, contrast = layers
    lumen = distance < -rng.uniform(1.8, 5.0)
    canvas.put(box, (distance < 0) & free, wall)
    canvas.put(box, lumen, content, (wall,))
    held = canvas.labels[box] == content
    if not held.any():
        return
    _, y, _ = canvas.axes(box)
    rows = np.flatnonzero(held.any(axis=(0, 2)))
    front, back = canvas.y[box[1]][rows[0]], canvas.y[box[1]][rows[-1]]
    gas = front + (back - front) * rng.choice(
        [-1.0, rng.uniform(0.08, 0.3), rng.uniform(0.3, 0.6)], p=[0.35, 0.45, 0.2]
    )
    kind = rng.random()
    if kind < 0.3:
        canvas.put(box, held, contrast, (content,))
        canvas.put(box, held & (canvas.noise(box, coarse=True) > 0.9), content, (contrast,))
    elif kind < 0.5:
        level = back - (back - front) * rng.uniform(0.2, 0.7)
        canvas.put(box, held & (y + 1.5 * canvas.noise(box) > level), contrast, (content,))
    canvas.put(box, held & (y < gas), Tissue.GUT_GAS, (content, contrast))
    if rng.random() < 0.3:
        canvas.put(box, held & (canvas.noise(box) > 2.0), Tissue.GUT_GAS, (content, contrast))


def draw_duodenum(canvas: Canvas, plan: BodyPlan, trunk: Trunk, pylorus: Vector) -> None:
    """Bulb against the liver and gallbladder, then down beside the pancreas head and across."""
    rng = canvas.rng
    turn = pylorus + xyz(-rng.uniform(22, 34), 22, -6)
    low = np.array([turn[0] + 4, plan.spine_y - 42, turn[2] - rng.uniform(50, 75)])
    knots = [pylorus, 0.5 * (pylorus + turn) + xyz(0, -2, 8), turn, low, low + xyz(34, -6, -8), low + xyz(80, -14, 10)]
    box, distance = tube(canvas, knots, list(rng.uniform(8.5, 14, 6)), 1.2)
    free = (canvas.liver_mm[box] > _gap(canvas, box)) & (trunk.cavity_mm[box] < 0)
    _fill(canvas, box, distance, free, _BowelLayers)


def draw_colon(canvas: Canvas, plan: BodyPlan, trunk: Trunk, kidney: Vector, mass: Mass | None = None) -> None:
    """Ascending colon, hepatic flexure under the right lobe, transverse in front, descending on the left.

    A mass pushes the flexure down.
    """
    rng = canvas.rng
    width = rng.uniform(15, 24)
    right = plan.spine_x - plan.half_width + width + rng.uniform(6, 16)
    cloud = rng.uniform(-1, 1, (120, 3)) * width * 0.75
    nominal = np.array([right + 22, kidney[1] - rng.uniform(44, 66), plan.tip + rng.uniform(4, 50)])
    flexure = touching(canvas, nominal, cloud, float(rng.choice([0.0, 0.06, 0.15])), (20, 14, 40))
    flexure = make_room(mass, flexure, width, _DOWN)
    sag = rng.uniform(10, 110)
    front = plan.front + width + 6
    left = plan.spine_x + plan.half_width - width - 10
    z = flexure[2]
    splenic = np.array([left - 10, plan.spine_y - 44, plan.dome - rng.uniform(75, 110)])
    knots = [
        [right, flexure[1] + 34, z - 210],
        [right, flexure[1] + 24, z - 60],
        flexure,
        [flexure[0] + 26, 0.6 * front + 0.4 * flexure[1], z - 0.4 * sag],
        [plan.spine_x, front, z - sag],
        [plan.spine_x + 62, front + 8, z - 0.5 * sag],
        splenic,
        [left, plan.spine_y - 12, splenic[2] - 60],
        [left, plan.spine_y - 14, z - 210],
    ]
    for first, last in ((0, 4), (3, 6), (5, 9)):
        part = np.array(knots[first:last])
        radii = width * rng.uniform(0.6, 1.1, len(part))
        box, distance = tube(canvas, part, list(radii), 3.0)
        free = (trunk.cavity_mm[box] < -1) & (canvas.liver_mm[box] > _gap(canvas, box))
        if rng.random() < 0.5:
            _fill_with_stool(canvas, box, distance, free)
        else:
            _fill(canvas, box, distance, free, _BowelLayers)


def _fill_with_stool(canvas: Canvas, box: Box, distance: Field, free: Mask) -> None:
    """Wall and crumbly stool with gas between."""
    rng = canvas.rng
    canvas.put(box, (distance < 0) & free, Tissue.BOWEL_WALL)
    lumen = (distance < -2.0) & free
    canvas.put(box, lumen, Tissue.STOOL, (Tissue.BOWEL_WALL,))
    crumbs = rng.standard_normal(distance.shape, dtype=np.float32) + 1.2 * canvas.noise(box)
    canvas.put(box, lumen & (crumbs > rng.uniform(1.2, 3.0)), Tissue.GUT_GAS, (Tissue.STOOL,))


def draw_small_bowel(canvas: Canvas, plan: BodyPlan, trunk: Trunk, hilum: Vector) -> None:
    """Loops wherever room is left below liver and stomach: islands of soft tissue or bright contrast in fat."""
    rng = canvas.rng
    top = hilum[2] - rng.uniform(20, 60)
    low = [plan.spine_x - plan.half_width * 0.8, plan.front + 8, max(plan.bottom, top - 260)]
    high = [plan.spine_x + plan.half_width * 0.85, plan.spine_y - 28, top]
    height = high[2] - low[2]
    if height < 10:
        return
    for _ in range(int(np.clip(height / rng.uniform(5, 9), 4, 34))):
        at = rng.uniform(low, high)
        steps = rng.normal(0, 1, (int(rng.integers(3, 6)), 3)) * [24, 18, 16]
        knots = np.clip(at + np.cumsum(steps, axis=0), low, high)
        box, distance = tube(canvas, knots, list(rng.uniform(7.5, 14, len(knots))), 1.6)
        free = (trunk.cavity_mm[box] < -1.5) & (canvas.liver_mm[box] > _gap(canvas, box))
        _fill(canvas, box, distance, free, _BowelLayers)
    _draw_mesentery(canvas, trunk, low, high)


def _draw_mesentery(canvas: Canvas, trunk: Trunk, low: list[float], high: list[float]) -> None:
    """Small vessels and nodes in the fat between the loops."""
    box = canvas.box(low, high)
    speck = (canvas.noise(box) > 2.1) & (trunk.cavity_mm[box] < -4)
    canvas.put(box, speck, Tissue.SMALL_VESSEL)
