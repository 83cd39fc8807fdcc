"""Muscle upon the liver: the diaphragm and its slips, a film of fat under them at times, and fat beyond.

`build_anatomy` lets the liver touch the wall or fat, nothing between. Real livers wear a sheet of muscle on the sides
that face front, right and up, up to 10 mm thick, and its outer edge to fat is the stronger one (docs/phantoms.md).
It is added to a body wherever networks learn; the bodies frozen with the first two editions are drawn without.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dissm_phantom.canvas import Field, Mask, noise_tile, tile_crop
from dissm_phantom.tissue import Labels, Tissue

_FRONT_RIGHT_UP = (-0.4, -0.8, 0.45)
"""LPS: where the sheet most often lies."""
_REACH_MM = 24.0
_WALL = (Tissue.MUSCLE, Tissue.INTERCOSTAL)
_TILE = 48


def with_diaphragm(
    labels: Labels, liver_mm: Field, spacing_mm: float, rng: np.random.Generator, bare_share: float = 0.4
) -> Labels:
    """A copy of the labels [K, J, I] with a sheet of muscle on a side of the liver.

    Args:
        labels: uint8 [K, J, I] of `Tissue`; the liver stays as it is.
        liver_mm: Signed distance of the liver on the same voxels (isotropic, LPS axes), mm.
        spacing_mm: Of the voxels.
        rng: Draws place and thickness.
        bare_share: Share of the draws without a sheet.
    """
    result = labels.copy()
    if rng.random() < bare_share:
        return result
    tile = noise_tile(rng, 14.0 / spacing_mm, _TILE)

    def wavy() -> Field:
        return tile_crop(tile, labels.shape, rng)

    covered = _covered(liver_mm, wavy(), rng)
    film_mm = np.maximum(rng.uniform(-2.5, 2.0) + 1.0 * wavy(), 0)
    thick_mm = rng.uniform(2.0, 10.0) * np.clip(0.75 + 0.5 * wavy(), 0, 1.7)
    fat_mm = np.maximum(rng.uniform(-2.0, 9.0) + 3.0 * wavy(), 0)
    depth = liver_mm - film_mm
    sheet = covered & (depth >= 0) & (depth < thick_mm)
    beyond = covered & (depth >= thick_mm) & (depth < thick_mm + fat_mm)
    result[covered & (depth < 0) & _any_of(labels, _WALL)] = Tissue.FAT
    result[sheet & _any_of(labels, (Tissue.FAT, *_WALL))] = Tissue.DIAPHRAGM
    # Towards the lung the sheet is thin: it hangs free there and nothing is to be seen of its slips.
    result[sheet & (depth < 0.4 * thick_mm) & (labels == Tissue.LUNG)] = Tissue.DIAPHRAGM
    result[beyond & _any_of(labels, _WALL)] = Tissue.FAT
    return result


def _covered(liver_mm: Field, wave: Field, rng: np.random.Generator) -> Mask:
    """Outside the liver, within reach, where its surface faces a direction drawn around front, right and up."""
    towards = np.array(_FRONT_RIGHT_UP) + rng.normal(0, 0.45, 3)
    towards /= max(float(np.linalg.norm(towards)), 1e-6)
    along_k, along_j, along_i = np.gradient(liver_mm)
    steep = np.sqrt(along_k**2 + along_j**2 + along_i**2) + np.float32(1e-6)
    facing = (towards[0] * along_i + towards[1] * along_j + towards[2] * along_k) / steep
    near = (liver_mm >= 0) & (liver_mm < _REACH_MM)
    return np.asarray(near & (facing + 0.2 * wave > rng.uniform(0.0, 0.5)))


def _any_of(labels: Labels, tissues: tuple[Tissue, ...]) -> npt.NDArray[np.bool_]:
    return np.isin(labels, np.array(tissues, dtype=np.uint8))
