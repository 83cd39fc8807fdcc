"""Contact sheet of everything that a use of a body may have: lesions, looks, implants, motion and position.

python docs/draw_scan_traits.py SURFACES.npz OUT.png [--seed 1] [--liver NAME]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dissm_phantom import (
    SCAN_TRAITS,
    Anatomy,
    Appearance,
    Phantom,
    Phase,
    ScanProtocol,
    ScanTraits,
    Trait,
    build_anatomy,
    scan,
)
from dissm_phantom.focal_lesions import with_focal_lesions
from dissm_phantom.metal import draw_implants, paint_implants
from training.sources.source_at_path import open_source

COLUMNS = 6
MIN_BODY_HU = 20
FROM_THE_FRONT = (Trait.DOME_MOTION, Trait.THICK_SLICES, Trait.THIN_SLICES)


def main() -> None:
    """Read the arguments, build one body, scan it with each trait, draw."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("surfaces", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--liver")
    given = arguments.parse_args()
    livers = open_source(given.surfaces, ()).load()
    liver = livers[given.liver or sorted(livers)[0]]
    body = build_anatomy(liver, given.seed, deform=False, whole_liver=True)
    traits = [trait for trait in Trait if trait in SCAN_TRAITS]
    rows = -(-len(traits) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * 3, rows * 2.4))
    protocol = ScanProtocol(pixel_mm=1.0, slice_mm=2.5, matrix=420, phase=Phase.VENOUS, appearance_randomisation=True)
    for number, trait in enumerate(traits):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        seed = given.seed + number
        phantom = scan(replace(body, traits=frozenset({trait})), replace(protocol, lesions=False), seed)
        draw(axes, phantom, trait, height_of(body, trait, seed))
    figure.subplots_adjust(0, 0, 1, 0.97, 0.01, 0.12)
    figure.savefig(given.out, dpi=72)


def height_of(body: Anatomy, trait: Trait, seed: int) -> float | None:
    """z (mm) at which there is most to see of lesions or implants; None for every other trait."""
    drawn, spacing = ScanTraits(frozenset({trait}), seed), float(body.grid.spacing[0])
    look = Appearance.draw(np.random.default_rng(seed), Phase.VENOUS, randomised=False)
    _, own_hu = with_focal_lesions(body.labels, body.liver.mm, spacing, look, drawn)
    paint_implants(own_hu, spacing, draw_implants(body.labels, body.liver.mm, spacing, drawn))
    painted = np.isfinite(own_hu).sum(axis=(1, 2))
    return float(body.grid.to_lps([0, 0, int(np.argmax(painted))])[2]) if painted.any() else None


def draw(axes: Axes, phantom: Phantom, trait: Trait, height: float | None) -> None:
    """The slice with the most of the liver, or the one at a height; some traits from the front."""
    hu, mask, spacing = phantom.volume.hu, phantom.mask, phantom.volume.grid.spacing
    if trait in FROM_THE_FRONT:
        j = int(np.argmax(mask.sum(axis=(0, 2))))
        image, outline, aspect = hu[::-1, j], mask[::-1, j], spacing[2] / spacing[0]
    else:
        k = int(np.argmax(mask.sum(axis=(1, 2))))
        if height is not None:
            k = int(np.clip(round(float(phantom.volume.grid.to_voxel([0, 0, height])[2])), 0, len(hu) - 1))
        image, outline, aspect = hu[k], mask[k], 1.0
        rows, columns = (np.flatnonzero((image > MIN_BODY_HU).any(axis=axis)) for axis in (1, 0))
        body = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        image, outline = image[body], outline[body]
    axes.imshow(image, cmap="gray", vmin=-110, vmax=240, aspect=aspect)
    if outline.any():
        axes.contour(outline, [0.5], colors="#ff3030", linewidths=0.5)
    axes.set_title(str(trait), fontsize=9)
    axes.set_axis_off()


if __name__ == "__main__":
    main()
