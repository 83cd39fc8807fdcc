"""The refinement network in a run folder: safetensors and its description as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from dissm_engine.atomic_file import atomic_path, write_json
from dissm_engine.refine.refiner import Refiner, RefinerArchitecture

WEIGHTS_FILE, DESCRIPTION_FILE = "refine.safetensors", "refine.json"


def save_refiner(folder: Path, weights: Mapping[str, Tensor], architecture: RefinerArchitecture) -> None:
    """Write weights and description."""
    with atomic_path(folder / WEIGHTS_FILE) as path:
        save_file({name: value.cpu().contiguous() for name, value in weights.items()}, path)
    write_json(folder / DESCRIPTION_FILE, architecture.to_json(), indent=2)


def load_refiner(folder: Path) -> Refiner:
    """What `save_refiner` wrote. Raises OSError where it is missing."""
    description = json.loads((folder / DESCRIPTION_FILE).read_text())
    # Runs of older versions wrote the step as well.
    description.pop("step", None)
    return Refiner.from_tensors(load_file(folder / WEIGHTS_FILE), RefinerArchitecture.from_json(description))
