"""Breathing during the scan: near the dome slices show the body too high or too low, or two positions at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dissm_phantom.canvas import Field

_FADE_MM = (65.0, 20.0)
"""Below the dome: where motion begins, and where it is whole."""
_CONTOUR_SAMPLES = 3


def dome_slice(liver_mm: npt.NDArray[np.floating]) -> int:
    """Index k of the highest slice that shows the liver; the last one where none does.

    Args:
        liver_mm: Signed distance of the liver [K, J, I], mm, k upwards.
    """
    slices = np.flatnonzero((liver_mm < 0).any(axis=(1, 2)))
    return int(slices[-1]) if len(slices) else liver_mm.shape[0] - 1


def with_dome_motion(hu: Field, spacing_mm: float, dome_k: int, rng: np.random.Generator) -> Field:
    """HU float32 [K, J, I] as a breathing patient shows them; the truth is the position in the mean.

    Args:
        hu: Without noise, k upwards.
        spacing_mm: Between slices.
        dome_k: Of the slice at the liver's dome; may lie outside of the array.
        rng: Draws kind and size of the motion.
    """
    slices = len(hu)
    below_dome = (dome_k - np.arange(slices)) * spacing_mm
    weight = np.clip((_FADE_MM[0] - below_dome) / (_FADE_MM[0] - _FADE_MM[1]), 0, 1)
    if not weight.any():
        return hu
    shift_mm = weight * float(rng.uniform(1.0, 4.5)) * _breath(slices, spacing_mm, rng)
    contour_mm = weight * (float(rng.uniform(1.5, 6.0)) if rng.random() < 0.6 else 0.0)
    moving = np.flatnonzero(weight > 0)
    result = hu.copy()
    total = np.zeros((len(moving), *hu.shape[1:]), dtype=np.float32)
    # Breathing rests at its ends: the outer positions weigh more than the middle one.
    for offset, part in zip(np.linspace(-1, 1, _CONTOUR_SAMPLES), (0.4, 0.2, 0.4), strict=True):
        at = np.clip(moving + (shift_mm + offset * contour_mm)[moving] / spacing_mm, 0, slices - 1)
        first = np.minimum(at.astype(int), max(slices - 2, 0))
        share = (at - first).astype(np.float32)[:, None, None]
        total += np.float32(part) * (hu[first] * (1 - share) + hu[np.minimum(first + 1, slices - 1)] * share)
    result[moving] = total
    return result


def _breath(slices: int, spacing_mm: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Displacement of every slice, about -1 to 1, zero in the mean: a wave, or slabs that do not fit together."""
    height = np.arange(slices) * spacing_mm
    if rng.random() < 0.5:
        wave = np.sin(2 * np.pi * (height / rng.uniform(14, 45) + rng.random()))
    else:
        slab = (height / rng.uniform(8, 25) + rng.random()).astype(int)
        wave = rng.uniform(-1, 1, int(slab[-1]) + 1)[slab]
    return np.asarray(wave - wave.mean(), dtype=np.float64)
