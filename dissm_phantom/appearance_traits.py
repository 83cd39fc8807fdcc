"""What the traits of a use change in an appearance: fat, iron, timing of contrast, dose, slices, kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dissm_phantom.appearance import Appearance, Phase
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.tissue import Tissue
from dissm_phantom.variety import Trait

_LESIONS = (Tissue.LESION_HYPO, Tissue.LESION_HYPER, Tissue.LESION_RIM)


def appearance_with_traits(appearance: Appearance, drawn: ScanTraits) -> Appearance:
    """The same look as the traits of a use change it; without any of them it is returned as it is."""
    look = appearance
    if look.phase is Phase.VENOUS and Trait.EARLY_PORTAL in drawn:
        look = _early_portal(look, drawn.generator(Trait.EARLY_PORTAL))
    elif look.phase is Phase.VENOUS and Trait.LATE_VENOUS in drawn:
        look = _late_venous(look, drawn.generator(Trait.LATE_VENOUS))
    if Trait.HAEMOCHROMATOSIS in drawn:
        look = _iron(look, drawn.generator(Trait.HAEMOCHROMATOSIS))
    elif Trait.STEATOSIS in drawn:
        look = _fat(look, drawn.generator(Trait.STEATOSIS))
    return _scanned(look, drawn)


def _early_portal(look: Appearance, rng: np.random.Generator) -> Appearance:
    """Arteries and cortex still bright, spleen mottled, hepatic veins not yet filled, liver low."""
    hu, texture = look.hu.copy(), look.texture.copy()
    aorta, portal, liver = rng.uniform(190, 320), rng.uniform(110, 190), rng.uniform(62, 92)
    veins = liver + rng.uniform(-15, 20)
    _set(hu, Tissue.AORTA, aorta)
    _set(hu, Tissue.HEART_BLOOD, aorta * rng.uniform(0.8, 1.0))
    _set(hu, Tissue.PORTAL_TRUNK, portal)
    _set(hu, Tissue.PORTAL_BRANCH, portal * rng.uniform(0.88, 1.0))
    _set(hu, Tissue.HEPATIC_VEIN, veins)
    _set(hu, Tissue.IVC, veins + rng.uniform(-10, 50))
    _set(hu, Tissue.SPLEEN, rng.uniform(105, 165))
    cortex = rng.uniform(150, 250)
    _set(hu, Tissue.KIDNEY_CORTEX, cortex)
    _set(hu, Tissue.KIDNEY_MEDULLA, cortex - rng.uniform(50, 110))
    _set(hu, Tissue.PANCREAS, rng.uniform(90, 130))
    _set(texture, Tissue.SPLEEN, rng.uniform(8, 28))
    _set(texture, Tissue.IVC, rng.uniform(10, 40))
    return replace(look, hu=_with_liver(hu, liver, look.hu), texture=texture)


def _late_venous(look: Appearance, rng: np.random.Generator) -> Appearance:
    """All blood alike and not far from the liver, kidneys even, contrast in their pelvis at times."""
    hu = look.hu.copy()
    blood, liver = rng.uniform(95, 140), rng.uniform(85, 122)
    for tissue in (Tissue.AORTA, Tissue.HEART_BLOOD, Tissue.IVC, Tissue.PORTAL_TRUNK, Tissue.PORTAL_BRANCH):
        _set(hu, tissue, blood * rng.uniform(0.93, 1.07))
    _set(hu, Tissue.HEPATIC_VEIN, blood * rng.uniform(0.93, 1.1))
    _set(hu, Tissue.SMALL_VESSEL, blood * rng.uniform(0.7, 0.95))
    _set(hu, Tissue.SPLEEN, liver + rng.uniform(-10, 18))
    kidney = rng.uniform(125, 185)
    _set(hu, Tissue.KIDNEY_CORTEX, kidney)
    _set(hu, Tissue.KIDNEY_MEDULLA, kidney + rng.uniform(-10, 15))
    if rng.random() < 0.5:
        _set(hu, Tissue.RENAL_PELVIS, rng.uniform(200, 800))
    return replace(look, hu=_with_liver(hu, liver, look.hu))


def _fat(look: Appearance, rng: np.random.Generator) -> Appearance:
    """A liver of 0-60 HU with contrast, darker than spleen and vessels, with parts that the fat spared."""
    liver = rng.uniform(-5, 40) if look.phase is Phase.PLAIN else rng.uniform(0, 62)
    hu = _with_liver(look.hu.copy(), liver, look.hu)
    least = liver + rng.uniform(12, 30)
    hu[Tissue.SPLEEN] = max(float(hu[Tissue.SPLEEN]), least)
    for tissue in (Tissue.PORTAL_BRANCH, Tissue.PORTAL_TRUNK, Tissue.HEPATIC_VEIN):
        hu[tissue] = max(float(hu[tissue]), least)
    # Tumours hold no fat: they are seldom darker than such a liver, often brighter.
    _set(hu, Tissue.LESION_HYPO, max(liver - rng.uniform(0, 25), rng.uniform(10, 40)))
    spared = float(rng.uniform(12, 45)) if rng.random() < 0.7 else look.patch_hu
    return replace(look, hu=hu, patch_hu=spared, mottle_hu=max(look.mottle_hu, float(rng.uniform(0, 9))))


def _iron(look: Appearance, rng: np.random.Generator) -> Appearance:
    """75-140 HU without contrast; with it as much more as livers take up, so that vessels hardly stand out."""
    native = rng.uniform(75, 140)
    taken_up = {Phase.PLAIN: 0.0, Phase.ARTERIAL: rng.uniform(5, 30), Phase.VENOUS: rng.uniform(25, 60)}[look.phase]
    return replace(look, hu=_with_liver(look.hu.copy(), native + taken_up, look.hu))


def _with_liver(hu: np.ndarray, liver: float, before: np.ndarray) -> np.ndarray:
    """The liver at another HU, its solid lesions as far from it as before."""
    step = np.float32(liver) - before[Tissue.LIVER]
    _set(hu, Tissue.LIVER, liver)
    for tissue in _LESIONS:
        hu[tissue] = max(float(before[tissue] + step), 0.0)
    return hu


def _scanned(look: Appearance, drawn: ScanTraits) -> Appearance:
    """Slice thickness, kernel and dose at the spacing at which patches are painted."""
    if Trait.THIN_SLICES in drawn:
        rng = drawn.generator(Trait.THIN_SLICES)
        look = replace(look, slice_mm=0.0, noise_sd=look.noise_sd * float(rng.uniform(1.0, 1.5)))
    elif Trait.THICK_SLICES in drawn:
        rng = drawn.generator(Trait.THICK_SLICES)
        thick = float(rng.uniform(4.5, 6.0))
        look = replace(look, slice_mm=thick, noise_sd=look.noise_sd * float(rng.uniform(0.5, 0.9)))
    along, rows, columns = look.noise_mm
    if Trait.SHARP_KERNEL in drawn:
        rng = drawn.generator(Trait.SHARP_KERNEL)
        look = replace(
            look,
            sharpening=float(rng.uniform(0.2, 0.6)),
            point_spread_mm=float(rng.uniform(0.6, 0.85)),
            noise_sd=look.noise_sd * float(rng.uniform(1.2, 1.8)),
            noise_mm=(along, 0.75 * rows, 0.75 * columns),
        )
    elif Trait.SOFT_KERNEL in drawn:
        rng = drawn.generator(Trait.SOFT_KERNEL)
        wider = float(rng.uniform(1.3, 1.9))
        look = replace(
            look,
            point_spread_mm=float(rng.uniform(1.3, 1.9)),
            noise_sd=look.noise_sd * float(rng.uniform(0.5, 0.85)),
            noise_mm=(along, wider * rows, wider * columns),
        )
    if Trait.LOW_DOSE in drawn:
        rng = drawn.generator(Trait.LOW_DOSE)
        look = replace(look, noise_sd=float(rng.uniform(16, 34)), low_dose_hu=float(rng.uniform(8, 24)))
    return look


def _set(table: np.ndarray, tissue: Tissue, value: float) -> None:
    table[tissue] = np.float32(value)
