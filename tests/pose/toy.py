"""A shape model that can be written down, and images of it: ellipsoids whose one loading stretches them along z."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dissm_engine.pose.similarity import Pose
from dissm_engine.volume import Grid, SignedDistance, Volume, axis_aligned_grid
from training.pose.scenes import Scene, distance_samples

MM_PER_UNIT = 100.0
RADII = torch.tensor([0.8, 0.6, 0.5])
STRETCH = 0.1


class Ellipsoids:
    """Canonical ellipsoid; loading 0 scales its z radius by exp(0.1 loading). Distances are first order."""

    mm_per_unit = MM_PER_UNIT
    trained_radius = 1.1

    def latent(self, loadings: torch.Tensor) -> torch.Tensor:
        return loadings

    def canonical_sdf(self, points: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        stretch = torch.exp(STRETCH * latent[:, :1])
        radii = RADII * torch.cat([torch.ones_like(stretch), torch.ones_like(stretch), stretch], dim=1)
        scaled = points / radii[:, None]
        norm = scaled.norm(dim=-1).clamp(min=1e-6)
        return norm * (norm - 1) / (scaled / radii[:, None]).norm(dim=-1).clamp(min=1e-6)


def true_field(pose: Pose, loading: float, grid: Grid) -> SignedDistance:
    reference = torch.from_numpy(pose.to_reference(grid.points_lps()) / MM_PER_UNIT).float().reshape(1, -1, 3)
    sdf = Ellipsoids().canonical_sdf(reference, torch.tensor([[loading]]))[0].reshape(grid.shape)
    return SignedDistance((sdf * MM_PER_UNIT * float(np.prod(pose.scale)) ** (1 / 3)).numpy(), grid)


def bright_ellipsoid(pose: Pose, loading: float, grid: Grid, rng: np.random.Generator) -> Volume:
    field = true_field(pose, loading, grid)
    hu = np.where(field.mm < 0, 110.0, -60.0) + rng.normal(0, 8, grid.shape)
    return Volume(hu.astype(np.float32), grid.lps_from_voxel)


def random_pose(rng: np.random.Generator, wander_mm: float = 50.0) -> Pose:
    return Pose(rng.uniform(-wander_mm, wander_mm, 3), rng.uniform(0.85, 1.15, 3), np.eye(3))


def body_grid() -> Grid:
    return axis_aligned_grid(np.full(3, -150.0), np.full(3, 150.0), 6.0)


def toy_scene(folder: Path, number: int, rng: np.random.Generator, loading: float = 0.0) -> Scene:
    grid, pose = body_grid(), random_pose(rng)
    volume = bright_ellipsoid(pose, loading, grid, rng)
    paint = folder / f"{number:04d}-0.npy"
    np.save(paint, volume.hu.astype(np.int16))
    samples = distance_samples(true_field(pose, loading, grid), 800, rng)
    return Scene(f"toy_{number:03d}", (paint,), grid.voxel_from_lps, samples, pose)
