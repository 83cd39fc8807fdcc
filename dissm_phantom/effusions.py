"""Fluid and collapsed lung about the liver: much ascites, a pleural effusion behind the dome, atelectasis upon it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Box, Canvas, Field, Mask
from dissm_phantom.tissue import Tissue
from dissm_phantom.trunk import Trunk
from dissm_phantom.variety import Trait

_LUNG = (Tissue.LUNG, Tissue.LUNG_VESSEL, Tissue.ATELECTASIS)


def draw_much_ascites(canvas: Canvas, plan: BodyPlan, trunk: Trunk) -> None:
    """Fluid all round liver and spleen, in the gutters and between the loops, up to several litres."""
    rng = plan.trait_generator(Trait.MUCH_ASCITES)
    extent = rng.uniform(18, 45)
    box = canvas.box([-1e4, -1e4, plan.bottom], [1e4, plan.spine_y + 38, plan.dome + 12])
    labels = canvas.labels[box]
    wave = 1 + 0.3 * canvas.noise(box, coarse=True, rng=rng)
    beside_liver = canvas.liver_mm[box] < extent * wave
    reach = int(0.6 * extent / canvas.step)
    beside_spleen = ndimage.uniform_filter((labels == Tissue.SPLEEN).astype(np.float32), 2 * reach + 1) > 1e-5
    gutter = trunk.cavity_mm[box] > -extent * wave
    # The mesentery floats in it; the kidneys' fat, behind, stays dry.
    loops = canvas.noise(box, rng=rng) > rng.uniform(-0.6, 0.8)
    _, y, _ = canvas.axes(box)
    dry = y > np.float32(plan.spine_y - rng.uniform(15, 35))
    wet = beside_liver | (beside_spleen | gutter | loops) & ~dry
    fluid = ndimage.binary_opening(wet & (trunk.cavity_mm[box] < 0) & (labels == Tissue.FAT))
    canvas.put(box, fluid, Tissue.ASCITES)


def draw_pleural_effusion(canvas: Canvas, plan: BodyPlan, trunk: Trunk, box: Box) -> None:
    """A crescent of fluid along the back of the chest, behind the dome, with lung collapsed upon it.

    Args:
        canvas: Whose lungs are drawn.
        plan: Of the body.
        trunk: Its walls.
        box: Where the lungs are.
    """
    rng = plan.trait_generator(Trait.PLEURAL_EFFUSION)
    x, y, z = canvas.axes(box)
    side = str(rng.choice(["right", "left", "both"], p=[0.5, 0.15, 0.35]))
    own: Mask = np.ones_like(x, dtype=bool) if side == "both" else (x < plan.spine_x) == (side == "right")
    thick_mm, forward_mm = rng.uniform(22, 70), rng.uniform(55, 115)
    # Thickest at the back and low in the chest, pointed in front and above.
    towards_back = np.clip((y - np.float32(plan.back - forward_mm)) / np.float32(forward_mm), 0, 1) ** 0.7
    upward = np.clip((z - np.float32(plan.dome - 40)) / np.float32(rng.uniform(90, 220)), 0, 1)
    edge = np.float32(thick_mm) * towards_back * (1 - upward) + 1.0 * canvas.noise(box, coarse=True, rng=rng)
    depth = -trunk.cavity_mm[box]
    crescent = own & (depth < edge) & (towards_back > 0)
    collapsed = own & (depth < edge + np.float32(rng.uniform(3, 22)) * towards_back) & ~crescent & (towards_back > 0.25)
    canvas.put(box, crescent, Tissue.EFFUSION, _LUNG)
    canvas.put(box, collapsed, Tissue.COLLAPSED_LUNG, _LUNG)


def draw_dome_atelectasis(canvas: Canvas, plan: BodyPlan, box: Box, floor: Field) -> None:
    """A band of collapsed lung upon the diaphragm, at times a plate above it.

    Args:
        canvas: Whose lungs are drawn.
        plan: Of the body.
        box: Where the lungs are.
        floor: z [J, I] of the diaphragm, mm.
    """
    rng = plan.trait_generator(Trait.ATELECTASIS)
    x, y, z = canvas.axes(box)
    _, rows, columns = box
    above = z - floor[rows, columns][None]
    wave = canvas.noise(box, coarse=True, rng=rng)
    back = np.clip((y - np.float32(plan.front + 40)) / np.float32(plan.back - plan.front - 40), 0, 1)
    thick = np.float32(rng.uniform(5, 24)) * (0.12 + 0.88 * back**1.5) * (1 + 0.45 * wave)
    right_only = rng.random() < 0.6
    own: Mask = (x < plan.spine_x) if right_only else np.ones_like(x, dtype=bool)
    near_liver = canvas.liver_mm[box] < thick
    band = own & ((above < thick) | near_liver) & (wave > rng.uniform(-1.6, -0.2))
    if rng.random() < 0.4:
        height = rng.uniform(15, 35)
        band = band | own & (np.abs(above - height + 3 * wave) < rng.uniform(1.5, 3.5)) & (back > rng.uniform(0.2, 0.6))
    canvas.put(box, band, Tissue.COLLAPSED_LUNG, _LUNG)
