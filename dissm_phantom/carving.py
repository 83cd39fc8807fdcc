"""What is taken out of the given liver before a body is drawn round it: the vena cava's bed, the hilum, fissures.

By the convention of the field the vena cava, and the portal vein with its main branches up to the hilum, are not liver.
Where a body has them in the liver's groove, the truth is cut before anything is drawn: surface and labels agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dissm_engine.mesh import TriangleMesh
from dissm_engine.shape.meshing import mesh_of_field
from dissm_engine.volume import SignedDistance, axis_aligned_grid
from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Canvas, Field
from dissm_phantom.hilum import Hilum, carve_hilum
from dissm_phantom.placement import signed_distance
from dissm_phantom.variety import Trait
from dissm_phantom.vena_cava import VenaCava, carve_vena_cava

_STEP_MM = 2.0
_MARGIN_MM = 10.0
_FLIPPED_MM = 0.5


@dataclass(frozen=True)
class CarvedLiver:
    """A placed liver without what does not belong to it.

    Attributes:
        mesh: The surface, LPS mm, closed.
        cava: The vena cava's course through the liver, if it was carved.
        hilum: The portal bifurcation, if it was carved.
    """

    mesh: TriangleMesh
    cava: VenaCava | None = None
    hilum: Hilum | None = None


def carve_liver(placed: TriangleMesh, plan: BodyPlan) -> CarvedLiver:
    """Carve what the traits of the body ask for; without them the very same mesh is returned.

    Args:
        placed: Closed surface of the liver in the body, LPS mm.
        plan: The body's landmarks and traits.
    """
    if not plan.traits & {Trait.ENCLOSED_VENA_CAVA, Trait.HILAR_FAT}:
        return CarvedLiver(placed)
    low, high = placed.vertices.min(axis=0) - _MARGIN_MM, placed.vertices.max(axis=0) + _MARGIN_MM
    grid = axis_aligned_grid(low, high, _STEP_MM)
    nothing = np.zeros(grid.shape, dtype=np.uint8)
    canvas = Canvas(grid, nothing, signed_distance(placed, grid), np.random.default_rng(plan.seed))
    cava = hilum = None
    if Trait.ENCLOSED_VENA_CAVA in plan.traits:
        canvas.liver_mm, cava = carve_vena_cava(canvas, plan)
    if Trait.HILAR_FAT in plan.traits:
        canvas.liver_mm, hilum = carve_hilum(canvas, plan)
    mesh = mesh_of_field(SignedDistance(_in_one_piece(canvas.liver_mm), grid))
    return CarvedLiver(mesh, cava, hilum)


def _in_one_piece(liver_mm: Field) -> Field:
    """Without what the cuts left loose, and without holes that no path leads to from outside."""
    result = np.where(np.abs(liver_mm) < 1e-3, np.float32(1e-3), liver_mm)
    parts, count = ndimage.label(result < 0)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])) if count else result < 0
    result[(result < 0) & ~largest] = _FLIPPED_MM
    result[ndimage.binary_fill_holes(largest) & ~largest] = -_FLIPPED_MM
    return np.asarray(result, dtype=np.float32)
