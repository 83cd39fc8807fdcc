"""From tissue labels to HU on any crop: table, texture, sub-voxel liver edge, point spread, slice thickness, noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_phantom.appearance import Appearance
from dissm_phantom.canvas import Field
from dissm_phantom.tissue import Labels, is_liver

MIN_HU, MAX_HU = -1024.0, 3071.0
_PATCH_MM, _PATCH_LEVEL = 50.0, 0.8
_OVERSHOOT_MM = 2.0
_LOW_DOSE_STREAK_MM = 45.0


def render_hu(
    labels: Labels,
    spacing_mm: float,
    appearance: Appearance,
    rng: np.random.Generator,
    liver_mm: Field | None = None,
) -> npt.NDArray[np.float32]:
    """A CT of a crop of labels, float32 HU [K, J, I]; the same generator state gives the same crop, bit for bit.

    Args:
        labels: uint8 [K, J, I] of `Tissue`.
        spacing_mm: Of the isotropic voxels.
        appearance: How the tissues look.
        rng: Draws texture and noise.
        liver_mm: Signed distance of the liver on the same voxels (mm); with it the liver's edge lies where the surface
            cuts the voxel instead of on its faces.
    """
    clean = render_hu_without_noise(labels, spacing_mm, appearance, rng, liver_mm)
    noisy = clean + scanner_noise(clean.shape, (spacing_mm,) * 3, appearance, rng)
    return np.clip(noisy, MIN_HU, MAX_HU, out=noisy)


def render_hu_without_noise(
    labels: Labels,
    spacing_mm: float,
    appearance: Appearance,
    rng: np.random.Generator,
    liver_mm: Field | None = None,
    own_hu: Field | None = None,
) -> npt.NDArray[np.float32]:
    """As `render_hu`, before the scanner's noise is added.

    Args:
        labels, spacing_mm, appearance, rng, liver_mm: As for `render_hu`.
        own_hu: float32 [K, J, I], HU that stand in place of the tissue's mean, NaN where there are none.
    """
    hu = appearance.hu[labels]
    if own_hu is not None:
        np.copyto(hu, own_hu, where=~np.isnan(own_hu))
    hu += appearance.texture[labels] * _texture_noise(labels.shape, spacing_mm, rng)
    if appearance.mottle_hu > 0 or appearance.patch_hu != 0:
        hu += is_liver(labels) * _uneven_liver(labels.shape, spacing_mm, appearance, rng)
    if liver_mm is not None:
        hu = _with_partial_liver(hu, labels, liver_mm, spacing_mm)
    hu = ndimage.gaussian_filter(hu, appearance.point_spread_mm / spacing_mm, mode="nearest", truncate=3.0)
    if appearance.sharpening > 0:
        hu = with_overshoot(hu, (spacing_mm,) * 3, appearance.sharpening)
    extra = appearance.slice_mm**2 - spacing_mm**2
    if extra > 0:
        sd = np.sqrt(extra / 12.0) / spacing_mm
        hu = ndimage.gaussian_filter1d(hu, sd, axis=appearance.slice_axis, mode="nearest", truncate=2.5)
    if appearance.bias_hu > 0:
        hu += np.float32(appearance.bias_hu) * _smooth_noise(labels.shape, 70.0 / spacing_mm, rng)
    return np.asarray(hu, dtype=np.float32)


def with_overshoot(hu: Field, spacing_kji: tuple[float, ...], share: float) -> Field:
    """HU as a sharp kernel shows them: within a slice edges overshoot by a share of their step."""
    width = (0.0, _OVERSHOOT_MM / spacing_kji[1], _OVERSHOOT_MM / spacing_kji[2])
    wide = ndimage.gaussian_filter(hu, width, mode="nearest", truncate=2.5)
    return np.asarray(hu + np.float32(share) * (hu - wide), dtype=np.float32)


def scanner_noise(
    shape: tuple[int, ...], spacing_kji: tuple[float, ...], appearance: Appearance, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Correlated noise (HU, float32) of the appearance's sd on voxels of the given spacing (mm along k, j, i)."""
    sds = [length / spacing for length, spacing in zip(appearance.noise_mm, spacing_kji, strict=True)]
    noise = rng.standard_normal(shape, dtype=np.float32)
    for axis, sd in enumerate(sds):
        if sd > 0.15:
            noise = ndimage.gaussian_filter1d(noise, sd, axis=axis, mode="wrap", truncate=3.0)
    if appearance.sharpening > 0:
        # Sharp kernels raise high frequencies: neighbours in a slice become unlike.
        wide = ndimage.gaussian_filter(noise, (0, 1 + sds[1], 1 + sds[2]), mode="wrap", truncate=2.5)
        noise -= np.float32(min(1.0, appearance.sharpening)) * wide
    noise *= np.float32(appearance.noise_sd / max(float(noise.std()), 1e-6))
    if appearance.streak_hu > 0:
        lines = ndimage.gaussian_filter1d(rng.standard_normal((shape[0], shape[1], 1), dtype=np.float32), 0.7, axis=1)
        noise += np.float32(appearance.streak_hu) * lines
    if appearance.low_dose_hu > 0:
        noise += np.float32(appearance.low_dose_hu) * _photon_starvation(shape, spacing_kji, rng)
    return noise


def _photon_starvation(shape: tuple[int, ...], spacing_kji: tuple[float, ...], rng: np.random.Generator) -> Field:
    """Long horizontal streaks of about unit variance, stronger in some rows, as across shoulders and arms."""
    nodes = int(np.ceil(shape[2] * spacing_kji[2] / _LOW_DOSE_STREAK_MM)) + 2
    coarse = rng.standard_normal((shape[0], shape[1], nodes), dtype=np.float32)
    coarse = np.float32(1.9) * ndimage.gaussian_filter1d(coarse, 0.9 / spacing_kji[1] + 0.3, axis=1, mode="nearest")
    coarse *= np.exp(np.float32(0.5) * _smooth_noise((*shape[:2], 1), 30.0 / spacing_kji[1], rng) - np.float32(0.2))
    at = np.arange(shape[2], dtype=np.float32) * np.float32(spacing_kji[2] / _LOW_DOSE_STREAK_MM)
    first = at.astype(int)
    low, high = coarse.take(first, axis=2), coarse.take(first + 1, axis=2)
    return np.asarray(low + (high - low) * (at - first), dtype=np.float32)


def _texture_noise(shape: tuple[int, ...], spacing_mm: float, rng: np.random.Generator) -> Field:
    """Unit-variance texture at two scales, about 4 and 14 mm."""
    fine = _smooth_noise(shape, 4.0 / spacing_mm, rng)
    coarse = _smooth_noise(shape, 14.0 / spacing_mm, rng)
    return np.float32(0.6) * fine + np.float32(0.8) * coarse


def _uneven_liver(shape: tuple[int, ...], spacing_mm: float, appearance: Appearance, rng: np.random.Generator) -> Field:
    """HU to add to the liver: slow mottling, and patches of some centimetres with an edge of a few millimetres."""
    mottle = np.float32(appearance.mottle_hu) * _smooth_noise(shape, appearance.mottle_mm / spacing_mm, rng)
    ridge = _smooth_noise(shape, _PATCH_MM / spacing_mm, rng)
    patch = np.clip((ridge - np.float32(_PATCH_LEVEL)) / np.float32(0.2), 0, 1)
    return np.asarray(mottle + np.float32(appearance.patch_hu) * patch, dtype=np.float32)


def _smooth_noise(shape: tuple[int, ...], length_voxels: float, rng: np.random.Generator) -> Field:
    """Noise of about unit variance whose nodes lie `length_voxels` apart, trilinear between them, axis by axis."""
    coarse = rng.standard_normal([int(np.ceil(n / length_voxels)) + 2 for n in shape], dtype=np.float32)
    for axis, size in enumerate(shape):
        at = np.arange(size, dtype=np.float32) / np.float32(length_voxels)
        first = at.astype(int)
        weight = (at - first).reshape([-1 if n == axis else 1 for n in range(len(shape))])
        low, high = coarse.take(first, axis=axis), coarse.take(first + 1, axis=axis)
        coarse = low + (high - low) * weight
    return np.float32(1.8) * coarse


def _with_partial_liver(hu: Field, labels: Labels, liver_mm: Field, spacing_mm: float) -> Field:
    """Mix liver and surroundings in the voxels that the surface cuts, by the share of the voxel on each side."""
    cut = np.abs(liver_mm) < np.float32(0.6 * spacing_mm)
    if not cut.any():
        return hu
    inside = is_liver(labels).astype(np.float32)
    weight_in = ndimage.uniform_filter(inside, 3, mode="nearest")
    sum_all = ndimage.uniform_filter(hu, 3, mode="nearest")[cut]
    sum_in = ndimage.uniform_filter(hu * inside, 3, mode="nearest")[cut]
    share_in = weight_in[cut]
    own, member = hu[cut], inside[cut] > 0.5
    liver_hu = np.where(member, own, sum_in / np.maximum(share_in, 1e-3))
    other_hu = np.where(member, (sum_all - sum_in) / np.maximum(1 - share_in, 1e-3), own)
    part = np.clip(0.5 - liver_mm[cut] / np.float32(spacing_mm), 0, 1)
    mixable = (share_in > 0.03) & (share_in < 0.97)
    mixed = hu.copy()
    mixed[cut] = np.where(mixable, part * liver_hu + (1 - part) * other_hu, own)
    return mixed
