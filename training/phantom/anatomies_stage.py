"""Stage "anatomies": bodies around the livers for training, and around those for validation and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dissm_engine.mesh import TriangleMesh
from dissm_engine.progress import Progress
from dissm_phantom.anatomy import build_anatomy
from dissm_phantom.variety import Variety
from training.context import RunContext
from training.phantom.anatomy_files import ANATOMY_FOLDERS, AnatomyPart, save_anatomy
from training.sources.surfaces_stage import load_surfaces

_SEEDS_APART = 100_000
"""Seeds of training bodies lie above this, those of the frozen test phantoms below."""
_VALIDATION_SEEDS_APART = 5_000
"""By this much the seeds of validation bodies lie above those of the training bodies of the same run."""


def run_anatomies(context: RunContext) -> None:
    """Fill `anatomies/` and `validation_anatomies/` of the run folder; bodies that are there already are kept."""
    preset, seed = context.preset.phantom, _SEEDS_APART + context.seed * 10_000
    training = Bodies(preset.bodies_per_liver, preset.variety, seed)
    validation = Bodies(preset.validation_bodies_per_liver, preset.variety, seed + _VALIDATION_SEEDS_APART)
    parts: Mapping[AnatomyPart, Bodies] = {"training": training, "validation": validation}
    for part, bodies in parts.items():
        livers = load_surfaces(context.folder, part)
        build_anatomies(livers, bodies, context.folder / ANATOMY_FOLDERS[part], context.progress)


@dataclass(frozen=True)
class Bodies:
    """Which bodies are drawn around livers.

    Attributes:
        per_liver: How many.
        variety: How often they have which trait.
        first_seed: Of the first body; the others' follow.
    """

    per_liver: int
    variety: Variety
    first_seed: int


def build_anatomies(livers: Mapping[str, TriangleMesh], bodies: Bodies, folder: Path, progress: Progress) -> None:
    """`NNNN.npz` for every liver and round; the livers change fastest, so that a part of the set holds them all."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(livers)
    total = len(names) * bodies.per_liver
    for number in range(total):
        name, path = names[number % len(names)], folder / f"{number:04d}.npz"
        if not path.exists():
            seed = bodies.first_seed + number
            save_anatomy(path, build_anatomy(livers[name], seed, variety=bodies.variety), name, seed)
        progress("anatomies", (number + 1) / total)
