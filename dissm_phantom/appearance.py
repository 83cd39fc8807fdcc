"""What CT makes of each tissue: HU means by contrast phase with the correlations of life, texture, blur and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dissm_phantom.neighbour_appearance import neighbour_hu, neighbour_stream, neighbour_texture
from dissm_phantom.tissue import LIVER_TISSUES, Tissue

TISSUE_COUNT = len(Tissue)
_FIRST_TISSUES = 48
"""Tissues of the first three editions; what is drawn for them must not depend on how many came later."""


class Phase(StrEnum):
    """When the scan was taken after contrast."""

    VENOUS = "venous"
    ARTERIAL = "arterial"
    PLAIN = "plain"


@dataclass(frozen=True)
class Appearance:
    """How the tissues look in one image.

    Attributes:
        phase: When the scan was taken after contrast.
        hu, texture: float32 [TISSUE_COUNT], mean HU of each tissue, and the sd of its low-frequency texture.
        point_spread_mm: Sd of the edge blur.
        slice_mm, slice_axis: Thickness that is averaged (0: none), and the axis of [K, J, I] along which it is.
        noise_sd: Sd of the noise, HU.
        noise_mm: Correlation of the noise: sd of the filter along (k, j, i).
        bias_hu: Sd of a smooth additive bias.
        streak_hu: Strength of horizontal streaks (0: none).
        randomised: Whether the HU of the tissues are strongly randomised.
        mottle_hu, mottle_mm: Sd and node distance of slow texture of the liver (0 HU: none).
        patch_hu: How far parts of the liver stand above or below the rest, as after treatment or where the portal flow
            differs (0: none).
        sharpening: Overshoot of edges by a sharp kernel, as a share of their step (0: none).
        low_dose_hu: Sd of the long horizontal streaks that few photons leave (0: none).
    """

    phase: Phase
    hu: npt.NDArray[np.float32]
    texture: npt.NDArray[np.float32]
    point_spread_mm: float
    slice_mm: float
    slice_axis: int
    noise_sd: float
    noise_mm: tuple[float, float, float]
    bias_hu: float
    streak_hu: float
    randomised: bool
    mottle_hu: float = 0.0
    mottle_mm: float = 20.0
    patch_hu: float = 0.0
    sharpening: float = 0.0
    low_dose_hu: float = 0.0

    @staticmethod
    def draw(rng: np.random.Generator, phase: Phase | None = None, randomised: bool | None = None) -> Appearance:
        """A random appearance: venous in 75 %, late arterial 17 %, plain 8 %; a quarter strongly randomised."""
        chosen = phase or Phase(str(rng.choice(list(Phase), p=[0.75, 0.17, 0.08])))
        strongly = bool(rng.random() < 0.25) if randomised is None else randomised
        hu = _table(_means(chosen, rng))
        if strongly:
            hu = _randomise(hu, rng)
        texture = _table(_textures(rng), default=3.0) * np.float32(rng.uniform(0.5, 1.8 if strongly else 1.2))
        thick = float(rng.choice([0.0, rng.uniform(1.5, 5.0)], p=[0.4, 0.6]))
        apart = neighbour_stream(rng)
        _set(hu, neighbour_hu(hu, chosen is not Phase.PLAIN, apart))
        _set(texture, neighbour_texture(apart))
        return Appearance(
            phase=chosen,
            hu=hu,
            texture=texture,
            point_spread_mm=float(rng.uniform(0.6, 1.4)),
            slice_mm=thick,
            slice_axis=0,
            noise_sd=float(np.clip(np.exp(rng.normal(np.log(13), 0.4)), 5, 32)),
            noise_mm=(float(rng.uniform(0.8, 1.8)), float(rng.uniform(0.6, 1.4)), float(rng.uniform(0.9, 1.5))),
            bias_hu=float(rng.uniform(0, 5)) * (2.5 if strongly else 1.0),
            streak_hu=float(rng.uniform(4, 20)) if rng.random() < 0.12 else 0.0,
            randomised=strongly,
        )


def _table(values: Mapping[Tissue, float], default: float = 0.0) -> npt.NDArray[np.float32]:
    table = np.full(TISSUE_COUNT, default, dtype=np.float32)
    _set(table, values)
    return table


def _set(table: npt.NDArray[np.float32], values: Mapping[Tissue, float]) -> None:
    for tissue, value in values.items():
        table[tissue] = value


def _means(phase: Phase, rng: np.random.Generator) -> dict[Tissue, float]:
    """Mean HU of every tissue: those that contrast does not reach, then blood, organs and liver by phase."""
    muscle = rng.uniform(48, 72)
    means = _unenhanced(muscle, rng) | _gut_contents(rng)
    blood = {
        Phase.VENOUS: rng.uniform(115, 215),
        Phase.ARTERIAL: rng.uniform(180, 360),
        Phase.PLAIN: rng.uniform(32, 48),
    }[phase]
    means |= _blood(phase, blood, rng) | _organs(phase, blood, muscle, rng)
    return means


def _unenhanced(muscle: float, rng: np.random.Generator) -> dict[Tissue, float]:
    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    fat, lung = u(-118, -88), u(-900, -780)
    return {
        Tissue.AIR: -1000.0,
        Tissue.FAT: fat,
        Tissue.SKIN: u(-10, 50),
        Tissue.MUSCLE: muscle,
        Tissue.INTERCOSTAL: muscle + u(-22, 6),
        Tissue.DIAPHRAGM: muscle + u(-8, 12),
        Tissue.BONE_CORTEX: u(350, 750),
        Tissue.BONE_MARROW: u(110, 260),
        Tissue.CARTILAGE: u(70, 260),
        Tissue.DISC: u(70, 110),
        Tissue.SPINAL_CANAL: u(15, 45),
        Tissue.LUNG: lung,
        Tissue.LUNG_VESSEL: u(-250, 60),
        Tissue.ATELECTASIS: u(-200, 100),
        Tissue.EFFUSION: u(-2, 25),
        Tissue.ASCITES: u(-4, 25),
        Tissue.URINE: u(-3, 15),
        Tissue.GALLBLADDER: u(-5, 25) if rng.random() < 0.88 else u(25, 150),
        Tissue.COUCH: u(-400, 250),
        Tissue.BRAIN: u(28, 42),
    }


def _gut_contents(rng: np.random.Generator) -> dict[Tissue, float]:
    water = rng.uniform(-5, 40)
    food = rng.uniform(20, 95)
    return {
        Tissue.STOMACH_CONTENT: water if rng.random() < 0.5 else food,
        Tissue.STOMACH_CONTRAST: rng.uniform(100, 450),
        Tissue.BOWEL_CONTENT: rng.uniform(0, 80),
        Tissue.BOWEL_CONTRAST: rng.uniform(100, 500),
        Tissue.STOOL: rng.uniform(-120, 110),
        Tissue.GUT_GAS: rng.uniform(-990, -800),
    }


def _blood(phase: Phase, blood: float, rng: np.random.Generator) -> dict[Tissue, float]:
    """Aorta and heart close together; portal and hepatic veins like them, lower in the arterial phase."""
    if phase is Phase.ARTERIAL:
        portal, hepatic = blood * rng.uniform(0.3, 0.75), rng.uniform(45, 110)
    elif phase is Phase.PLAIN:
        portal, hepatic = blood + rng.uniform(-4, 4), blood + rng.uniform(-4, 4)
    else:
        portal = blood * rng.uniform(0.88, 1.2)
        hepatic = portal * rng.uniform(0.7, 1.08)
    return {
        Tissue.AORTA: blood,
        Tissue.HEART_BLOOD: blood * rng.uniform(0.85, 1.08),
        Tissue.IVC: hepatic * rng.uniform(0.75, 1.1),
        Tissue.PORTAL_TRUNK: portal,
        Tissue.PORTAL_BRANCH: portal * rng.uniform(0.88, 1.0),
        Tissue.HEPATIC_VEIN: hepatic * rng.uniform(0.9, 1.05),
        Tissue.SMALL_VESSEL: blood * rng.uniform(0.4, 0.9),
        Tissue.LUNG_VESSEL: rng.uniform(-250, 60),
    }


def _organs(phase: Phase, blood: float, muscle: float, rng: np.random.Generator) -> dict[Tissue, float]:
    """Liver with its lesions, and the organs whose enhancement follows it."""
    fatty = rng.random() < 0.14
    liver = {
        Phase.VENOUS: rng.uniform(82, 138) + 0.06 * (blood - 160),
        Phase.ARTERIAL: rng.uniform(58, 98),
        Phase.PLAIN: rng.uniform(45, 66),
    }[phase]
    if fatty:
        liver -= rng.uniform(20, 45)
    enhance = {Phase.VENOUS: 1.0, Phase.ARTERIAL: 1.0, Phase.PLAIN: 0.0}[phase]
    spleen = {
        Phase.VENOUS: (liver if not fatty else liver + 30) + rng.normal(12, 11),
        Phase.ARTERIAL: rng.uniform(85, 150),
        Phase.PLAIN: rng.uniform(40, 56),
    }[phase]
    cortex = 32 + enhance * rng.uniform(105, 195)
    return {
        Tissue.LIVER: liver,
        **_lesions(phase, liver, rng),
        Tissue.SPLEEN: spleen,
        Tissue.KIDNEY_CORTEX: cortex,
        Tissue.KIDNEY_MEDULLA: cortex - enhance * rng.uniform(-5, 75),
        Tissue.RENAL_PELVIS: rng.uniform(-30, 30) if rng.random() < 0.8 else rng.uniform(100, 500),
        Tissue.ADRENAL: 35 + enhance * rng.uniform(15, 70),
        Tissue.PANCREAS: 35 + enhance * rng.uniform(35, 90),
        Tissue.MYOCARDIUM: 40 + enhance * rng.uniform(45, 110),
        Tissue.STOMACH_WALL: muscle + enhance * rng.uniform(0, 55),
        Tissue.BOWEL_WALL: muscle + enhance * rng.uniform(-5, 60),
    }


def _lesions(phase: Phase, liver: float, rng: np.random.Generator) -> dict[Tissue, float]:
    bright = {Phase.VENOUS: rng.uniform(-5, 45), Phase.ARTERIAL: rng.uniform(20, 90), Phase.PLAIN: rng.uniform(-5, 10)}[
        phase
    ]
    return {
        Tissue.LESION_HYPO: liver - rng.uniform(12, 70),
        Tissue.LESION_HYPER: liver + bright,
        Tissue.LESION_RIM: liver + rng.uniform(-10, 50),
        Tissue.LIPIODOL: rng.uniform(250, 1100),
        Tissue.CYST: rng.uniform(-5, 20),
    }


def _textures(rng: np.random.Generator) -> dict[Tissue, float]:
    """Sd of the low-frequency texture, HU."""
    parenchyma = rng.uniform(1.0, 5.0)
    return {
        **dict.fromkeys(LIVER_TISSUES, parenchyma),
        Tissue.AIR: 0.0,
        Tissue.FAT: rng.uniform(4, 14),
        Tissue.MUSCLE: rng.uniform(5, 14),
        Tissue.INTERCOSTAL: rng.uniform(8, 24),
        Tissue.LUNG: rng.uniform(10, 40),
        Tissue.LUNG_VESSEL: 60.0,
        Tissue.ATELECTASIS: 60.0,
        Tissue.BONE_CORTEX: 120.0,
        Tissue.BONE_MARROW: 45.0,
        Tissue.CARTILAGE: 40.0,
        Tissue.MYOCARDIUM: rng.uniform(3, 9),
        Tissue.HEART_BLOOD: rng.uniform(3, 14),
        Tissue.IVC: rng.uniform(4, 25),
        Tissue.STOMACH_CONTENT: rng.uniform(2, 30),
        Tissue.STOMACH_CONTRAST: rng.uniform(5, 50),
        Tissue.BOWEL_CONTENT: rng.uniform(3, 20),
        Tissue.BOWEL_CONTRAST: rng.uniform(10, 60),
        Tissue.STOOL: rng.uniform(30, 90),
        Tissue.PANCREAS: rng.uniform(6, 20),
        Tissue.SPLEEN: rng.uniform(1, 6),
        Tissue.KIDNEY_CORTEX: rng.uniform(4, 14),
        Tissue.KIDNEY_MEDULLA: rng.uniform(4, 16),
        Tissue.SPINAL_CANAL: 10.0,
        Tissue.LESION_HYPO: rng.uniform(3, 14),
        Tissue.LESION_HYPER: rng.uniform(3, 14),
        Tissue.LIPIODOL: rng.uniform(60, 250),
        Tissue.COUCH: 30.0,
    }


def _randomise(hu: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """SynthSeg-like: every soft tissue is moved on its own, the liver too; air, lung and bone keep their order."""
    first = hu[:_FIRST_TISSUES]
    soft = (first > -200) & (first < 320)
    moved = hu.copy()
    moved[:_FIRST_TISSUES] = first + rng.normal(0, 28, first.shape).astype(np.float32) * soft
    shift = np.float32(rng.normal(0, 18))
    liver = np.array([int(tissue) for tissue in LIVER_TISSUES])
    moved[liver] = hu[liver] + shift + rng.normal(0, 6, len(liver)).astype(np.float32)
    return np.asarray(moved, dtype=np.float32)
