"""What a body is going to look like, decided from its liver before anything is drawn: landmarks and habitus."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid, axis_aligned_grid
from dissm_phantom.canvas import Field
from dissm_phantom.variety import Trait, trait_generator

_CUT_ABOVE, _CUT_BELOW = (0.08, 0.35), (0.1, 0.45)
"""Shares of the liver's height that lie beyond the end of a scan that begins or ends within it. Together at most 80 %,
so that there is always something to be found."""
_LOWERED_MM = (35.0, 80.0)
_MAX_RIGHT_LOBE_MM = 130.0
"""From the right side of a placed liver to the medial face of its right lobe beside the spine."""


@dataclass(frozen=True)
class BodyPlan:
    """Landmarks (LPS mm) and habitus of one body.

    Attributes:
        spine_x, spine_y: Centre of the vertebral bodies at the level of the liver's middle.
        spine_tilt: dy/dz of the vertebral bodies' centre there.
        liver_low, liver_high: Bounding box of the liver.
        tip, dome: Lowest and highest z of the liver as it was before its shape was changed: other organs keep to them.
        half_width, front, back: The trunk cavity's half axis along x, and its limits along y.
        subcutaneous_mm, visceral: Fat under the skin (mm), and inside the cavity (0: lean, 1: obese).
        top, bottom: Limits of the scan along z.
        truncated: `dome`, `tip` or `dome and tip`, where the scan ends within the liver; `none` where it does not.
        arms: Whether the arms lie beside the trunk.
        seed: Of the body.
        traits: What it has beyond the ordinary.
        lowered_mm: How far the liver lies lower than usual against the ribs.
    """

    spine_x: float
    spine_y: float
    spine_tilt: float
    liver_low: tuple[float, float, float]
    liver_high: tuple[float, float, float]
    tip: float
    dome: float
    half_width: float
    front: float
    back: float
    subcutaneous_mm: float
    visceral: float
    top: float
    bottom: float
    truncated: str
    arms: bool
    seed: int = 0
    traits: frozenset[Trait] = frozenset()
    lowered_mm: float = 0.0

    def trait_generator(self, trait: Trait) -> np.random.Generator:
        """The generator of everything that a trait of this body draws; drawing from it changes nothing else."""
        return trait_generator(self.seed, trait)

    @property
    def ribs_dome(self) -> float:
        """Where the ribs expect the dome, mm: above it where the liver, and the diaphragm with it, lies low."""
        return self.dome + self.lowered_mm

    @property
    def middle(self) -> float:
        """z of the usual level of the porta hepatis: 58 % of the way up the liver."""
        return self.tip + 0.58 * (self.dome - self.tip)

    def spine_y_at(self, z: Field) -> Field:
        """y of the vertebral bodies' centre at heights z: a thoracic kyphosis over a lumbar lordosis."""
        up = np.clip(z - np.float32(self.middle), -130, 220)
        return np.asarray(self.spine_y + self.spine_tilt * up - 0.0004 * up * up * np.sign(-up), dtype=np.float32)


def draw_plan(mesh: TriangleMesh, rng: np.random.Generator, first_editions: bool = False) -> BodyPlan:
    """Random landmarks and habitus around a placed liver.

    first_editions: whether a left lobe that reaches far back may be taken for the right one's medial face, so that the
        spine lies on the left (10 of the 77 AMOS livers): as it was before bodies had traits.
    """
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    spine_y = high[1] - rng.uniform(14, 32)
    spine_x = _spine_x(mesh, spine_y, np.inf if first_editions else float(low[0]) + _MAX_RIGHT_LOBE_MM, rng)
    subcutaneous = float(np.clip(np.exp(rng.normal(np.log(15), 0.55)), 4, 52))
    visceral = float(np.clip(0.012 * subcutaneous + rng.uniform(-0.15, 0.5), 0, 1))
    half_width = max(118.0, float(spine_x - low[0]) - rng.uniform(2, 10)) + 4 * visceral
    truncated = str(rng.choice(["none", "tip", "dome"], p=[0.85, 0.09, 0.06]))
    top, bottom = _extent(low[2], high[2], truncated, rng)
    return BodyPlan(
        spine_x=spine_x,
        spine_y=float(spine_y),
        spine_tilt=float(rng.uniform(0.02, 0.13)),
        liver_low=(float(low[0]), float(low[1]), float(low[2])),
        liver_high=(float(high[0]), float(high[1]), float(high[2])),
        tip=float(low[2]),
        dome=float(high[2]),
        half_width=half_width,
        front=float(low[1] + rng.uniform(0, 12) - 26 * visceral * rng.uniform(0.2, 1)),
        back=float(max(spine_y + rng.uniform(44, 56), high[1] - rng.uniform(-3, 8))),
        subcutaneous_mm=subcutaneous,
        visceral=visceral,
        top=top,
        bottom=bottom,
        truncated=truncated,
        arms=bool(rng.random() < 0.12),
    )


def around_shaped(plan: BodyPlan, mesh: TriangleMesh) -> BodyPlan:
    """The same body around a liver whose shape was changed: it keeps its spine and organs, and makes room."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    wider = max(0.0, plan.liver_low[0] - float(low[0]))
    return replace(
        plan,
        liver_low=(float(low[0]), float(low[1]), float(low[2])),
        liver_high=(float(high[0]), float(high[1]), float(high[2])),
        half_width=max(plan.half_width + wider, float(high[0]) - plan.spine_x - 10),
        front=plan.front + min(0.0, float(low[1]) - plan.liver_low[1]),
        back=plan.back + max(0.0, float(high[1]) - plan.liver_high[1]),
        top=plan.top + max(0.0, float(high[2]) - plan.liver_high[2]),
        bottom=plan.bottom + min(0.0, float(low[2]) - plan.liver_low[2]),
    )


def with_traits(plan: BodyPlan, seed: int, traits: frozenset[Trait]) -> BodyPlan:
    """The plan with its traits: those that decide about the scan's ends, the liver's height and the arms are applied.

    Without traits nothing but the seed changes.
    """
    plan = replace(plan, seed=seed, traits=traits)
    low, high = plan.liver_low[2], plan.liver_high[2]
    if Trait.CUT_ABOVE in traits:
        share = plan.trait_generator(Trait.CUT_ABOVE).uniform(*_CUT_ABOVE)
        plan = replace(plan, top=float(high - share * (high - low)))
    if Trait.CUT_BELOW in traits:
        share = plan.trait_generator(Trait.CUT_BELOW).uniform(*_CUT_BELOW)
        plan = replace(plan, bottom=float(low + share * (high - low)))
    if Trait.LOW_LIVER in traits:
        plan = replace(plan, lowered_mm=float(plan.trait_generator(Trait.LOW_LIVER).uniform(*_LOWERED_MM)))
    ends = [name for name, cut in (("dome", plan.top < high), ("tip", plan.bottom > low)) if cut]
    return replace(plan, truncated=" and ".join(ends) or "none", arms=plan.arms or Trait.ARMS_DOWN in traits)


def _spine_x(mesh: TriangleMesh, spine_y: float, max_medial: float, rng: np.random.Generator) -> float:
    """Beside the medial face of the right lobe at the depth of the vertebral bodies, 3 to 14 mm away from it."""
    slab = mesh.vertices[np.abs(mesh.vertices[:, 1] - spine_y) < 22]
    nearest = np.percentile(slab[:, 0], 99) if len(slab) else mesh.vertices[:, 0].mean()
    return float(min(nearest, max_medial) + 22 + rng.uniform(1, 12))


def _extent(tip: float, dome: float, truncated: str, rng: np.random.Generator) -> tuple[float, float]:
    """Top and bottom of the scan: thorax or pelvis included at random, or cut through the liver."""
    height = dome - tip
    above = rng.choice([rng.uniform(4, 30), rng.uniform(25, 70), rng.uniform(70, 200)], p=[0.5, 0.32, 0.18])
    below = rng.choice([rng.uniform(4, 40), rng.uniform(40, 120), rng.uniform(120, 260)], p=[0.35, 0.4, 0.25])
    if truncated == "tip":
        below = -rng.uniform(0.06, 0.3) * height
    if truncated == "dome":
        above = -rng.uniform(0.05, 0.2) * height
    return float(dome + above), float(tip - below)


def body_grid(plan: BodyPlan, step_mm: float) -> Grid:
    """The isotropic grid that holds the whole cross-section of the body (arms and couch too) between top and bottom."""
    side = plan.half_width + plan.subcutaneous_mm * 1.3 + 48 + (80 if plan.arms else 0)
    low = [plan.spine_x - side, plan.front - plan.subcutaneous_mm * 1.6 - 34, plan.bottom]
    high = [plan.spine_x + side, plan.back + plan.subcutaneous_mm * 1.6 + 75, plan.top]
    return axis_aligned_grid(low, high, step_mm)
