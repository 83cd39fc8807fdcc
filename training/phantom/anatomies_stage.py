"""Stage "anatomies": bodies around the training livers, for every network that sees images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dissm_engine.mesh import TriangleMesh
from dissm_engine.progress import Progress
from dissm_phantom.anatomy import build_anatomy
from training.context import RunContext
from training.phantom.anatomy_files import save_anatomy
from training.phantom.phantom_settings import PhantomPreset
from training.sources.surfaces_stage import load_surfaces

_SEEDS_APART = 100_000
"""Seeds of training bodies lie above this, those of the frozen test phantoms below."""


def run_anatomies(context: RunContext) -> None:
    """Fill `anatomies/` of the run folder; bodies that are there already are kept."""
    build_anatomies(
        load_surfaces(context.folder),
        context.preset.phantom,
        context.seed,
        context.folder / "anatomies",
        context.progress,
    )


def build_anatomies(
    livers: Mapping[str, TriangleMesh], preset: PhantomPreset, seed: int, folder: Path, progress: Progress
) -> None:
    """`NNNN.npz` for every liver and round; the livers change fastest, so that a part of the set holds them all."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(livers)
    total = len(names) * preset.bodies_per_liver
    for number in range(total):
        name, path = names[number % len(names)], folder / f"{number:04d}.npz"
        if not path.exists():
            own = _SEEDS_APART + seed * 10_000 + number
            save_anatomy(path, build_anatomy(livers[name], own, deform=True), name, own)
        progress("anatomies", (number + 1) / total)
