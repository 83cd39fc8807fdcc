"""A contact sheet of the liver's variants: each seen from the front, from the left and from below.

python docs/draw_liver_shapes.py LIVERS.npz OUT.png [--livers amos_010 amos_030] [--seed 1]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy import ndimage

from dissm_engine.atomic_file import open_atomic
from dissm_engine.mesh import TriangleMesh
from dissm_phantom.liver_shapes import liver_of_shape
from dissm_phantom.shape_deformation import field_of
from dissm_phantom.variety import LIVER_SHAPES, trait_generator
from training.sources.source_at_path import open_source

VIEWS = ("front", "left", "below")
LIGHT = np.array([0.35, -0.45, 0.82])
EXTENT_MM = np.array([200.0, 150.0, 190.0])
"""Half of what is shown along x, y, z."""


def view(inside: npt.NDArray[np.bool_], direction: str) -> npt.NDArray[np.float32]:
    """Grey levels 0..1 [rows, columns] of a lit solid; the patient's right is on the left in front and below."""
    along = inside[:, :, ::-1] if direction == "left" else inside
    axis = {"front": 1, "left": 2, "below": 0}[direction]
    hit, depth = (
        np.asarray(along.any(axis=axis)),
        ndimage.gaussian_filter(along.argmax(axis=axis).astype(np.float32), 0.6),
    )
    # Image rows run downwards: z is turned for the upright views.
    picture, seen = (depth, hit) if direction == "below" else (depth[::-1], hit[::-1])
    picture = np.where(seen, picture, picture[seen].max() + 20)
    down, right = np.gradient(picture)
    normal = np.stack([right, down, np.ones_like(picture)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lit = np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)
    return np.where(seen, 0.15 + 0.8 * lit, 1.0).astype(np.float32)


def sheet(livers: dict[str, TriangleMesh], seed: int) -> Figure:
    """A row for each shape, three views for each liver; the ordinary livers first."""
    rows = [None, *LIVER_SHAPES]
    figure = Figure(figsize=(2.2 * len(VIEWS) * len(livers), 1.9 * len(rows)), dpi=90, layout="tight")
    axes = figure.subplots(len(rows), len(VIEWS) * len(livers), squeeze=False)
    for row, shape in enumerate(rows):
        for number, (name, liver) in enumerate(livers.items()):
            middle = (liver.vertices.min(axis=0) + liver.vertices.max(axis=0)) / 2
            mesh = liver if shape is None else liver_of_shape(liver, shape, trait_generator(seed + number, shape))
            inside = field_of(mesh, middle - EXTENT_MM, middle + EXTENT_MM).mm < 0
            for column, direction in enumerate(VIEWS):
                own = axes[row, len(VIEWS) * number + column]
                own.imshow(view(inside, direction), cmap="gray", vmin=0, vmax=1)
                own.set_axis_off()
                if column == 0:
                    own.set_title(f"{name}: {shape or 'as it is'}, {mesh.volume_ml:.0f} ml", fontsize=8, loc="left")
    return figure


def main() -> None:
    """The script's entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("surfaces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--livers", nargs="+", default=["amos_010", "amos_030"])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    source = open_source(given.surfaces).load()
    with open_atomic(given.out) as stream:
        sheet({name: source[name] for name in given.livers}, given.seed).savefig(stream, format="png")


if __name__ == "__main__":
    main()
