"""Training cases of the pose agent: painted anatomies at coarse spacing, with distance samples in image space (B.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dissm_engine.pose.observation import CoarseImage
from dissm_engine.pose.similarity import Pose
from dissm_engine.volume import Grid, SignedDistance

SDF_LIMIT_MM = 40.0
BAND_MM = 13.0
_UNIFORM_SHARE = 0.1
_CUT_ODDS = 0.4
_SIDE_CUT_ODDS = 0.2
_KEPT_OF_LIVER = 0.5
_GAIN = 0.1
_SHIFT_HU = 15.0


@dataclass(frozen=True)
class Scene:
    """One anatomy as the agent's training sees it.

    liver: name of the surface it was built around. paints: files of int16 HU [K, J, I], one an appearance.
    voxel_from_lps: float64 [4, 4] of the painted grid. samples: float32 [P, 4], LPS mm and true signed distance in mm.
    target_pose: pose of the shape model in this body, as far as alignment and placement tell.
    """

    liver: str
    paints: tuple[Path, ...]
    voxel_from_lps: npt.NDArray[np.float64]
    samples: npt.NDArray[np.float32]
    target_pose: Pose

    def image(self, rng: np.random.Generator | None = None, fields_of_view: bool = False) -> CoarseImage:
        """The first appearance as it is, or a random one with random brightness, gain and, if asked, field of view."""
        chosen = self.paints[0] if rng is None else self.paints[rng.integers(len(self.paints))]
        hu = torch.from_numpy(np.load(chosen).astype(np.float32))
        high = torch.tensor(hu.shape[::-1], dtype=torch.float32) - 1
        image = CoarseImage(hu, torch.from_numpy(self.voxel_from_lps.astype(np.float32)), torch.zeros(3), high)
        if rng is None:
            return image
        hu.mul_(rng.uniform(1 - _GAIN, 1 + _GAIN)).add_(rng.uniform(-_SHIFT_HU, _SHIFT_HU))
        return self._cut(image, rng) if fields_of_view else image

    def _cut(self, image: CoarseImage, rng: np.random.Generator) -> CoarseImage:
        """A smaller field of view that keeps at least half of the liver's extent along each axis."""
        surface = self.samples[np.abs(self.samples[:, 3]) < BAND_MM, :3]
        matrix = self.voxel_from_lps
        ijk = surface @ matrix[:3, :3].T + matrix[:3, 3]
        liver_low, liver_high = ijk.min(axis=0), ijk.max(axis=0)
        spared = (1 - _KEPT_OF_LIVER) * (liver_high - liver_low)
        low, high = image.low.numpy().copy(), image.high.numpy().copy()
        for axis, odds in ((0, _SIDE_CUT_ODDS), (1, _SIDE_CUT_ODDS), (2, _CUT_ODDS)):
            below = spared[axis] * rng.random()
            if rng.random() < odds:
                low[axis] = rng.uniform(low[axis], max(low[axis], liver_low[axis] + below))
            if rng.random() < odds:
                high[axis] = rng.uniform(min(high[axis], liver_high[axis] - spared[axis] + below), high[axis])
        return replace(image, low=torch.from_numpy(low), high=torch.from_numpy(high))

    def drawn_samples(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """So many of the samples, [count, 4]."""
        return self.samples[rng.integers(len(self.samples), size=count)]


def distance_samples(liver: SignedDistance, count: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """[count, 4] LPS mm and distance: within 13 mm of the surface and 10 % uniform, half inside, half outside (B.1)."""
    flat = liver.mm.reshape(-1)
    uniform = round(count * _UNIFORM_SHARE / (1 + _UNIFORM_SHARE) / 2)
    near = count // 2 - uniform
    chosen = []
    for side in (flat < 0, flat >= 0):
        band, anywhere = np.flatnonzero(side & (np.abs(flat) < BAND_MM)), np.flatnonzero(side)
        chosen += [rng.choice(band, near), rng.choice(anywhere, uniform)]
    index = np.concatenate(chosen)
    k, j, i = np.unravel_index(index, liver.mm.shape)
    lps = liver.grid.to_lps(np.stack([i, j, k], axis=-1))
    values = np.clip(flat[index], -SDF_LIMIT_MM, SDF_LIMIT_MM)
    return np.concatenate([lps, values[:, None]], axis=1).astype(np.float32)


def pose_from_matrix(image_from_reference: npt.NDArray[np.float64]) -> Pose:
    """The pose nearest to an affine map [4, 4]: its polar rotation, and scales along the reference axes."""
    linear = image_from_reference[:3, :3]
    u, _, vt = np.linalg.svd(linear)
    return Pose(image_from_reference[:3, 3].copy(), np.linalg.norm(linear, axis=0), u @ vt)


def subsampled(grid: Grid, spacing_mm: float) -> tuple[int, Grid]:
    """The whole step that brings a grid near to `spacing_mm`, and the grid of every step-th voxel."""
    step = max(1, round(spacing_mm / float(grid.spacing.min())))
    k, j, i = (-(-size // step) for size in grid.shape)
    affine = grid.lps_from_voxel.copy()
    affine[:3, :3] *= step
    return step, Grid((k, j, i), affine)
