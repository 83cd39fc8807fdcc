"""Wrong priors on purpose: what the refinement must be able to correct (appendix C, last paragraph; D9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_LUMP_STRIDE = 41
_SURFACE_VOXELS = 0.75
_MAX_SURFACE_POINTS = 4000


@dataclass(frozen=True, slots=True)
class PriorErrors:
    """How far a prior may be from the truth.

    shift_mm, rotation_degrees, scale: standard deviations of a similarity about the patch's centre.
    warp_mm: largest standard deviation of a smooth displacement with a correlation length of warp_length_mm.
    lump_share: share of the draws with lumps: balls of a radius within lump_mm put on or taken away, as when the shape
    model reaches into the spleen or misses a lobe.
    blur_mm: largest Gaussian that takes tips and fissures away. offset_mm: standard deviation of a uniform inflation.
    centring: share of the inward bias that is taken off. Moved or blurred, the distance to a convex surface grows in
    the mean, whichever way it is moved (Jensen's inequality): with 0 a drawn prior lies 1.5 mm inside the truth on the
    average (the mean of its field over the true surface), with 1 it does not.
    """

    shift_mm: float = 5.0
    rotation_degrees: float = 4.0
    scale: float = 0.05
    warp_mm: float = 10.0
    warp_length_mm: tuple[float, float] = (24.0, 60.0)
    blur_mm: float = 12.0
    offset_mm: float = 1.5
    lump_share: float = 0.4
    lump_mm: tuple[float, float] = (14.0, 42.0)
    centring: float = 1.0


def perturbed_prior(
    truth_mm: Tensor,
    start: tuple[int, int, int],
    size: int,
    spacing: float,
    errors: PriorErrors,
    rng: np.random.Generator,
) -> Tensor:
    """A perturbed copy of the true SDF, [size, size, size] mm, for the patch that begins at voxel `start`.

    truth_mm: float32 [K, J, I], the whole liver's field, so that the warp may fetch what lies beyond the patch.
    """
    strength = float(rng.choice([0.3, 1.0, 1.6], p=[0.25, 0.55, 0.2]))
    displacement = _smooth_displacement(size, spacing, errors, strength, rng)
    axis = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * spacing
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    turn_and_scale = _drawn_turn_and_scale(errors, strength, rng)
    shift = torch.from_numpy((rng.normal(0, errors.shift_mm * strength, 3)).astype(np.float32))
    centre = torch.tensor([s + (size - 1) / 2 for s in start])
    matrix, reverse = (_similarity(sign * turn_and_scale) for sign in (1.0, -1.0))
    field = _trilinear(truth_mm, (grid @ matrix.T + shift + displacement) / spacing + centre)
    on_surface = _surface_points(truth_mm, start, size, spacing)
    if errors.centring:
        # What the draw and its reverse both do to the field; what they do in turns is the error that is meant.
        back = grid[on_surface] @ reverse.T - shift - displacement[on_surface]
        reversed_field = _trilinear(truth_mm, back / spacing + centre)
        true_field = _trilinear(truth_mm, grid[on_surface] / spacing + centre)
        field = field - errors.centring * _mean((field[on_surface] + reversed_field) / 2 - true_field)
    if rng.random() < 0.5:
        # Blurring a signed distance field rounds its tips and fills its fissures, as a low-dimensional shape does.
        sigma = rng.uniform(1.0, errors.blur_mm) / spacing
        blurred = torch.from_numpy(ndimage.gaussian_filter(field.numpy(), sigma, mode="nearest", truncate=2.0))
        field = blurred - errors.centring * _mean((blurred - field)[on_surface])
    if rng.random() < errors.lump_share:
        field = _with_lumps(field, spacing, errors, rng)
    return field + float(rng.normal(0, errors.offset_mm * strength))


def _surface_points(truth_mm: Tensor, start: tuple[int, int, int], size: int, spacing: float) -> tuple[Tensor, ...]:
    """Indices into the patch of at most some thousand voxels that the true surface passes through."""
    k, j, i = (slice(first, first + size) for first in start)
    found = torch.nonzero(truth_mm[k, j, i].abs() < _SURFACE_VOXELS * spacing)
    return found[:: max(1, -(-len(found) // _MAX_SURFACE_POINTS))].unbind(-1)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0


def _with_lumps(field: Tensor, spacing: float, errors: PriorErrors, rng: np.random.Generator) -> Tensor:
    """One to three stretched balls united with the shape, or cut out of it, with centres near its surface."""
    axis = torch.arange(len(field), dtype=torch.float32) * spacing
    for _ in range(int(rng.integers(1, 4))):
        near = torch.nonzero(field.flatten()[::_LUMP_STRIDE].abs() < 18).flatten()
        if len(near) == 0:
            return field
        flat = int(near[int(rng.integers(len(near)))]) * _LUMP_STRIDE
        centre = [float(c) * spacing for c in np.unravel_index(flat, tuple(field.shape))]
        radius, stretch = rng.uniform(*errors.lump_mm), rng.uniform(0.6, 1.4, 3)
        k, j, i = (((axis - c) / s) ** 2 for c, s in zip(centre, stretch, strict=True))
        ball = (k[:, None, None] + j[None, :, None] + i[None, None, :]).sqrt() - radius
        field = torch.minimum(field, ball) if rng.random() < 0.65 else torch.maximum(field, -ball)
    return field


def _drawn_turn_and_scale(errors: PriorErrors, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Angles (radians) about three axes, then the logarithms of three scales."""
    angles = np.deg2rad(rng.normal(0, errors.rotation_degrees * strength, 3))
    return np.concatenate([angles, rng.normal(0, errors.scale * strength, 3)])


def _similarity(turn_and_scale: np.ndarray) -> Tensor:
    """Float32 [3, 3]; the negative of a draw gives, to the second order, the inverse."""
    angles, scale = turn_and_scale[:3], np.exp(turn_and_scale[3:])
    skew = np.array([[0, -angles[2], angles[1]], [angles[2], 0, -angles[0]], [-angles[1], angles[0], 0]])
    return torch.from_numpy(((np.eye(3) + skew + skew @ skew / 2) * scale[None, :]).astype(np.float32))


def _smooth_displacement(
    size: int, spacing: float, errors: PriorErrors, strength: float, rng: np.random.Generator
) -> Tensor:
    total = torch.zeros((1, 3, size, size, size))
    for _ in range(2):
        length = rng.uniform(*errors.warp_length_mm)
        knots = max(3, int(np.ceil(size * spacing / length)) + 2)
        amplitude = rng.uniform(0, errors.warp_mm) * strength
        noise = torch.from_numpy(rng.normal(0, amplitude, (1, 3, knots, knots, knots)).astype(np.float32))
        total += torch.nn.functional.interpolate(noise, size=(size,) * 3, mode="trilinear", align_corners=True)
    return total[0].permute(1, 2, 3, 0)


def _trilinear(field: Tensor, voxels_kji: Tensor) -> Tensor:
    size = torch.tensor(field.shape, dtype=torch.float32)
    unit = (2 * voxels_kji / (size - 1) - 1).flip(-1).reshape(1, 1, 1, -1, 3)
    sampled = torch.nn.functional.grid_sample(
        field[None, None], unit, mode="bilinear", padding_mode="border", align_corners=True
    )
    return sampled.reshape(voxels_kji.shape[:-1])
