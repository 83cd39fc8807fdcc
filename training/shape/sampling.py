"""Coordinates and signed distances to train the decoder on (appendix A.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dissm_engine.atomic_file import open_atomic
from dissm_engine.mesh import TriangleMesh
from dissm_engine.progress import Progress, no_progress
from dissm_engine.shape.distance import signed_distance_to_mesh, surface_points
from training.shape.alignment import Alignment
from training.shape.shape_settings import ShapePreset


def sample_shape(
    mesh: TriangleMesh, preset: ShapePreset, rng: np.random.Generator, reach: float = 1.0
) -> npt.NDArray[np.float16]:
    """[N, 4] float16: canonical x, y, z and signed distance, inside points first.

    20 % even in the sphere, the rest near the surface with one of two jitters at equal odds. Coordinates are rounded to
    half precision before their distance is taken, so that the pairs stay exact. reach: that of the alignment.
    """
    even = int(preset.samples_per_shape * preset.uniform_share)
    direction = rng.normal(size=(even, 3))
    radius = reach * preset.sphere_radius * rng.random((even, 1)) ** (1 / 3)
    spread = direction / np.linalg.norm(direction, axis=1, keepdims=True) * radius
    near = surface_points(mesh, preset.samples_per_shape - even, rng)
    near += rng.normal(size=near.shape) * rng.choice(preset.jitter, size=(len(near), 1))
    points = np.concatenate([spread, near]).astype(np.float16)
    distance = signed_distance_to_mesh(points.astype(np.float64), mesh)
    pairs = np.concatenate([points, distance[:, None].astype(np.float16)], axis=1)
    return np.asarray(pairs[np.argsort(distance >= 0, kind="stable")])


def sample_all(
    meshes: Mapping[str, TriangleMesh],
    alignment: Alignment,
    preset: ShapePreset,
    seed: int,
    folder: Path,
    progress: Progress = no_progress,
) -> None:
    """One `NAME.npy` of pairs for each liver in `folder`; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, mesh) in enumerate(sorted(meshes.items())):
        path = folder / f"{name}.npy"
        if not path.exists():
            rng = np.random.default_rng([seed, index])
            pairs = sample_shape(alignment.canonical(name, mesh), preset, rng, alignment.reach)
            with open_atomic(path) as stream:
                np.save(stream, pairs)
        progress("sample", (index + 1) / len(meshes))


@dataclass(frozen=True)
class Samples:
    """All shapes' pairs in memory.

    pairs: float16 [K, N, 4], each shape's inside points first. inside: int64 [K], how many they are.
    """

    pairs: torch.Tensor
    inside: torch.Tensor

    @staticmethod
    def read(folder: Path, names: list[str]) -> Samples:
        """The pairs of the livers `names`, in that order."""
        arrays = [np.load(folder / f"{name}.npy") for name in names]
        return Samples(
            torch.from_numpy(np.stack(arrays)),
            torch.tensor([int((array[:, 3] < 0).sum()) for array in arrays]),
        )

    def draw(self, shapes: torch.Tensor, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Coordinates [B, count, 3] and distances [B, count] of the shapes [B], half inside and half outside (A.2)."""
        uniform = torch.rand((len(shapes), count), generator=generator)
        inside = self.inside[shapes][:, None]
        total = self.pairs.shape[1]
        half = count // 2
        index = torch.cat([uniform[:, :half] * inside, inside + uniform[:, half:] * (total - inside)], dim=1)
        chosen = self.pairs[shapes[:, None], index.long().clamp_max(total - 1)].float()
        return chosen[..., :3], chosen[..., 3]
