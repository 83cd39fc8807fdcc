"""Focal lesions of the liver: they belong to its truth, whatever they look like."""

from __future__ import annotations

import numpy as np

from dissm_phantom.canvas import Field, noise_tile, tile_crop
from dissm_phantom.tissue import Labels, Tissue, is_liver

_KINDS = ("hypo", "rim", "hyper", "cyst", "lipiodol")
_SHARES = (0.4, 0.2, 0.14, 0.18, 0.08)


def with_lesions(
    labels: Labels, liver_mm: Field, spacing_mm: float, rng: np.random.Generator, healthy_share: float = 0.45
) -> Labels:
    """A copy of the labels [K, J, I] with random lesions in the liver, some under its surface or dome.

    Args:
        labels: uint8 [K, J, I] of `Tissue`.
        liver_mm: Signed distance of the liver on the same voxels, mm.
        spacing_mm: Of the voxels.
        rng: Draws number, place, size and kind.
        healthy_share: Share of the draws without any lesion.
    """
    result = labels.copy()
    if rng.random() < healthy_share:
        return result
    inside = np.flatnonzero(liver_mm.ravel() < 0)
    if len(inside) < 50:
        return result
    warp = noise_tile(rng, 5.0 / spacing_mm, 48)
    count = int(rng.choice([1, 2, 4, 8], p=[0.4, 0.3, 0.2, 0.1]))
    for _ in range(count):
        voxel = int(inside[rng.integers(len(inside))])
        center = np.unravel_index(voxel, labels.shape)
        radius = float(np.clip(np.exp(rng.normal(np.log(11), 0.6)), 4, 42))
        _draw_lesion(result, (int(center[0]), int(center[1]), int(center[2])), radius / spacing_mm, warp, rng)
    return result


def _draw_lesion(
    labels: Labels, center: tuple[int, int, int], radius: float, warp: Field, rng: np.random.Generator
) -> None:
    reach = int(np.ceil(radius * 1.5))
    box = tuple(slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(center, labels.shape, strict=True))
    axes = np.ogrid[box]
    stretch = rng.uniform(0.75, 1.25, 3)
    squared = sum(((axis - c) / (radius * s)) ** 2 for axis, c, s in zip(axes, center, stretch, strict=True))
    rho = np.sqrt(np.asarray(squared, dtype=np.float32))
    rho = rho + np.float32(rng.uniform(0.03, 0.16)) * tile_crop(warp, rho.shape, rng)
    region = labels[box]
    body = (rho < 1) & is_liver(region)
    kind = str(rng.choice(_KINDS, p=_SHARES))
    if kind == "rim":
        region[body] = Tissue.LESION_RIM
        region[body & (rho < rng.uniform(0.65, 0.9))] = Tissue.LESION_HYPO
    elif kind == "lipiodol":
        region[body] = rng.choice([Tissue.LESION_HYPO, Tissue.LESION_HYPER])
        region[body & (tile_crop(warp, rho.shape, rng) > rng.uniform(-1, 0.8))] = Tissue.LIPIODOL
    else:
        tissue = {"hypo": Tissue.LESION_HYPO, "hyper": Tissue.LESION_HYPER, "cyst": Tissue.CYST}[kind]
        region[body] = tissue
