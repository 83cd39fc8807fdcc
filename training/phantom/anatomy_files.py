"""Anatomies on disk: one compressed npz each, in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from dissm_engine.atomic_file import open_atomic
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid, SignedDistance
from dissm_phantom.anatomy import Anatomy, Recipe
from dissm_phantom.variety import Trait

AnatomyPart = Literal["training", "validation"]
ANATOMY_FOLDERS: Mapping[AnatomyPart, str] = MappingProxyType(
    {"training": "anatomies", "validation": "validation_anatomies"}
)
"""Where the anatomies of a part lie in the run folder."""

_LIMIT_MM = 60.0


@dataclass(frozen=True)
class StoredAnatomy:
    """An anatomy and where it comes from.

    labels: uint8 [K, J, I]. liver: signed distance in mm, limited to +-60 mm, stored in half precision.
    liver_mesh: LPS mm. body_from_liver: float64 [4, 4]. liver_name: the surface it was built around. seed: of the body.
    traits: what the body has beyond the ordinary.
    """

    labels: npt.NDArray[np.uint8]
    liver: SignedDistance
    liver_mesh: TriangleMesh
    body_from_liver: npt.NDArray[np.float64]
    liver_name: str
    seed: int
    recipe: Recipe
    traits: frozenset[Trait] = frozenset()

    @property
    def grid(self) -> Grid:
        """Where the labels lie."""
        return self.liver.grid

    @property
    def truncated(self) -> bool:
        """Whether the body ends within the liver, as where a scan's field of view cut it."""
        return self.recipe["truncated"] != "none"

    @property
    def anatomy(self) -> Anatomy:
        """For the scanner."""
        return Anatomy(self.labels, self.liver, self.liver_mesh, self.body_from_liver, self.recipe, self.traits)


def save_anatomy(path: Path, anatomy: Anatomy, liver_name: str, seed: int) -> None:
    """Write an anatomy to a compressed npz, whole or not at all."""
    with open_atomic(path) as stream:
        np.savez_compressed(
            stream,
            labels=anatomy.labels,
            liver_mm=np.clip(anatomy.liver.mm, -_LIMIT_MM, _LIMIT_MM).astype(np.float16),
            lps_from_voxel=anatomy.grid.lps_from_voxel,
            vertices=anatomy.liver_mesh.vertices.astype(np.float32),
            faces=anatomy.liver_mesh.faces.astype(np.int32),
            body_from_liver=anatomy.body_from_liver,
            about=json.dumps(
                {
                    "liver": liver_name,
                    "seed": seed,
                    "recipe": dict(anatomy.recipe),
                    "traits": sorted(anatomy.traits),
                }
            ),
        )


def load_anatomy(path: Path) -> StoredAnatomy:
    """What `save_anatomy` wrote. Raises OSError if it is missing."""
    with np.load(path) as stored:
        about = json.loads(str(stored["about"]))
        labels = stored["labels"]
        grid = Grid((labels.shape[0], labels.shape[1], labels.shape[2]), stored["lps_from_voxel"])
        return StoredAnatomy(
            labels=labels,
            liver=SignedDistance(stored["liver_mm"].astype(np.float32), grid),
            liver_mesh=TriangleMesh(stored["vertices"].astype(np.float64), stored["faces"].astype(np.int64)),
            body_from_liver=stored["body_from_liver"],
            liver_name=about["liver"],
            seed=int(about["seed"]),
            recipe=about["recipe"],
            traits=frozenset(Trait(name) for name in about.get("traits", ())),
        )


def stored_liver_name(path: Path) -> str:
    """The name of the surface that a stored anatomy was built around, without reading the rest of it."""
    with np.load(path) as stored:
        return str(json.loads(str(stored["about"]))["liver"])


def anatomy_files(run_folder: Path, part: AnatomyPart = "training") -> list[Path]:
    """Every finished anatomy of a run, in order: around the livers for training, or around those for validation."""
    return sorted((run_folder / ANATOMY_FOLDERS[part]).glob("[0-9][0-9][0-9][0-9].npz"))
