"""Contact sheet of forty odd bodies: two of every category of the frozen set B, of livers that training may see.

python docs/draw_bodies.py SURFACES.npz OUT.jpg [--seed 9001]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from dissm_phantom import Phantom
from training.evaluate.frozen_phantoms import EvaluationPhantom, make_phantom
from training.evaluate.phantom_table import PhantomRecipe, PhantomSet, phantom_table
from training.sources.held_out import split_livers
from training.sources.source_at_path import open_source

COLUMNS = 4
WINDOW_HU = (-110, 240)


def main() -> None:
    """Read the arguments, make forty bodies, draw an axial and a coronal slice of each."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("surfaces", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--seed", type=int, default=9001)
    given = arguments.parse_args()
    livers = open_source(given.surfaces).load()
    names = split_livers(livers).training
    recipes = [recipe for recipe in phantom_table() if recipe.set is PhantomSet.ODD]
    rows = -(-len(recipes) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * 4.6, rows * 2.2))
    grid = GridSpec(rows, 2 * COLUMNS, figure, 0, 0, 1, 0.985, wspace=0.01, hspace=0.1)
    for number, recipe in enumerate(recipes):
        row, column = divmod(number, COLUMNS)
        axial = figure.add_subplot(grid[row, 2 * column])
        coronal = figure.add_subplot(grid[row, 2 * column + 1])
        liver = names[(7 * number) % len(names)]
        draw(axial, coronal, recipe, make_phantom(of_training(recipe, liver, given.seed + number), livers[liver]))
        print(recipe.category, recipe.traits, liver, flush=True)
    figure.savefig(given.out, dpi=60, pil_kwargs={"quality": 88})


def of_training(recipe: PhantomRecipe, liver: str, seed: int) -> EvaluationPhantom:
    """A body like a frozen one, of another liver and seed."""
    return EvaluationPhantom(liver, seed, edition=4, set=recipe.set, category=recipe.category, traits=recipe.traits)


def draw(axial: Axes, coronal: Axes, recipe: PhantomRecipe, phantom: Phantom) -> None:
    """The slices in which most of the liver is seen, with the true outline."""
    hu, mask, spacing = phantom.volume.hu, phantom.mask, phantom.volume.grid.spacing
    k, j = int(np.argmax(mask.sum(axis=(1, 2)))), int(np.argmax(mask.sum(axis=(0, 2))))
    for axes, image, outline, aspect in (
        (axial, hu[k], mask[k], spacing[1] / spacing[0]),
        (coronal, hu[::-1, j], mask[::-1, j], spacing[2] / spacing[0]),
    ):
        axes.imshow(image, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
        axes.contour(outline, [0.5], colors="#ff3030", linewidths=0.6)
        axes.set_axis_off()
    axial.set_title(", ".join(str(trait).replace("_", " ") for trait in recipe.traits), fontsize=8, loc="left")


if __name__ == "__main__":
    main()
