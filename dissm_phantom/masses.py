"""Masses beside the liver: of the adrenal, kidney, retroperitoneum, stomach or pancreas, solid, cystic or necrotic.

A mass is drawn before the organs around it, which then make room. The liver stays what it is: the mass lies on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Box, Canvas, Mask, Vector, cloud_of_ellipsoid, ellipsoid, rotation_about, xyz
from dissm_phantom.filling import beside_liver, filled_to_volume, touching_share
from dissm_phantom.tissue import Tissue, is_liver
from dissm_phantom.trunk import Trunk
from dissm_phantom.variety import Trait

_VOLUME_ML = (20.0, 1500.0)
_CONTACT = (0.04, 0.36)
"""Share of the mass's surface that lies on the liver."""
_SITES = ("adrenal", "renal", "retroperitoneal", "gastric", "pancreatic")
_KINDS = ("solid", "cystic", "necrotic")
_KIND_SHARES = (0.4, 0.2, 0.4)


@dataclass(frozen=True)
class Mass:
    """What was drawn beside the liver.

    Attributes:
        site: Where it comes from, one of adrenal, renal, retroperitoneal, gastric, pancreatic.
        kind: Solid, cystic or necrotic.
        center: float64 [3], LPS mm.
        radius: Of the ball of its volume, mm.
        contact: Share of its surface that lies on the liver.
    """

    site: str
    kind: str
    center: Vector
    radius: float
    contact: float

    def made_room(self, center: Vector, radius: float, towards: Vector) -> Vector:
        """The centre of an organ, moved along a direction until the mass is beside it.

        Args:
            center: float64 [3], of the organ, LPS mm.
            radius: How far the organ reaches towards the mass, mm.
            towards: float64 [3], where it may give way to.
        """
        along = towards / np.linalg.norm(towards)
        offset = center - self.center
        within = float((self.radius + radius) ** 2 - offset @ offset)
        if within <= 0:
            return center
        forward = float(along @ offset)
        return center + along * min(-forward + float(np.sqrt(forward**2 + within)), 1.2 * self.radius)


def make_room(mass: Mass | None, center: Vector, radius: float, towards: Vector) -> Vector:
    """As `Mass.made_room`; without a mass the centre stays what it is."""
    return center if mass is None else mass.made_room(center, radius, towards)


def draw_mass(canvas: Canvas, plan: BodyPlan, trunk: Trunk, hilum: Vector) -> Mass | None:
    """A mass of 20 to 1500 ml that lies on the liver, where the body has this trait.

    Args:
        canvas: Where it is drawn.
        plan: Of the body.
        trunk: Its walls.
        hilum: Of the liver, LPS mm.
    """
    if Trait.MASS_BESIDE_LIVER not in plan.traits:
        return None
    rng = plan.trait_generator(Trait.MASS_BESIDE_LIVER)
    site, kind = str(rng.choice(_SITES)), str(rng.choice(_KINDS, p=_KIND_SHARES))
    volume_ml = float(np.exp(rng.uniform(*np.log(_VOLUME_ML))))
    radius = _ball_radius(volume_ml * 1000)
    radii = radius * np.clip(rng.normal(1.0, 0.13, 3), 0.75, 1.35)
    turn = rotation_about(rng.standard_normal(3), float(rng.uniform(0, 180)))
    lobes_mm = float(rng.uniform(0.02, 0.2)) * radius
    nominal = _nominal(site, plan, hilum, rng)
    overlap = float(rng.uniform(0.03, 0.18))
    grown = []
    reach, cloud = 14 + 0.75 * radius, cloud_of_ellipsoid(list(radii), turn)
    for wanted, farther in ((overlap, 1.0), (0.5 * overlap, 1.0), (1.6 * overlap, 1.0), (overlap, 2.5), (0.3, 2.5)):
        center = beside_liver(canvas, trunk.cavity_mm, nominal, cloud, wanted, farther * reach)
        grown.append(_grown(canvas, trunk, _Outline(center, radii, turn, lobes_mm), volume_ml, rng))
        if grown[-1].excess == 0:
            break
    best = min(grown, key=lambda one: one.excess)
    if not best.shape.any():
        return None
    _paint(canvas, best.box, best.shape, kind, rng)
    where = np.argwhere(best.shape).mean(axis=0) + [part.start for part in best.box]
    found = _ball_radius(float(best.shape.sum()) * canvas.step**3)
    return Mass(site, kind, canvas.grid.to_lps(where[::-1]), found, best.contact)


def _ball_radius(volume_mm3: float) -> float:
    return float((volume_mm3 * 0.75 / np.pi) ** (1 / 3))


@dataclass(frozen=True)
class _Outline:
    center: Vector
    radii: Vector
    turn: Vector
    lobes_mm: float


@dataclass(frozen=True)
class _Grown:
    """A mass in one place, and the share of its surface on the liver."""

    box: Box
    shape: Mask
    contact: float

    @property
    def excess(self) -> float:
        """How far the contact is from what it may be; 1 where there is no mass."""
        if not self.shape.any():
            return 1.0
        return max(_CONTACT[0] - self.contact, self.contact - _CONTACT[1], 0.0)


def _nominal(site: str, plan: BodyPlan, hilum: Vector, rng: np.random.Generator) -> Vector:
    height = plan.dome - plan.tip
    places = {
        "adrenal": xyz(plan.spine_x - 44, plan.spine_y - 16, plan.middle - 4),
        "renal": xyz(plan.spine_x - 66, plan.spine_y - 12, plan.tip + 0.28 * height),
        "retroperitoneal": xyz(plan.spine_x - 18, plan.spine_y - 50, plan.middle - 42),
        "gastric": xyz(plan.spine_x + 50, plan.front + 58, plan.middle - 8),
        "pancreatic": xyz(plan.spine_x + 8, plan.spine_y - 66, hilum[2] - 44),
    }
    return np.asarray(places[site] + rng.normal(0, 7, 3))


def _grown(canvas: Canvas, trunk: Trunk, outline: _Outline, volume_ml: float, rng: np.random.Generator) -> _Grown:
    """Fill the room about the outline with the volume: what the liver or a wall takes away is added elsewhere."""
    box, distance = ellipsoid(canvas, outline.center, list(1.3 * outline.radii), outline.turn, 0.0)
    coarse = min(float(outline.radii.min()) / 22, 1.0)
    distance += np.float32(coarse * outline.lobes_mm) * canvas.noise(box, coarse=True, rng=rng)
    distance += np.float32(0.35 * outline.lobes_mm) * canvas.noise(box, rng=rng)
    room = (canvas.labels[box] == Tissue.FAT) & (trunk.cavity_mm[box] < -0.5) & (canvas.liver_mm[box] > 0)
    shape = filled_to_volume(distance, room, int(volume_ml * 1000 / canvas.step**3))
    return _Grown(box, shape, touching_share(shape, is_liver(canvas.labels[box])))


def _paint(canvas: Canvas, box: Box, shape: Mask, kind: str, rng: np.random.Generator) -> None:
    """Solid tissue; or a wall round fluid; or a thick, uneven rim round a core that died."""
    canvas.put(box, shape, Tissue.MASS)
    depth = ndimage.distance_transform_edt(np.pad(shape, 1)).astype(np.float32)[1:-1, 1:-1, 1:-1] * canvas.step
    uneven = canvas.noise(box, rng=rng)
    if kind == "cystic":
        wall_mm = rng.uniform(2.0, 4.5)
        septa = np.abs(canvas.noise(box, coarse=True, rng=rng)) < (0.1 if rng.random() < 0.4 else 0.0)
        canvas.put(box, shape, Tissue.MASS_WALL, (Tissue.MASS,))
        canvas.put(box, (depth > wall_mm + 0.4 * uneven) & ~septa, Tissue.MASS_CORE, (Tissue.MASS_WALL,))
    elif kind == "necrotic":
        deepest = float(depth.max())
        rim_mm = deepest * rng.uniform(0.25, 0.55)
        canvas.put(box, shape & (depth < 0.6 * rim_mm), Tissue.MASS_WALL, (Tissue.MASS,))
        canvas.put(box, depth > rim_mm + 0.14 * deepest * uneven, Tissue.MASS_CORE, (Tissue.MASS, Tissue.MASS_WALL))
    if rng.random() < 0.15:
        canvas.put(box, shape & (uneven > 2.1), Tissue.CARTILAGE, (Tissue.MASS, Tissue.MASS_WALL))
