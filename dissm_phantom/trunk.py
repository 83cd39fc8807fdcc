"""The trunk's wall: cavity, intercostal and abdominal muscle, ribs, spine, fat, skin, arms and couch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Box, Canvas, Field, Mask, ellipsoid
from dissm_phantom.tissue import Tissue
from dissm_phantom.variety import Trait


@dataclass(frozen=True)
class Trunk:
    """The walls of chest and abdomen.

    Attributes:
        cavity_mm: Signed distance to their inner side, float32 [K, J, I], mm, negative inside.
        angle: From the spine (0) round to the front (pi), the same on both sides, float32 [J, I].
    """

    cavity_mm: Field
    angle: Field


def draw_trunk(canvas: Canvas, plan: BodyPlan) -> Trunk:
    """Fill the trunk with fat and draw its wall; the liver's voxels are labelled first and carve everything."""
    trunk = Trunk(_cavity(canvas, plan), _angle(canvas, plan))
    muscle_mm = _muscle_thickness(canvas, plan, trunk)
    skin_depth = _skin_depth(canvas, plan, trunk, muscle_mm)
    labels, distance = canvas.labels, trunk.cavity_mm
    labels[skin_depth > 0] = Tissue.FAT
    labels[(skin_depth > 0) & (skin_depth <= 2.4)] = Tissue.SKIN
    labels[canvas.liver_mm < 0] = Tissue.LIVER
    wall = (distance > 0) & (distance < muscle_mm) & (labels == Tissue.FAT)
    layers = canvas.noise(canvas.everything) * 1.6
    wall &= ~((np.abs(distance - 0.45 * muscle_mm + layers) < 0.8) & (muscle_mm > 12) & (layers > 0))
    linea_alba = (trunk.angle > 3.09)[None] & (canvas.axes(canvas.everything)[2] < plan.middle)
    labels[wall & ~linea_alba] = Tissue.MUSCLE
    _draw_ribs(canvas, plan, trunk)
    _draw_spine(canvas, plan)
    _draw_back_muscles(canvas, plan)
    _draw_couch(canvas, plan, skin_depth)
    if plan.arms:
        _draw_arms(canvas, plan)
    return trunk


def _cavity(canvas: Canvas, plan: BodyPlan) -> Field:
    """Superelliptic tube, bulging where the liver presses on the wall; no fat between them in most places."""
    x, y, z = canvas.axes(canvas.everything)
    rng = canvas.rng
    up = np.maximum(z - np.float32(plan.dome - 20), 0) / 200
    down = np.maximum(np.float32(plan.tip + 40) - z, 0) / 200
    size = (1 - 0.28 * up * up - rng.uniform(-0.05, 0.12) * down).astype(np.float32)
    middle_y = (plan.front + plan.back) / 2
    depth = (plan.back - plan.front) / 2
    u = np.abs(x - np.float32(plan.spine_x)) / (np.float32(plan.half_width) * size)
    v = np.abs(y - np.float32(middle_y)) / (np.float32(depth) * size)
    u2, v2 = u * u, v * v
    rho = np.float32(0.6) * np.sqrt(u2 + v2) + np.float32(0.4) * np.sqrt(np.sqrt(u2 * u2 + v2 * v2)) + np.float32(1e-4)
    radius = np.sqrt((x - np.float32(plan.spine_x)) ** 2 + (y - np.float32(middle_y)) ** 2)
    distance = radius * (1 - 1 / rho)
    # The liver dents the wall, it does not stand out of it: widen the trunk, each side by its own need.
    inside, right = canvas.liver_mm < 0, canvas.x < plan.spine_x
    need_right, need_left = (
        max(0.0, float(distance[:, :, side][inside[:, :, side]].max(initial=0.0)) - allowed)
        for side, allowed in ((right, rng.uniform(10, 18)), (~right, rng.uniform(4, 12)))
    )
    leftness = np.clip((x - np.float32(plan.spine_x)) / 80 + np.float32(0.5), 0, 1)
    distance -= np.float32(need_right) * (1 - leftness) + np.float32(need_left) * leftness
    box = canvas.box(np.array(plan.liver_low) - 40, np.array(plan.liver_high) + 40)
    gap = np.float32(rng.uniform(-3.0, 0.6)) + np.float32(1.6) * canvas.noise(box, coarse=True)
    if Trait.MUCH_ASCITES in plan.traits:
        # Fluid holds the liver off the wall.
        gap += np.float32(plan.trait_generator(Trait.MUCH_ASCITES).uniform(6, 20))
    return _pressed_by_liver(distance, box, canvas.liver_mm[box] - np.maximum(gap, -2.4))


def _pressed_by_liver(distance: Field, box: Box, liver: Field) -> Field:
    """Smooth minimum of the wall's distance with the liver's, within a box."""
    softness = np.float32(9.0)
    near = distance[box]
    mix = np.clip(0.5 + 0.5 * (liver - near) / softness, 0, 1)
    blend = liver + (near - liver) * mix - np.float32(0.5) * softness * mix * (1 - mix)
    distance[box] = np.minimum(blend, np.maximum(liver, near) + 100)
    return distance


def _angle(canvas: Canvas, plan: BodyPlan) -> Field:
    x, y, _ = canvas.axes(canvas.everything)
    middle_y = (plan.front + plan.back) / 2
    return np.asarray(np.arctan2(np.abs(x - plan.spine_x), y - middle_y)[0], dtype=np.float32)


def _costal_margin(plan: BodyPlan, angle: Field, rng: np.random.Generator) -> Field:
    """z [J, I] below which the wall has no ribs: low at the flank, an arch rising to the xiphoid in front."""
    knots = np.array([0.0, 0.9, 1.6, 2.3, 2.8, np.pi])
    drop = np.array([120.0, 150.0, 150.0, 115.0, 70.0, 45.0]) + rng.uniform(-20, 20)
    return np.asarray(plan.ribs_dome - np.interp(angle, knots, drop), dtype=np.float32)


def _muscle_thickness(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> Field:
    """Thickness of the wall's muscle [K, J, I] mm: ribs' layer above, three flat muscles and the rectus below."""
    _, _, z = canvas.axes(canvas.everything)
    rng = canvas.rng
    chest = np.interp(trunk.angle, [0, 0.7, 1.5, 2.4, np.pi], [16, 24, 17, 13, 11]) * rng.uniform(0.8, 1.25)
    belly = np.interp(trunk.angle, [0, 0.8, 1.6, 2.2, 2.5, 2.95, 3.1], [20, 17, 21, 15, 9, 12, 10])
    belly = belly * rng.uniform(0.65, 1.25)
    share = np.clip((z - _costal_margin(plan, trunk.angle, rng)[None]) / 40 + 0.5, 0, 1)
    thick = belly[None] * (1 - share) + chest[None] * share
    high = np.clip((z - np.float32(plan.dome - 30)) / 80, 0, 1) * np.interp(
        trunk.angle, [0.6, 1.3, 2.0, 2.6], [8, 16, 4, 8]
    )
    return np.asarray(thick + high + 1.5 * canvas.noise(canvas.everything, coarse=True), dtype=np.float32)


def _skin_depth(canvas: Canvas, plan: BodyPlan, trunk: Trunk, muscle_mm: Field) -> Field:
    """Depth below the skin [K, J, I] mm, negative in the air."""
    share = np.interp(trunk.angle, [0, 0.7, 1.5, 2.4, np.pi], [0.9, 1.2, 0.75, 1.0, 1.15]).astype(np.float32)
    _, _, z = canvas.axes(canvas.everything)
    lower = 1 + 0.35 * np.clip((np.float32(plan.middle) - z) / 150, -0.8, 1)
    fat = np.float32(plan.subcutaneous_mm) * share[None] * lower
    depth = muscle_mm + fat - trunk.cavity_mm
    # The back is flattened by the couch.
    _, y, _ = canvas.axes(canvas.everything)
    rest = max(plan.back + 22, plan.spine_y + 70) + 0.9 * plan.subcutaneous_mm - 0.0007 * (canvas.x - plan.spine_x) ** 2
    return np.asarray(np.minimum(depth, rest[None, None, :].astype(np.float32) - y), dtype=np.float32)


def _draw_ribs(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> None:
    """Ribs every 25-30 mm, falling towards the front, in intercostal muscle; cartilage in front; sternum."""
    rng = canvas.rng
    x, y, z = canvas.axes(canvas.everything)
    distance = trunk.cavity_mm
    margin = _costal_margin(plan, trunk.angle, rng)[None]
    layer = (distance > 0.2) & (distance < 10) & (canvas.labels == Tissue.MUSCLE) & (z > margin)
    canvas.labels[layer] = Tissue.INTERCOSTAL
    period = rng.uniform(25, 31)
    fall = np.interp(trunk.angle, [0, 0.8, 1.8, 2.6, np.pi], [0, 42, 125, 150, 100]) * rng.uniform(0.75, 1.2)
    phase = (z + fall[None].astype(np.float32) + rng.uniform(0, period)) / np.float32(period)
    along = (np.abs(phase - np.round(phase)) * np.float32(period)).astype(np.float32)
    half_height, half_depth = rng.uniform(5.5, 7.5), rng.uniform(2.6, 3.8)
    radial = (distance - np.float32(rng.uniform(4.2, 5.6))) / np.float32(half_depth)
    rib = np.sqrt((along / np.float32(half_height)) ** 2 + radial**2)
    bone = layer & (rib < 1)
    gristle = trunk.angle[None] > np.float32(rng.uniform(2.35, 2.6))
    canvas.labels[bone] = Tissue.BONE_CORTEX
    canvas.labels[bone & (rib < 0.55)] = Tissue.BONE_MARROW
    canvas.labels[bone & gristle] = Tissue.CARTILAGE
    sternum = (np.abs(x - np.float32(plan.spine_x)) < 17) & (y < plan.front + 40) & (distance > 1) & (distance < 11)
    sternum &= z > plan.ribs_dome - rng.uniform(15, 45)
    if plan.traits:
        # A liver that reaches into the breastbone stays liver; bodies without traits are kept as they were frozen.
        sternum &= canvas.labels != Tissue.LIVER
    canvas.labels[sternum] = Tissue.BONE_CORTEX
    canvas.labels[sternum & (np.abs(distance - 6) < 3)] = Tissue.BONE_MARROW


def _draw_spine(canvas: Canvas, plan: BodyPlan) -> None:
    """Vertebral bodies with discs, canal, pedicles, spinous and transverse processes."""
    rng = canvas.rng
    box = canvas.box([plan.spine_x - 50, plan.spine_y - 70, plan.bottom], [plan.spine_x + 50, plan.back + 60, plan.top])
    x, y, z = canvas.axes(box)
    dx = x - np.float32(plan.spine_x)
    dy = y - plan.spine_y_at(z)
    period = rng.uniform(31, 37)
    phase = ((z - plan.middle) / period + rng.uniform()) % 1.0
    waist = 1 - 0.09 * np.sin(np.pi * np.clip(phase / 0.78, 0, 1))
    body = (np.sqrt((dx / 22.5) ** 2 + (dy / 16.5) ** 2) / waist - 1) * 17 + 0.5 * canvas.noise(box)
    disc = phase > 0.8
    arch = np.sqrt((dx / 15) ** 2 + ((dy - 24) / 13) ** 2) < 1
    spinous = (np.abs(dx) < 4.5) & (dy > 30) & (dy < 54) & (phase > 0.15) & (phase < 0.75)
    transverse = (np.abs(dx) < 38) & (np.abs(dy - 25 - 0.1 * np.abs(dx)) < 5) & (phase > 0.2) & (phase < 0.55)
    facet = (np.abs(np.abs(dx) - 15) < 8) & (np.abs(dy - 30) < 9) & ((phase > 0.55) | (phase < 0.1))
    processes = arch | spinous | transverse | facet
    replaceable = (Tissue.FAT, Tissue.MUSCLE, Tissue.INTERCOSTAL)
    canvas.put(box, processes, Tissue.BONE_CORTEX, replaceable)
    canvas.put(box, spinous & (np.abs(dx) < 2), Tissue.BONE_MARROW, (Tissue.BONE_CORTEX,))
    canvas.put(box, (body < 0) & ~disc, Tissue.BONE_CORTEX, replaceable)
    canvas.put(box, (body < -2.5) & (phase > 0.06) & (phase < 0.74), Tissue.BONE_MARROW, (Tissue.BONE_CORTEX,))
    canvas.put(box, (body < 0) & disc, Tissue.DISC, replaceable)
    canal = np.broadcast_to(np.sqrt((dx / 10) ** 2 + ((dy - 24) / 8.5) ** 2) < 1, body.shape)
    canvas.put(box, canal, Tissue.SPINAL_CANAL, (*replaceable, Tissue.BONE_CORTEX))


def _draw_back_muscles(canvas: Canvas, plan: BodyPlan) -> None:
    """Erector spinae on both sides, quadratus lumborum and psoas below the kidneys' level."""
    rng = canvas.rng
    box = canvas.box(
        [plan.spine_x - 100, plan.spine_y - 40, plan.bottom], [plan.spine_x + 100, plan.back + 60, plan.top]
    )
    x, y, z = canvas.axes(box)
    side = np.abs(x - np.float32(plan.spine_x))
    dy = y - plan.spine_y_at(z)
    rough = 0.07 * canvas.noise(box)
    size = rng.uniform(0.85, 1.15)
    erector = np.sqrt(((side - 34) / (33 * size)) ** 2 + ((dy - 46) / (20 * size)) ** 2) + rough < 1
    below = np.clip((np.float32(plan.middle + plan.lowered_mm - 20) - z) / 130, 0, 1.1)
    psoas_radius = 0.1 + 21 * size * np.sqrt(below)
    psoas = np.sqrt(((side - 30 - 12 * below) / psoas_radius) ** 2 + ((dy + 2) / psoas_radius) ** 2) + rough < 1
    quadratus = np.sqrt(((side - 66) / (1 + 20 * below)) ** 2 + ((dy - 30) / (1 + 13 * below)) ** 2) + rough < 1
    for muscle in (erector, psoas & (below > 0.02), quadratus & (below > 0.1)):
        canvas.put(box, np.broadcast_to(muscle, rough.shape), Tissue.MUSCLE)


def _draw_couch(canvas: Canvas, plan: BodyPlan, skin_depth: Field) -> None:
    """One or two thin carbon shells under the back, slightly curved, the same in every slice."""
    rng = canvas.rng
    rows = np.flatnonzero((skin_depth > 0).any(axis=(0, 2)))
    back = float(canvas.y[rows[-1]]) if len(rows) else plan.back
    across = canvas.x - np.float32(plan.spine_x + rng.uniform(-20, 20))
    curve = back + rng.uniform(4, 14) - across**2 * np.float32(rng.uniform(0.0002, 0.0011))
    width = np.abs(across) < rng.uniform(170, 230)
    for deeper, thick in ((0.0, 2.2), (rng.uniform(18, 45), rng.choice([0.0, 1.8]))):
        shell: Mask = (np.abs(canvas.y[:, None] - curve[None, :] - deeper) < thick) & width[None, :]
        air = canvas.labels == Tissue.AIR
        canvas.labels[air & shell[None]] = Tissue.COUCH


def _draw_arms(canvas: Canvas, plan: BodyPlan) -> None:
    """Arms beside the trunk: skin, fat, muscle, and one bone each."""
    rng = canvas.rng
    size = rng.uniform(32, 44)
    for side in (-1, 1):
        reach = plan.half_width + plan.subcutaneous_mm + 18 + size
        center = [plan.spine_x + side * reach, rng.uniform(plan.front + 50, plan.back - 30), plan.middle]
        for radius, tissue in (
            (1.0, Tissue.SKIN),
            (0.95, Tissue.FAT),
            (0.8, Tissue.MUSCLE),
            (0.24, Tissue.BONE_CORTEX),
        ):
            box, distance = ellipsoid(canvas, center, (size * radius, size * radius, 4000.0), None, 0.4)
            over = (Tissue.AIR,) if tissue == Tissue.SKIN else (Tissue.SKIN, Tissue.FAT, Tissue.MUSCLE)
            x, _, _ = canvas.axes(box)
            own_side = (x - plan.spine_x) * side > reach - size - 4
            canvas.put(box, (distance < 0) & own_side, tissue, over)
