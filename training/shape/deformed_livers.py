"""Training livers changed into the known variants, so that the shape model can say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_engine.progress import Progress, no_progress
from dissm_phantom.liver_shapes import liver_of_shape
from dissm_phantom.placement import change_of_size, deformed
from dissm_phantom.variety import LIVER_SHAPES, SIZES, Trait
from training.sources.meshes import read_mesh, write_mesh
from training.sources.repair import decimated, repaired

_BENT_MM = (2.0, 6.0)
_SEED = 41


@dataclass(frozen=True)
class DeformedLiver:
    """A training liver in another shape.

    Attributes:
        name: Of its own.
        origin: Name of the liver it was made of.
        shape: Which of the `LIVER_SHAPES` it has.
        mesh: LPS mm, in the frame of the liver it was made of.
    """

    name: str
    origin: str
    shape: Trait
    mesh: TriangleMesh

    def pose(self, origin: TriangleMesh, of_origin: Pose) -> Pose:
        """image_from_reference: that of its origin, and the change of size where that is what the shape is."""
        if self.shape not in SIZES:
            return of_origin
        change = change_of_size(origin, self.mesh)
        factor = float(change[0, 0])
        return Pose(factor * of_origin.translation + change[:3, 3], factor * of_origin.scale, of_origin.rotation)


def prepare_deformed(
    livers: Mapping[str, TriangleMesh], per_liver: int, seed: int, folder: Path, progress: Progress = no_progress
) -> list[DeformedLiver]:
    """Every liver changed `per_liver` times, each bent a little first; the shapes take turns.

    Args:
        livers: Prepared training surfaces by name, LPS mm.
        per_liver: How many of each.
        seed: Of everything that is drawn.
        folder: One npz each is kept here; those that are there already are only read.
        progress: Told after each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    for index, name in enumerate(sorted(livers)):
        for number in range(per_liver):
            turn = index * per_liver + number
            shape = _shape_of_turn(turn, seed)
            path = folder / f"{name}-{number}.npz"
            if not path.exists():
                write_mesh(path, _changed(livers[name], shape, np.random.default_rng([seed, _SEED, turn])))
            result.append(DeformedLiver(path.stem, name, shape, read_mesh(path)))
            progress("deform", len(result) / (per_liver * len(livers)))
    return result


def _shape_of_turn(turn: int, seed: int) -> Trait:
    """Every ten turns have every shape, in an order of their own."""
    lap, place = divmod(turn, len(LIVER_SHAPES))
    order = np.random.default_rng([seed, _SEED, lap, 1]).permutation(len(LIVER_SHAPES))
    return LIVER_SHAPES[int(order[place])]


def _changed(liver: TriangleMesh, shape: Trait, rng: np.random.Generator) -> TriangleMesh:
    """The changed surface with about as many faces as the given one."""
    bent = deformed(liver, rng, float(rng.uniform(*_BENT_MM)))
    changed = liver_of_shape(bent, shape, rng)
    return repaired(decimated(changed, len(liver.faces) / len(changed.faces)))
