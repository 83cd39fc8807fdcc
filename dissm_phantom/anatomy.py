"""A random body around a liver: the labels of a phantom, and the order in which its organs are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dissm_engine.errors import MESH_NOT_CLOSED, GeometryError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid, SignedDistance
from dissm_phantom.body_plan import BodyPlan, around_shaped, body_grid, draw_plan, with_traits
from dissm_phantom.canvas import Canvas
from dissm_phantom.carving import CarvedLiver, carve_liver
from dissm_phantom.digestive_tract import draw_colon, draw_duodenum, draw_small_bowel, draw_stomach
from dissm_phantom.gallbladder import draw_gallbladder
from dissm_phantom.hilum import porta_hepatis
from dissm_phantom.liver_shapes import liver_of_shape
from dissm_phantom.masses import draw_mass
from dissm_phantom.organs import (
    draw_adrenals,
    draw_ascites,
    draw_kidneys,
    draw_pancreas,
    draw_pelvis,
    draw_spleen,
)
from dissm_phantom.placement import change_of_size, deformed, random_placement, signed_distance
from dissm_phantom.thorax import draw_heart, draw_lungs, draw_mediastinum
from dissm_phantom.tissue import Labels
from dissm_phantom.trunk import draw_trunk
from dissm_phantom.variety import LIVER_SHAPES, SIZES, Trait, Variety, trait_generator
from dissm_phantom.vessels import draw_great_vessels, draw_liver_vessels, draw_portal_trunk

STEP_MM = 2.0
_PLAIN = Variety.plain()
Recipe = Mapping[str, float | int | str | bool]


@dataclass(frozen=True)
class Anatomy:
    """The tissues of one body.

    Attributes:
        labels: uint8 [K, J, I], values of `Tissue`, on `grid` (isotropic, LPS axes).
        liver: Signed distance of the liver's surface on the same grid, mm.
        liver_mesh: The surface in this body, LPS mm: the given mesh, deformed if asked for, given the shape that is
            among the traits, and placed; without the vena cava's bed and the hilum where a trait carves them.
        body_from_liver: float64 [4, 4], the rotation and anisotropic scale that placed the given mesh; where a trait
            made it very large or very small, that change of size is a part of it.
        recipe: What was drawn; its `seed` is that of the body, its `traits` names those, separated by `; `.
        traits: What the body has beyond the ordinary.
    """

    labels: Labels
    liver: SignedDistance
    liver_mesh: TriangleMesh
    body_from_liver: npt.NDArray[np.float64]
    recipe: Recipe
    traits: frozenset[Trait] = frozenset()

    @property
    def grid(self) -> Grid:
        """Where the labels lie."""
        return self.liver.grid


def build_anatomy(
    liver: TriangleMesh,
    seed: int,
    deform: bool = True,
    whole_liver: bool = False,
    variety: Variety = _PLAIN,
) -> Anatomy:
    """A random body around a liver; the same seed gives the same body, bit for bit.

    Args:
        liver: Closed mesh, LPS mm, roughly centred on the origin.
        seed: Of everything that is drawn.
        deform: Whether the liver is bent by a random smooth diffeomorphism.
        whole_liver: Whether the end of the scan never cuts the liver, unless a trait of the body says that it does.
        variety: How often bodies have which trait.

    Raises:
        GeometryError: The mesh is not closed.
    """
    if not liver.closed:
        raise GeometryError(MESH_NOT_CLOSED, edges="some")
    rng = np.random.default_rng(seed)
    traits = variety.draw(seed)
    displacement = float(rng.uniform(3.0, 9.0)) if deform else 0.0
    surface = deformed(liver, rng, displacement) if deform else liver
    body_from_liver = random_placement(rng)
    placed = surface.moved(body_from_liver)
    plan = draw_plan(placed, rng, first_editions=variety == _PLAIN)
    for shape in traits.intersection(LIVER_SHAPES):
        # Shaped after the ordinary liver's body was planned: a body without its right lobe still has its spine.
        shaped = liver_of_shape(surface, shape, trait_generator(seed, shape))
        placed = shaped.moved(body_from_liver)
        plan = around_shaped(plan, placed)
        if shape in SIZES:
            body_from_liver = body_from_liver @ change_of_size(surface, shaped)
    if whole_liver and plan.truncated != "none":
        plan = replace(plan, truncated="none", top=plan.liver_high[2] + 20.0, bottom=plan.liver_low[2] - 20.0)
    plan = with_traits(plan, seed, traits)
    carved = carve_liver(placed, plan)
    grid = body_grid(plan, STEP_MM)
    distance = signed_distance(carved.mesh, grid)
    canvas = Canvas(grid, np.zeros(grid.shape, dtype=np.uint8), distance, rng)
    _draw_body(canvas, plan, carved)
    recipe = _recipe(plan, displacement)
    return Anatomy(canvas.labels, SignedDistance(distance, grid), carved.mesh, body_from_liver, recipe, traits)


def _draw_body(canvas: Canvas, plan: BodyPlan, carved: CarvedLiver) -> None:
    """Draw every organ. What is drawn early is not overwritten by what comes later."""
    trunk = draw_trunk(canvas, plan)
    hilum = porta_hepatis(canvas, plan) if carved.hilum is None else carved.hilum.center
    draw_liver_vessels(canvas, plan, hilum, carved.cava, carved.hilum)
    heart = draw_heart(canvas, plan, trunk)
    draw_great_vessels(canvas, plan, heart, carved.cava)
    draw_mediastinum(canvas, plan, heart)
    draw_portal_trunk(canvas, plan, hilum, carved.hilum)
    draw_lungs(canvas, plan, trunk, heart)
    mass = draw_mass(canvas, plan, trunk, hilum)
    kidney = draw_kidneys(canvas, plan, mass)
    draw_adrenals(canvas, plan)
    draw_gallbladder(canvas, plan, trunk, hilum)
    draw_spleen(canvas, plan, trunk)
    draw_pancreas(canvas, plan, hilum)
    pylorus = draw_stomach(canvas, plan, trunk, hilum, mass)
    draw_duodenum(canvas, plan, trunk, pylorus)
    draw_colon(canvas, plan, trunk, kidney, mass)
    draw_small_bowel(canvas, plan, trunk, hilum)
    draw_ascites(canvas, plan, trunk)
    draw_pelvis(canvas, plan)


def _recipe(plan: BodyPlan, displacement_mm: float) -> Recipe:
    return {
        "seed": plan.seed,
        "traits": "; ".join(sorted(plan.traits)),
        "deformation_mm": round(displacement_mm, 3),
        "truncated": plan.truncated,
        "above_dome_mm": round(plan.top - plan.liver_high[2], 1),
        "below_tip_mm": round(plan.liver_low[2] - plan.bottom, 1),
        "subcutaneous_mm": round(plan.subcutaneous_mm, 1),
        "visceral": round(plan.visceral, 2),
        "trunk_mm": round(2 * (plan.half_width + plan.subcutaneous_mm + 26), 1),
        "arms": plan.arms,
    }
