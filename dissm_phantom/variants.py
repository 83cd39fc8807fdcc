"""Scans that must be refused or end without a liver: an abdomen without one, and a head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.volume import SignedDistance, Volume
from dissm_phantom.anatomy import Anatomy
from dissm_phantom.appearance import Appearance, Phase
from dissm_phantom.canvas import noise_tile, tile_crop
from dissm_phantom.rendering import render_hu
from dissm_phantom.tissue import Tissue, is_liver

_FAR_MM = 200.0


def without_liver(anatomy: Anatomy, seed: int) -> Anatomy:
    """The same body with fat and bowel where the liver was; its signed distance is positive everywhere."""
    rng = np.random.default_rng(seed)
    labels = anatomy.labels.copy()
    liver = is_liver(labels)
    folds = tile_crop(noise_tile(rng, 5.0), labels.shape, rng)
    labels[liver] = Tissue.FAT
    labels[liver & (folds > 0.5)] = Tissue.BOWEL_WALL
    labels[liver & (folds > 0.85)] = Tissue.BOWEL_CONTENT
    nowhere = SignedDistance(np.full_like(anatomy.liver.mm, _FAR_MM), anatomy.grid)
    return replace(anatomy, labels=labels, liver=nowhere, recipe={**anatomy.recipe, "variant": "without_liver"})


def head(seed: int, spacing_mm: float = 2.0) -> Volume:
    """A head: scalp, skull, brain with ventricles, air cells; int16 HU, about 20 cm tall."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n / spacing_mm) for n in (190, 240, 200))
    z, y, x = (
        np.linspace(-1, 1, n, dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, n in enumerate(shape)
    )
    warp = 0.02 * tile_crop(noise_tile(rng, 10.0 / spacing_mm), shape, rng)
    rho = np.sqrt((x / 0.82) ** 2 + (y / 0.85) ** 2 + (z / 0.95) ** 2) + warp
    labels: npt.NDArray[np.uint8] = np.zeros(shape, dtype=np.uint8)
    for limit, tissue in (
        (1.0, Tissue.SKIN),
        (0.97, Tissue.FAT),
        (0.92, Tissue.BONE_CORTEX),
        (0.86, Tissue.URINE),
        (0.83, Tissue.BRAIN),
    ):
        labels[rho < limit] = tissue
    ventricles = np.sqrt((np.abs(x) - 0.12) ** 2 / 0.006 + y**2 / 0.12 + (z - 0.1) ** 2 / 0.03) < 1
    labels[ventricles] = Tissue.URINE
    cells = (z < -0.45) & (y < 0.1) & (rho < 0.8) & (ndimage.gaussian_filter(warp, 1) > 0.01)
    labels[cells] = Tissue.GUT_GAS
    hu = render_hu(labels, spacing_mm, Appearance.draw(rng, Phase.PLAIN, False), rng)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = [-0.5 * spacing_mm * (n - 1) for n in reversed(shape)]
    return Volume(np.rint(hu).astype(np.int16), affine)
