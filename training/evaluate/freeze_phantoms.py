"""Freeze the sixty test phantoms of the fourth edition: make each once and write its hash down.

python -m training.evaluate.freeze_phantoms [--surfaces livers.npz] [--progress-folder FOLDER]
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from dissm_engine.atomic_file import write_json
from dissm_engine.errors import Reason
from dissm_engine.mesh import TriangleMesh
from dissm_phantom import Phantom, content_hash
from training.cli import published_surfaces
from training.errors import RunError
from training.evaluate.frozen_phantoms import FOURTH_EDITION_FILE, EvaluationPhantom, make_phantom
from training.evaluate.phantom_table import PhantomRecipe, phantom_table
from training.evaluate.visible_surface import visible_surface
from training.measurement_cache import cached_measurement, discard_measurements
from training.sources.source_at_path import open_source

ALREADY_FROZEN = Reason(
    "ALREADY_FROZEN",
    "{file} has the hashes of this edition's test phantoms already",
    "leave it: phantoms are only added to, with a table of their own",
)
TRAITS_DIFFER = Reason(
    "TRAITS_DIFFER",
    "test phantom {name} has the traits {found}, its recipe says {wanted}",
    "repair the generator before anything is frozen",
)
TRUTHS_DIFFER = Reason(
    "TRUTHS_DIFFER",
    "the true surface of test phantom {name} encloses {surface_ml:.0f} ml within the scan, its true mask "
    "{mask_ml:.0f} ml, and their middles lie {apart_mm:.1f} mm apart",
    "repair the generator before anything is frozen",
)
_MAX_VOLUME_DIFFERENCE = 0.05
_MAX_MIDDLES_APART_MM = 4.0
_ABOUT = (
    "Never eased, only added to. The table is training/evaluate/phantom_table.py, written before any training of the "
    "fourth edition; sha256: of the scan, taken when the refinement had made 3000 steps on bodies of other livers. "
    "open: may be looked at while a model is made; the others are judged with --final only."
)
_log = logging.getLogger("freeze-phantoms")


def main() -> None:
    """Read the arguments, freeze."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--surfaces", type=Path, help="default: the published surfaces")
    arguments.add_argument("--progress-folder", type=Path, default=Path("runs/freeze"), help="hashes so far")
    given = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    target = Path(__file__).parent / FOURTH_EDITION_FILE
    freeze(phantom_table(), given.surfaces or published_surfaces(), target, given.progress_folder)


def freeze(recipes: Iterable[PhantomRecipe], surfaces: Path, target: Path, progress_folder: Path) -> None:
    """Write a file of frozen phantoms. A run that was killed goes on with the phantom that it had reached.

    Args:
        recipes: What to make.
        surfaces: Source of the livers, as published.
        target: The file; it must not be there.
        progress_folder: Where hashes are kept until all are there. Remove it when the generator has changed.

    Raises:
        RunError: ALREADY_FROZEN; TRAITS_DIFFER where a body does not have what its recipe says; TRUTHS_DIFFER where
            surface and mask do not show the same organ.
    """
    if target.exists():
        raise RunError(ALREADY_FROZEN, file=target.name)
    livers = open_source(surfaces).load()
    frozen = []
    for recipe in recipes:
        phantom = EvaluationPhantom.of_recipe(recipe)
        measure = partial(_hash, phantom, livers[recipe.liver])
        sha256 = cached_measurement(progress_folder / f"{recipe.name}.json", measure, str, str)
        frozen.append(EvaluationPhantom.of_recipe(recipe, sha256).to_json())
        _log.info("%s %s: %s", recipe.name, recipe.category, sha256)
    write_json(target, {"about": _ABOUT, "phantoms": frozen})
    discard_measurements(progress_folder)


def _hash(phantom: EvaluationPhantom, liver: TriangleMesh) -> str:
    made = make_phantom(phantom, liver)
    found = {trait for trait in str(made.recipe.get("traits", "")).split("; ") if trait}
    wanted = {str(trait) for trait in phantom.traits}
    if found != wanted:
        raise RunError(TRAITS_DIFFER, name=phantom.name, found=sorted(found), wanted=sorted(wanted))
    require_one_truth(phantom.name, made)
    return content_hash(made)


def require_one_truth(name: str, made: Phantom) -> None:
    """Raise RunError(TRUTHS_DIFFER) unless a phantom's true surface and its true mask show the same organ."""
    grid, surface = made.volume.grid, visible_surface(made.liver_mesh, made.volume.grid)
    mask_ml = float(made.mask.sum() * grid.voxel_ml)
    middle = grid.to_lps(np.argwhere(made.mask).mean(axis=0)[::-1])
    apart_mm = float(np.linalg.norm(surface.trimesh.center_mass - middle))
    if abs(surface.volume_ml / mask_ml - 1) > _MAX_VOLUME_DIFFERENCE or apart_mm > _MAX_MIDDLES_APART_MM:
        raise RunError(TRUTHS_DIFFER, name=name, surface_ml=surface.volume_ml, mask_ml=mask_ml, apart_mm=apart_mm)


if __name__ == "__main__":
    main()
