"""Lesions that single patients have: many metastases, cysts, calcium, lipiodol, haemangioma, abscess, ablation.

Unlike `with_lesions` every lesion has HU of its own, which stand in place of its tissue's. All belong to the liver's
truth, also where they reach its surface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from dissm_phantom.appearance import Appearance, Phase
from dissm_phantom.canvas import Box, Field, Mask, noise_tile, tile_crop
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.tissue import Labels, Tissue, is_liver
from dissm_phantom.variety import Trait

_ORDINARY_LIVER_ML = 1500.0
_MIN_VOXELS = 50
_CANDIDATES = 64
_MAX_CYSTS = 400
_TILE, _TILE_MM = 48, 5.0


@dataclass(frozen=True)
class LesionCanvas:
    """A liver in which lesions are drawn.

    Attributes:
        labels: uint8 [K, J, I] of `Tissue`; lesions change those of the liver only.
        hu: float32 [K, J, I], HU that stand in place of the tissue's own, NaN where the tissue decides.
        liver_mm: Signed distance of the liver on the same voxels, mm.
        spacing_mm: Of the isotropic voxels.
        look: How the tissues look.
        inside: Flat indices of the liver's voxels, from below upwards.
        warp: Periodic noise of unit variance, about 5 mm long.
    """

    labels: Labels
    hu: Field
    liver_mm: Field
    spacing_mm: float
    look: Appearance
    inside: npt.NDArray[np.int64]
    warp: Field

    @property
    def liver_hu(self) -> float:
        """Of the parenchyma."""
        return float(self.look.hu[Tissue.LIVER])

    @property
    def vessel_hu(self) -> float:
        """Of the brightest blood."""
        return float(max(self.look.hu[Tissue.AORTA], self.look.hu[Tissue.PORTAL_BRANCH]))

    @property
    def volume_ml(self) -> float:
        """Of the liver within the voxels."""
        return float(len(self.inside) * self.spacing_mm**3 / 1000)

    def any_place(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """A random voxel of the liver."""
        return self._voxel(int(rng.integers(len(self.inside))))

    def place_at_depth(self, depth_mm: float, rng: np.random.Generator) -> tuple[int, int, int]:
        """A voxel of the liver about so deep under its surface; the nearest of some random ones."""
        some = rng.integers(len(self.inside), size=_CANDIDATES)
        away = np.abs(self.liver_mm.ravel()[self.inside[some]] + depth_mm)
        return self._voxel(int(some[np.argmin(away)]))

    def place_at_dome(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """A voxel among the liver's highest tenth."""
        return self._voxel(int(rng.integers(int(0.9 * len(self.inside)), len(self.inside))))

    def lump(
        self, center: tuple[int, int, int], radius_mm: float, rng: np.random.Generator, rough: float = 0.1
    ) -> tuple[Box, Field, Mask]:
        """A warped ellipsoid: its box, the relative radius there (1 at its edge), and where in the box is liver."""
        radius = radius_mm / self.spacing_mm
        reach = int(np.ceil(radius * 1.5))
        low = [max(c - reach, 0) for c in center]
        high = [min(c + reach + 1, n) for c, n in zip(center, self.labels.shape, strict=True)]
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        stretch = rng.uniform(0.8, 1.2, 3)
        squared = sum(
            ((axis - c) / (radius * s)) ** 2 for axis, c, s in zip(np.ogrid[box], center, stretch, strict=True)
        )
        rho = np.sqrt(np.asarray(squared, dtype=np.float32))
        return box, rho + np.float32(rough) * self.noise(rho.shape, rng), self.liver_in(box)

    def liver_in(self, box: Box) -> Mask:
        """Where a box is liver, in truth and by its labels."""
        return is_liver(self.labels[box]) & (self.liver_mm[box] < 0)

    def noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Field:
        """Noise of unit variance, about 5 mm long."""
        return tile_crop(self.warp, shape, rng)

    def paint(self, box: Box, where: Mask, tissue: Tissue, hu: float | Field) -> None:
        """Label the voxels `where` of a box and give them HU of their own."""
        self.labels[box][where] = tissue
        self.hu[box][where] = hu if isinstance(hu, float) else hu[where]

    def _voxel(self, number: int) -> tuple[int, int, int]:
        k, j, i = np.unravel_index(int(self.inside[number]), self.labels.shape)
        return int(k), int(j), int(i)


def with_focal_lesions(
    labels: Labels, liver_mm: Field, spacing_mm: float, look: Appearance, drawn: ScanTraits
) -> tuple[Labels, Field]:
    """The lesions of a use's traits, in the order of `Trait`.

    Args:
        labels: uint8 [K, J, I] of `Tissue`; left as they are.
        liver_mm: Signed distance of the liver on the same voxels, mm.
        spacing_mm: Of the isotropic voxels.
        look: How the tissues look.
        drawn: The traits, and the seed of what they draw.

    Returns:
        Labels with the lesions, and float32 HU [K, J, I] that stand in place of the tissues' own, NaN elsewhere.
    """
    hu = np.full(labels.shape, np.nan, dtype=np.float32)
    wanted = [trait for trait in _DRAWERS if trait in drawn]
    inside = np.flatnonzero((liver_mm < 0).ravel()) if wanted else np.empty(0, dtype=np.int64)
    if len(inside) < _MIN_VOXELS:
        return labels, hu
    changed = labels.copy()
    for trait in wanted:
        rng = drawn.generator(trait)
        warp = noise_tile(rng, _TILE_MM / spacing_mm, _TILE)
        _DRAWERS[trait](LesionCanvas(changed, hu, liver_mm, spacing_mm, look, inside, warp), rng)
    return changed, hu


def draw_metastases(canvas: LesionCanvas, rng: np.random.Generator) -> None:
    """5 to 40 in an ordinary liver, 5-40 mm wide, dark, most often with a rim; large ones have a darker core."""
    wanted = float(np.exp(rng.uniform(np.log(5), np.log(40)))) * canvas.volume_ml / _ORDINARY_LIVER_ML
    darker, rimmed = rng.uniform(15, 60), rng.random() < 0.65
    rim_hu = canvas.liver_hu + float(rng.uniform(-8, 25)) + (20.0 if canvas.look.phase is Phase.ARTERIAL else 0.0)
    least = float(rng.uniform(15, 45))
    for _ in range(max(1, int(rng.poisson(wanted)))):
        radius = float(np.clip(np.exp(rng.normal(np.log(7), 0.5)), 2.5, 20))
        box, rho, liver = canvas.lump(canvas.any_place(rng), radius, rng, 0.08)
        core = max(least, canvas.liver_hu - darker + float(rng.normal(0, 6)))
        rim = float(rng.uniform(0.65, 0.85)) if rimmed else 1.0
        canvas.paint(box, liver & (rho < 1), Tissue.LESION_RIM, rim_hu)
        canvas.paint(box, liver & (rho < rim), Tissue.LESION_HYPO, core)
        if radius > 10 and rng.random() < 0.5:
            canvas.paint(box, liver & (rho < 0.5), Tissue.LESION_HYPO, max(10.0, core - 20.0))


def draw_cysts(canvas: LesionCanvas, rng: np.random.Generator) -> None:
    """Cysts with thin walls until they fill 15-60 % of the liver; some have bled."""
    share = rng.uniform(0.15, 0.6)
    full = np.zeros(canvas.labels.shape, dtype=np.bool_)
    left = share * len(canvas.inside)
    for _ in range(_MAX_CYSTS):
        if left <= 0:
            return
        radius = float(np.clip(np.exp(rng.normal(np.log(10), 0.6)), 3, 45))
        box, rho, liver = canvas.lump(canvas.any_place(rng), radius, rng, 0.04)
        free = liver & ~full[box]
        cyst = free & (rho < 1)
        bled = radius < 20 and rng.random() < 0.06
        canvas.paint(box, cyst, Tissue.CYST, float(rng.uniform(35, 75) if bled else rng.uniform(-3, 16)))
        wall = np.float32(1 + 0.7 * canvas.spacing_mm / radius)
        full[box] |= rho < wall
        left -= int(cyst.sum())


def draw_calcified(canvas: LesionCanvas, rng: np.random.Generator) -> None:
    """One to three, often at the dome: a shell round fluid, clumps in a dark lesion, or dense as a whole."""
    for _ in range(int(rng.integers(1, 4))):
        place = canvas.place_at_dome(rng) if rng.random() < 0.4 else canvas.any_place(rng)
        radius = float(np.clip(np.exp(rng.normal(np.log(11), 0.5)), 3, 32))
        box, rho, liver = canvas.lump(place, radius, rng, 0.08)
        dense = float(rng.uniform(250, 1000))
        kind = rng.choice(["shell", "clumps", "whole"], p=[0.35, 0.45, 0.2])
        if kind == "shell":
            inner = max(0.3, 1 - rng.uniform(2.0, 4.0) / radius)
            canvas.paint(box, liver & (rho < inner), Tissue.CYST, float(rng.uniform(0, 35)))
            gap = canvas.noise(rho.shape, rng) > rng.uniform(-2.0, 0.0)
            canvas.paint(box, liver & (rho >= inner) & (rho < 1) & gap, Tissue.LIPIODOL, dense)
        elif kind == "clumps":
            canvas.paint(box, liver & (rho < 1), Tissue.LESION_HYPO, max(15.0, canvas.liver_hu - 40))
            part, grain = liver & (rho < 0.9), canvas.noise(rho.shape, rng)
            clump = grain >= np.quantile(grain[part], rng.uniform(0.6, 0.92)) if part.any() else part
            canvas.paint(box, part & clump, Tissue.LIPIODOL, dense)
        else:
            canvas.paint(box, liver & (rho < min(1.0, 12 / radius)), Tissue.LIPIODOL, dense)


def draw_lipiodol(canvas: LesionCanvas, rng: np.random.Generator) -> None:
    """One to four tumours after embolisation: dense speckle of 300-1500 HU, part of it washed out."""
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.45, 0.3, 0.15, 0.1]))):
        radius = float(np.clip(np.exp(rng.normal(np.log(16), 0.5)), 6, 45))
        depth = rng.uniform(0.2, 1.2) * radius
        box, rho, liver = canvas.lump(canvas.place_at_depth(depth, rng), radius, rng, 0.12)
        canvas.paint(box, liver & (rho < 1), Tissue.LESION_HYPO, max(15.0, canvas.liver_hu - float(rng.uniform(5, 50))))
        grain = np.float32(0.8) * canvas.noise(rho.shape, rng)
        grain += np.float32(0.6) * rng.standard_normal(rho.shape, dtype=np.float32)
        kept = liver & (rho < rng.uniform(0.8, 1.0)) & (grain > rng.uniform(-1.8, 0.6))
        mean = float(np.exp(rng.uniform(np.log(300), np.log(1200))))
        canvas.paint(box, kept, Tissue.LIPIODOL, np.clip(mean * (1 + np.float32(0.35) * grain), 180, 1500))


def draw_haemangioma(canvas: LesionCanvas, rng: np.random.Generator) -> None:
    """Large, at the edge of the liver: dark inside, peripheral nodules as bright as vessels, filling in by degrees."""
    radius = float(rng.uniform(12, 55))
    place = canvas.place_at_depth(rng.uniform(0.1, 0.8) * radius, rng)
    box, rho, liver = canvas.lump(place, radius, rng, 0.1)
    canvas.paint(box, liver & (rho < 1), Tissue.LESION_HYPO, max(30.0, canvas.liver_hu - float(rng.uniform(25, 55))))
    if canvas.look.phase is Phase.PLAIN:
        return
    bright = max(canvas.vessel_hu * rng.uniform(0.75, 1.0), canvas.liver_hu + 25)
    filled = rng.uniform(0.1, 0.55)
    nodules = (rho > 1 - filled) & (canvas.noise(rho.shape, rng) + np.float32(2) * (rho - 1) > rng.uniform(-1.0, 0.2))
    canvas.paint(box, liver & (rho < 1) & nodules, Tissue.LESION_HYPER, float(bright))


def draw_abscess(canvas: LesionCanvas, rng: np.random.Generator) -> None:
    """Fluid with septa in an enhancing wall and swollen liver; some hold gas, which rises to the front."""
    radius = float(rng.uniform(14, 48))
    box, rho, liver = canvas.lump(canvas.place_at_depth(rng.uniform(0.5, 1.3) * radius, rng), radius, rng, 0.14)
    wall = max(0.5, 1 - rng.uniform(3, 7) / radius)
    swollen = canvas.liver_hu - float(rng.uniform(5, 20))
    canvas.paint(box, liver & (rho < 1.15), Tissue.LESION_HYPO, swollen)
    enhancing = 0.0 if canvas.look.phase is Phase.PLAIN else float(rng.uniform(5, 35))
    canvas.paint(box, liver & (rho < 1), Tissue.LESION_RIM, canvas.liver_hu + enhancing)
    septa = np.abs(canvas.noise(rho.shape, rng)) < rng.uniform(0.0, 0.25)
    fluid = liver & (rho < wall) & ~septa
    canvas.paint(box, fluid, Tissue.CYST, float(rng.uniform(5, 35)))
    if rng.random() < 0.4 and fluid.any():
        front = np.nonzero(fluid)[1]
        if rng.random() < 0.4:
            level = np.quantile(front, rng.uniform(0.05, 0.3))
            gas = fluid & (np.arange(fluid.shape[1])[None, :, None] <= level)
        else:
            gas = fluid & (canvas.noise(rho.shape, rng) > rng.uniform(1.2, 1.9))
        canvas.paint(box, gas, Tissue.CYST, float(rng.uniform(-950, -350)))


def draw_ablation(canvas: LesionCanvas, rng: np.random.Generator) -> None:
    """A sharply bounded dark zone at the surface: an ellipsoid along the needle, or a wedge that opens outwards."""
    radius = float(rng.uniform(12, 34))
    hu = max(15.0, canvas.liver_hu - float(rng.uniform(30, 75)))
    if rng.random() < 0.35:
        _draw_wedge(canvas, 2.2 * radius, hu, rng)
        return
    box, rho, liver = canvas.lump(canvas.place_at_depth(rng.uniform(0.2, 0.9) * radius, rng), radius, rng, 0.05)
    canvas.paint(box, liver & (rho < 1), Tissue.LESION_HYPO, hu)
    if rng.random() < 0.4:
        # Coagulated blood along the needle is denser than the rest.
        canvas.paint(box, liver & (rho < rng.uniform(0.2, 0.5)), Tissue.LESION_HYPER, float(rng.uniform(60, 95)))


def _draw_wedge(canvas: LesionCanvas, length_mm: float, hu: float, rng: np.random.Generator) -> None:
    """A cone whose tip lies `length_mm` under the surface and whose base is on it, as an infarct."""
    tip = canvas.place_at_depth(0.8 * length_mm, rng)
    reach = int(np.ceil(1.2 * length_mm / canvas.spacing_mm))
    low = [max(c - reach, 0) for c in tip]
    high = [min(c + reach + 1, n) for c, n in zip(tip, canvas.labels.shape, strict=True)]
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    dk, dj, di = (np.asarray(axis - c, dtype=np.float32) for axis, c in zip(np.ogrid[box], tip, strict=True))
    distance = np.sqrt(dk**2 + dj**2 + di**2) + np.float32(1e-3)
    liver = canvas.liver_in(box)
    outermost = np.argmax(np.where(liver & (distance < reach), canvas.liver_mm[box], -np.inf))
    where = np.unravel_index(int(outermost), distance.shape)
    out = np.array([where[a] + low[a] - tip[a] for a in range(3)], dtype=np.float32)
    out /= max(float(np.linalg.norm(out)), 1e-3)
    cosine = (out[0] * dk + out[1] * dj + out[2] * di) / distance
    opening = np.cos(np.deg2rad(rng.uniform(14, 32))) + np.float32(0.03) * canvas.noise(distance.shape, rng)
    canvas.paint(box, liver & (cosine > opening) & (distance < reach), Tissue.LESION_HYPO, hu)


_DRAWERS: Mapping[Trait, Callable[[LesionCanvas, np.random.Generator], None]] = MappingProxyType(
    {
        Trait.METASTASES: draw_metastases,
        Trait.POLYCYSTIC_LIVER: draw_cysts,
        Trait.CALCIFIED_LESION: draw_calcified,
        Trait.LIPIODOL: draw_lipiodol,
        Trait.HAEMANGIOMA: draw_haemangioma,
        Trait.ABSCESS: draw_abscess,
        Trait.ABLATION_ZONE: draw_ablation,
    }
)
