"""HU and texture of the tissues that the fourth edition added: masses, stones, food, collapsed lung, clips.

They are drawn from a stream of their own that runs far ahead of the image's generator and takes nothing from it, so
that every image of a body without them stays the same, bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dissm_phantom.tissue import Tissue

_CLIP_HU = (1500.0, 3000.0)


def neighbour_stream(rng: np.random.Generator) -> np.random.Generator:
    """A generator that depends on the state of another one, from which it takes nothing.

    Raises:
        TypeError: The generator is not numpy's default one (PCG64).
    """
    source = rng.bit_generator
    if not isinstance(source, np.random.PCG64):
        raise TypeError(f"the appearance is drawn by numpy's default generator, not by {type(source).__name__}")
    return np.random.Generator(source.jumped())


def neighbour_hu(hu: npt.NDArray[np.float32], enhanced: bool, rng: np.random.Generator) -> dict[Tissue, float]:
    """Mean HU of the fourth edition's tissues.

    Args:
        hu: float32 [tissues], those of the other tissues in the same image.
        enhanced: Whether contrast was given.
        rng: From `neighbour_stream`.
    """

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    kind = rng.random()
    if kind < 0.45:  # The trap: outside the liver, with the HU of a lesion inside of it.
        mass = float(hu[Tissue.LESION_HYPO]) + u(-6, 6)
    elif kind < 0.6:
        mass = float(hu[Tissue.LIVER]) + u(-12, 12)
    else:
        mass = u(25, 48) + (u(5, 75) if enhanced else 0.0)
    bright = (u(0, 60) if enhanced else u(0, 8)) if rng.random() < 0.7 else 0.0
    stone = u(-50, 60) if rng.random() < 0.35 else u(60, 800)
    return {
        Tissue.MASS: mass,
        Tissue.MASS_WALL: mass + bright,
        Tissue.MASS_CORE: u(-5, 25) if rng.random() < 0.7 else u(20, 50),
        Tissue.DENSE_BILE: u(40, 150),
        Tissue.GALLSTONE: stone,
        Tissue.GALLSTONE_RIM: max(stone, u(100, 900)),
        Tissue.FOOD: u(10, 80),
        Tissue.FATTY_FOOD: u(-100, 0),
        Tissue.COLLAPSED_LUNG: u(30, 60) + (u(0, 30) if enhanced else 0.0),
        Tissue.CLIP: u(*_CLIP_HU),
    }


def neighbour_texture(rng: np.random.Generator) -> dict[Tissue, float]:
    """Sd of the low-frequency texture (HU) of the fourth edition's tissues."""

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    return {
        Tissue.MASS: u(3, 16),
        Tissue.MASS_WALL: u(3, 14),
        Tissue.MASS_CORE: u(2, 9),
        Tissue.DENSE_BILE: u(2, 10),
        Tissue.GALLSTONE: u(5, 60),
        Tissue.GALLSTONE_RIM: u(20, 120),
        Tissue.FOOD: u(15, 35),
        Tissue.FATTY_FOOD: u(15, 40),
        Tissue.COLLAPSED_LUNG: u(3, 14),
        Tissue.CLIP: 100.0,
    }
