"""From tissue labels to HU as `rendering` does it, with the lesions, implants, look and motion of a use's traits."""

from __future__ import annotations

import numpy as np

from dissm_phantom.appearance import Appearance
from dissm_phantom.appearance_traits import appearance_with_traits
from dissm_phantom.canvas import Field
from dissm_phantom.focal_lesions import with_focal_lesions
from dissm_phantom.metal import draw_implants, paint_implants, streaks
from dissm_phantom.motion import dome_slice, with_dome_motion
from dissm_phantom.rendering import MAX_HU, MIN_HU, render_hu, render_hu_without_noise, scanner_noise
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.tissue import Labels
from dissm_phantom.variety import Trait


def render_hu_with_traits(
    labels: Labels,
    spacing_mm: float,
    appearance: Appearance,
    rng: np.random.Generator,
    liver_mm: Field,
    drawn: ScanTraits,
    dome_k: int | None = None,
) -> Field:
    """A CT of a crop of labels, float32 HU [K, J, I]; without traits it is `render_hu`, bit for bit.

    Args:
        labels: uint8 [K, J, I] of `Tissue`.
        spacing_mm: Of the isotropic voxels.
        appearance: How the tissues look before the traits change it.
        rng: Draws texture and noise.
        liver_mm: Signed distance of the liver on the same voxels, mm.
        drawn: The traits of this use.
        dome_k: Slice of the liver's dome in the crop, which may lie outside; None: the highest that shows liver.
    """
    if not drawn:
        return render_hu(labels, spacing_mm, appearance, rng, liver_mm)
    look = appearance_with_traits(appearance, drawn)
    clean = render_without_noise(labels, spacing_mm, look, rng, liver_mm, drawn, dome_k)
    noisy = clean + scanner_noise(clean.shape, (spacing_mm,) * 3, look, rng)
    return np.clip(noisy, MIN_HU, MAX_HU, out=noisy)


def render_without_noise(
    labels: Labels,
    spacing_mm: float,
    look: Appearance,
    rng: np.random.Generator,
    liver_mm: Field,
    drawn: ScanTraits,
    dome_k: int | None = None,
) -> Field:
    """As `render_hu_with_traits`, before the scanner's noise is added.

    Args:
        labels, spacing_mm, rng, liver_mm, drawn, dome_k: As there.
        look: With the traits' changes (`appearance_with_traits`).
    """
    if not drawn:
        return render_hu_without_noise(labels, spacing_mm, look, rng, liver_mm)
    diseased, own_hu = with_focal_lesions(labels, liver_mm, spacing_mm, look, drawn)
    implants = draw_implants(labels, liver_mm, spacing_mm, drawn)
    paint_implants(own_hu, spacing_mm, implants)
    hu = render_hu_without_noise(diseased, spacing_mm, look, rng, liver_mm, own_hu)
    lines = streaks(labels.shape, spacing_mm, implants, drawn.generator(Trait.METAL).spawn(1)[0])
    if lines is not None:
        hu += lines
    if Trait.DOME_MOTION in drawn:
        dome = dome_slice(liver_mm) if dome_k is None else dome_k
        hu = with_dome_motion(hu, spacing_mm, dome, drawn.generator(Trait.DOME_MOTION))
    return hu
