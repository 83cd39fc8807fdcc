"""Above the liver: heart on the dome, diaphragm, lungs, pleural effusion."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import (
    Canvas,
    Field,
    Mask,
    Vector,
    cloud_of_ellipsoid,
    ellipsoid,
    frame_along,
    tube,
    xyz,
)
from dissm_phantom.effusions import draw_dome_atelectasis, draw_pleural_effusion
from dissm_phantom.tissue import Tissue
from dissm_phantom.trunk import Trunk
from dissm_phantom.variety import LIVER_SHAPES, Trait


def draw_heart(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> Vector:
    """The heart, resting on the left and medial lobe through a thin diaphragm -> its centre (LPS mm)."""
    rng = canvas.rng
    size = rng.uniform(0.88, 1.15)
    radii = (rng.uniform(60, 72) * size, rng.uniform(44, 52) * size, rng.uniform(38, 46) * size)
    turn = frame_along([0.8, -0.5, -0.28 + rng.uniform(-0.15, 0.15)])
    center = _heart_center(canvas, plan, cloud_of_ellipsoid(radii, turn, 500))
    box, distance = ellipsoid(canvas, center, radii, turn, 2.5)
    room = (trunk.cavity_mm[box] < -4) & (canvas.liver_mm[box] > _film(canvas, box))
    wall_mm = rng.uniform(4, 10)
    canvas.put(box, (distance < 0) & room, Tissue.MYOCARDIUM)
    for offset, share in (((0.28, 0.14, -0.1), 0.56), ((0.1, -0.45, 0.05), 0.46), ((-0.42, 0.0, 0.1), 0.52)):
        inner = center + turn @ (np.array(offset) * radii)
        chamber_box, chamber = ellipsoid(canvas, inner, [share * r for r in radii], turn, 2.0)
        inside_heart = ndimage.minimum_filter(canvas.labels[chamber_box] == Tissue.MYOCARDIUM, 3)
        canvas.put(chamber_box, (chamber < 0) & inside_heart, Tissue.HEART_BLOOD, (Tissue.MYOCARDIUM,))
    thin = (distance < -wall_mm) & (canvas.liver_mm[box] > wall_mm * rng.uniform(0.3, 1.0)) & (rng.random() < 0.6)
    septum = np.abs(canvas.noise(box, coarse=True)) < 0.22
    canvas.put(box, thin & ~septum, Tissue.HEART_BLOOD, (Tissue.MYOCARDIUM,))
    return center


def _film(canvas: Canvas, box: tuple[slice, slice, slice]) -> Field:
    """Thickness (mm) of what lies between heart and liver: 0.5 to 4, varying; below the voxel it vanishes."""
    return np.asarray(canvas.rng.uniform(0.3, 3.0) + 1.2 * canvas.noise(box, coarse=True), dtype=np.float32)


def _heart_center(canvas: Canvas, plan: BodyPlan, cloud: Vector) -> Vector:
    """Lower the heart onto the liver until 3-14 % of it would sink in: the imprint makes a broad contact."""
    rng = canvas.rng
    x = plan.spine_x + rng.uniform(8, 34)
    y = plan.front + rng.uniform(56, 72)
    share = rng.uniform(0.03, 0.14)
    for z in np.arange(plan.dome + 60, plan.dome - 60, -3.0):
        center = np.array([x, y, z])
        points = center + cloud
        # The grid may end below the heart: clamp only in the plane, never in height.
        inside = (canvas.liver_at(points) < 0) & (points[:, 2] <= canvas.z[-1])
        if inside.mean() > share:
            return center
    return np.array([x, y, plan.dome + 10.0])


def draw_mediastinum(canvas: Canvas, plan: BodyPlan, heart: Vector) -> None:
    """Ascending aorta, pulmonary trunk and superior vena cava over the heart; oesophagus beside the aorta."""
    rng = canvas.rng
    for shift, radius, tissue in (
        ((-8, 6), rng.uniform(13, 18), Tissue.AORTA),
        ((14, -2), rng.uniform(11, 15), Tissue.HEART_BLOOD),
        ((-36, 14), rng.uniform(8, 11), Tissue.IVC),
    ):
        knots = [heart + xyz(*shift, 20), heart + xyz(*shift, 90), heart + xyz(0.7 * shift[0], shift[1] + 10, 220)]
        box, distance = tube(canvas, knots, [radius] * 3, 1.0)
        canvas.put(box, distance < 0, tissue)
    heights = np.linspace(plan.dome - 45, plan.top + 20, 4)
    front = plan.spine_y_at(heights.astype(np.float32)) - rng.uniform(26, 36)
    side = np.linspace(plan.spine_x + 26, plan.spine_x + 6, 4)
    box, distance = tube(canvas, np.stack([side, front, heights], axis=1), [rng.uniform(6, 10)] * 4, 1.2)
    canvas.put(box, distance < 0, Tissue.BOWEL_WALL)


def draw_lungs(canvas: Canvas, plan: BodyPlan, trunk: Trunk, heart: Vector) -> None:
    """Lungs above the diaphragm and in the recesses beside the liver, the diaphragm under them, effusion at times."""
    rng = canvas.rng
    floor = _diaphragm_height(canvas, plan, trunk)
    box = canvas.box([-1e4, -1e4, plan.dome - 150], [1e4, 1e4, 1e5])
    x, y, z = canvas.axes(box)
    labels = canvas.labels[box]
    width = rng.uniform(24, 36)
    mediastinum = ((x - plan.spine_x - 8) / width) ** 2 + ((y - plan.spine_y + 50) / 75) ** 2 < 1
    open_space = (labels == Tissue.FAT) & (trunk.cavity_mm[box] < -0.6) & (z > floor[None]) & ~mediastinum
    open_space &= canvas.liver_mm[box] > rng.choice([0.0, 1.0, 2.4], p=[0.5, 0.3, 0.2])
    open_space &= ~_near_heart(canvas, box, rng.uniform(1.0, 7.0))
    canvas.labels[box][open_space] = Tissue.LUNG
    _draw_inside_lungs(canvas, plan, box, open_space)
    beside = ndimage.binary_dilation(open_space, iterations=int(rng.integers(1, 3)))
    near_floor = z < floor[None] + 3
    canvas.put(box, beside & near_floor, Tissue.DIAPHRAGM)
    if Trait.ATELECTASIS in plan.traits:
        draw_dome_atelectasis(canvas, plan, box, floor)
    if Trait.PLEURAL_EFFUSION in plan.traits:
        draw_pleural_effusion(canvas, plan, trunk, box)


def _near_heart(canvas: Canvas, box: tuple[slice, slice, slice], pad_mm: float) -> Mask:
    """Heart and the fat that clothes it."""
    labels = canvas.labels[box]
    heart = (labels == Tissue.MYOCARDIUM) | (labels == Tissue.HEART_BLOOD)
    return np.asarray(ndimage.uniform_filter(heart.astype(np.float32), int(2 * pad_mm / canvas.step) + 1) > 0.02)


def _diaphragm_height(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> Field:
    """z [J, I] of the diaphragm: over the liver its own top, a lower dome on the left, deep recesses at the wall."""
    rng = canvas.rng
    step = canvas.step
    inside = canvas.liver_mm < 0
    top = np.where(inside.any(axis=0), canvas.z[-1] - step * np.argmax(inside[::-1], axis=0), plan.tip).astype(
        np.float32
    )
    right = ndimage.gaussian_filter(ndimage.maximum_filter(top, int(36 / step)), 8 / step) - np.float32(
        rng.uniform(3, 9)
    )
    x, y = canvas.x[None, :], canvas.y[:, None]
    left_top = plan.dome - rng.uniform(2, 34)
    left = left_top - 55 * (((x - plan.spine_x - 82) / 95) ** 2 + ((y - plan.spine_y + 45) / 105) ** 2)
    dome = np.maximum(np.where(x < plan.spine_x + 20, right, -1e4), left)
    if plan.traits.intersection(LIVER_SHAPES):
        # Where liver is missing the lung does not go down: the diaphragm stands on fat and bowel.
        across, along = (x - plan.spine_x + 82) / 95, (y - plan.spine_y + 45) / 105
        dome = np.maximum(dome, plan.dome - 12 - 55 * (across**2 + along**2))
    level = int(np.clip(np.searchsorted(canvas.z, plan.dome - 60), 0, len(canvas.z) - 1))
    from_wall = -trunk.cavity_mm[level]
    depth = np.interp(trunk.angle, [0.0, 0.6, 1.5, 2.3, np.pi], [105, 105, 80, 35, 10]) * rng.uniform(0.65, 1.2)
    recess = plan.dome - 15 - depth
    share = np.clip((from_wall - rng.uniform(2, 10)) / rng.uniform(14, 40), 0, 1)
    floor = recess + (np.maximum(dome, recess) - recess) * share**0.6
    return np.asarray(np.maximum(floor, np.where(top > plan.tip, top, -1e4)), dtype=np.float32)


def _draw_inside_lungs(canvas: Canvas, plan: BodyPlan, box: tuple[slice, slice, slice], lung: Mask) -> None:
    """Vessels, dependent atelectasis (30 %) and effusion (12 %)."""
    rng = canvas.rng
    _, y, _ = canvas.axes(box)
    canvas.put(box, lung & (canvas.noise(box) > 2.05), Tissue.LUNG_VESSEL, (Tissue.LUNG,))
    if rng.random() < 0.3:
        dependent = (y > plan.back - rng.uniform(8, 26)) & (canvas.noise(box) > -0.3)
        canvas.put(box, lung & dependent, Tissue.ATELECTASIS, (Tissue.LUNG, Tissue.LUNG_VESSEL))
    if rng.random() < 0.12:
        x, _, _ = canvas.axes(box)
        sides = [(x < plan.spine_x), (x > plan.spine_x), np.ones_like(x, dtype=bool)]
        fluid = (y > plan.back - rng.uniform(10, 60)) & sides[int(rng.integers(3))]
        canvas.put(box, lung & fluid, Tissue.EFFUSION, (Tissue.LUNG, Tissue.LUNG_VESSEL, Tissue.ATELECTASIS))
