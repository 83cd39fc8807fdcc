"""Random changes of an appearance towards looks that real scans have and `Appearance.draw` seldom or never draws.

They are applied wherever networks learn.

The first edition's phantoms beside two real CTs (docs/phantoms.md): real livers keep two to three times as much slow
texture, spleens stand further above the liver, blood is brighter, grain along the rows is finer. `Appearance.draw`
itself stays as it is, because the phantoms frozen with the first edition are drawn with it, bit for bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dissm_phantom.appearance import Appearance, Phase
from dissm_phantom.tissue import Tissue

_BLOOD = (
    Tissue.AORTA,
    Tissue.HEART_BLOOD,
    Tissue.IVC,
    Tissue.PORTAL_TRUNK,
    Tissue.PORTAL_BRANCH,
    Tissue.HEPATIC_VEIN,
    Tissue.SMALL_VESSEL,
)
_CONTENTS = (Tissue.STOMACH_CONTENT, Tissue.BOWEL_CONTENT, Tissue.STOMACH_WALL, Tissue.BOWEL_WALL)


def randomise_appearance(appearance: Appearance, rng: np.random.Generator) -> Appearance:
    """The same look with slow texture and patches in the liver, and neighbours further from it or nearer to it."""
    hu = appearance.hu.copy()
    if appearance.phase is Phase.VENOUS and rng.random() < 0.5:
        hu[Tissue.SPLEEN] += np.float32(rng.uniform(5, 40))
    if rng.random() < 0.3:
        hu[list(_BLOOD)] *= np.float32(rng.uniform(1.0, 1.3))
    if rng.random() < 0.2:
        # Food and a wall that cannot be told from the liver by their HU.
        alike = hu[Tissue.LIVER] + rng.normal(0, 12, len(_CONTENTS))
        hu[list(_CONTENTS)] = alike.astype(np.float32)
    noise = (appearance.noise_mm[0], appearance.noise_mm[1], appearance.noise_mm[2] * float(rng.uniform(0.65, 1.0)))
    wide = float(rng.uniform(1.0, 1.4)) if rng.random() < 0.25 else 1.0
    return replace(
        appearance,
        hu=hu,
        noise_mm=noise,
        point_spread_mm=appearance.point_spread_mm * wide,
        mottle_hu=float(rng.uniform(0, 9)) if rng.random() < 0.75 else 0.0,
        mottle_mm=float(rng.uniform(12, 45)),
        patch_hu=float(rng.choice([-1, 1]) * rng.uniform(4, 25)) if rng.random() < 0.25 else 0.0,
    )
