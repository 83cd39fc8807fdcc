"""Vessels: aorta, inferior vena cava in its groove, portal trunk, and the trees inside the liver."""

from __future__ import annotations

import numpy as np

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Canvas, Vector, tube, xyz
from dissm_phantom.hilum import Hilum
from dissm_phantom.tissue import Tissue
from dissm_phantom.vena_cava import VenaCava, nominal_course

_LIVER = (Tissue.LIVER,)


def draw_great_vessels(canvas: Canvas, plan: BodyPlan, heart: Vector, enclosed: VenaCava | None = None) -> None:
    """Aorta left in front of the spine, IVC from the right of it through the liver's groove to the right atrium.

    Where the liver was carved for the vein, it follows that bed.
    """
    rng = canvas.rng
    radius = rng.uniform(8.5, 13)
    heights = np.linspace(plan.bottom - 20, plan.top + 20, 9)
    share = np.clip((heights - plan.middle) / 110, -1, 1.3)
    spine_y = plan.spine_y_at(heights.astype(np.float32))
    side = plan.spine_x + 10 + 11 * np.maximum(share, 0) + rng.normal(0, 2.5, 9)
    front = spine_y - 17 - radius - 4 + 13 * np.maximum(share, 0)
    box, distance = tube(canvas, np.stack([side, front, heights], axis=1), [radius] * 9, 0.5)
    canvas.put(box, distance < 0, Tissue.AORTA)
    canvas.put(box, (distance < 1.2) & (canvas.noise(box) > 1.7), Tissue.CARTILAGE)
    _draw_cava(canvas, plan, heart, enclosed)
    _draw_crura(canvas, plan)


def _draw_cava(canvas: Canvas, plan: BodyPlan, heart: Vector, enclosed: VenaCava | None) -> None:
    rng = canvas.rng
    radius = rng.uniform(9, 14)
    exit_z = plan.dome - rng.uniform(14, 30)
    if enclosed is not None:
        # Half a millimetre more than its bed, so that vein and liver touch; the liver is not overwritten.
        radius, exit_z = enclosed.radius + 0.8, float(enclosed.knots[-1, 2])
    heights = np.arange(min(plan.bottom - 10, exit_z - 40), exit_z, 12.0)
    knots: list[list[float]] = []
    previous = np.zeros(2)
    for z in heights:
        nominal = nominal_course(plan, float(z), exit_z)
        if enclosed is not None and z >= enclosed.knots[0, 2] - 6:
            break
        groove = _groove(canvas, nominal, float(z), radius) if z > plan.tip else nominal
        previous = groove if not knots else 0.4 * previous + 0.6 * groove
        knots.append([*previous, z])
    if enclosed is not None:
        knots += [list(knot) for knot in enclosed.knots if knot[2] > canvas.z[0] - 20]
        previous = enclosed.knots[-1, :2]
    atrium = heart + np.array([-34, 22, -4])
    knots += [[*(0.5 * previous + 0.5 * atrium[:2]), 0.5 * (exit_z + atrium[2]) + 4], list(atrium)]
    box, distance = tube(canvas, knots, [radius] * len(knots), 0.8)
    canvas.put(box, distance < 0, Tissue.IVC)


def _groove(canvas: Canvas, nominal: Vector, z: float, radius: float) -> Vector:
    """The place near `nominal` (x, y) where a vein just fits beside the liver and touches it."""
    shift = np.arange(-16, 17, 4.0)
    dx, dy = (part.ravel() for part in np.meshgrid(shift, shift))
    points = np.stack([nominal[0] + dx, nominal[1] + dy, np.full(dx.shape, z)], axis=1)
    room = canvas.liver_at(points)
    cost = ((room - 0.75 * radius) / 3) ** 2 + 0.012 * (dx**2 + dy**2)
    return np.asarray(points[int(np.argmin(cost)), :2])


def _draw_crura(canvas: Canvas, plan: BodyPlan) -> None:
    """The diaphragm's crura: thin muscle bands beside the aorta."""
    rng = canvas.rng
    for side in (-1, 1):
        heights = np.linspace(plan.middle - 50, plan.dome + 5, 5)
        x = plan.spine_x + 10 + side * np.linspace(12, 25, 5) + rng.normal(0, 1.5, 5)
        y = plan.spine_y_at(heights.astype(np.float32)) - np.linspace(20, 34, 5)
        box, distance = tube(canvas, np.stack([x, y, heights], axis=1), list(rng.uniform(2.5, 5.5, 5)), 1.0)
        canvas.put(box, distance < 0, Tissue.DIAPHRAGM)


def draw_portal_trunk(canvas: Canvas, plan: BodyPlan, hilum: Vector, opened: Hilum | None = None) -> None:
    """Portal trunk from the confluence behind the pancreas to the hilum, the splenic and mesenteric vein.

    Where the hilum was opened, the main branches too, outside of the liver.
    """
    rng = canvas.rng
    confluence = np.array([plan.spine_x + rng.uniform(-8, 8), plan.spine_y - 52, hilum[2] - rng.uniform(34, 60)])
    radius = rng.uniform(5, 8)
    trunk = [confluence, 0.5 * (confluence + hilum) + rng.normal(0, 3, 3), hilum]
    splenic = [confluence, confluence + xyz(35, 12, 14), confluence + xyz(78, 34, 34)]
    mesenteric = [confluence, confluence + xyz(4, -8, -50), confluence + xyz(8, -14, -120)]
    for knots, width in ((trunk, radius), (splenic, 0.65 * radius), (mesenteric, 0.7 * radius)):
        box, distance = tube(canvas, knots, [width] * 3, 0.5)
        canvas.put(box, distance < 0, Tissue.PORTAL_TRUNK)
    if opened is not None:
        for branch in (opened.right, opened.left):
            box, distance = tube(canvas, branch, [opened.radius] * len(branch), 0.0)
            canvas.put(box, distance < 0, Tissue.PORTAL_TRUNK)
    artery = [confluence + xyz(6, 16, 6), 0.5 * (confluence + hilum) + xyz(7, -7, 4), hilum + xyz(4, -4, -2)]
    box, distance = tube(canvas, artery, [2.5, 2.5, 2], 0.3)
    canvas.put(box, distance < 0, Tissue.SMALL_VESSEL)


def draw_liver_vessels(
    canvas: Canvas, plan: BodyPlan, hilum: Vector, enclosed: VenaCava | None = None, opened: Hilum | None = None
) -> None:
    """Portal tree from the hilum, three hepatic veins to the IVC under the dome; both belong to the liver.

    They begin at the main branches, and end at the vein's bed, where these were carved.
    """
    rng = canvas.rng
    targets = _inner_points(canvas, plan, 26)
    if len(targets) == 0:
        return
    ends = [hilum] if opened is None else [opened.right[-1], opened.left[-2], opened.left[-1]]
    _draw_tree(canvas, ends, targets[:14], rng.uniform(4.5, 6.5), Tissue.PORTAL_BRANCH)
    exit_point = np.array([plan.spine_x - 16, plan.spine_y - 46, plan.dome - rng.uniform(22, 34)])
    if enclosed is not None:
        exit_point[:2] = enclosed.at(float(exit_point[2]))
    _draw_tree(canvas, [exit_point], targets[14:], rng.uniform(3.8, 6.0), Tissue.HEPATIC_VEIN)


def _inner_points(canvas: Canvas, plan: BodyPlan, count: int) -> Vector:
    points = canvas.rng.uniform(plan.liver_low, plan.liver_high, (count * 25, 3))
    return np.asarray(points[canvas.liver_at(points) < -11][:count])


def _draw_tree(canvas: Canvas, roots: list[Vector], targets: Vector, radius: float, tissue: Tissue) -> None:
    """Grow branches from the nearest part of the tree to each target, nearest targets first, ever thinner."""
    rng = canvas.rng
    nodes, widths = list(roots), [radius] * len(roots)
    order = np.argsort(np.linalg.norm(targets - roots[0], axis=1))
    for target in targets[order]:
        distances = np.linalg.norm(np.array(nodes) - target, axis=1) + 8.0 / np.array(widths)
        parent = int(np.argmin(distances))
        start, width = nodes[parent], widths[parent]
        end_width = max(1.1, 0.55 * width)
        bend = 0.5 * (start + target) + rng.normal(0, 5, 3)
        box, distance = tube(canvas, [start, bend, target], [width, 0.75 * width, end_width], 0.3, 2.5)
        canvas.put(box, distance < 0, tissue, _LIVER)
        nodes += [bend, target]
        widths += [0.75 * width, end_width]
