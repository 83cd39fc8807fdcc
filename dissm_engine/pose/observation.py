"""What the agent sees of an image under its current pose (paper 3.2; both frames behind one switch).

`image` frame, as the paper: the image stands still, the mean shape's distance moves with the pose.
`pose` frame: the image is resampled into the reference frame of the pose, the shape stands still; smaller grids serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as torch_functional

from dissm_engine.pose.similarity import PoseBatch
from dissm_engine.preprocessing import HU_WINDOW, POSE_SPACING_MM
from dissm_engine.volume import AIR_HU, Grid, Volume, covering_grid, resample

_SDF_REACH_MM = 30.0
_SIGMA_LIMITS_HU = (12.0, 60.0)
_MIN_INSIDE_VOXELS = 50
_DECODER_CHUNK = 8192
_AXIS_TOLERANCE = 0.02
"""Of a voxel's way along another axis: about a degree."""


class ImplicitShape(Protocol):
    """What the agent needs of a shape model: a decoder with loadings, and its unit."""

    @property
    def mm_per_unit(self) -> float:
        """Millimetres in one canonical unit."""

    @property
    def trained_radius(self) -> float:
        """Of the ball that the decoder was trained in, canonical units."""

    def latent(self, loadings: torch.Tensor) -> torch.Tensor:
        """Loadings [..., C] in standard deviations to latent codes [..., D]."""

    def canonical_sdf(self, points: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """Signed distance [B, N] in canonical units at canonical points [B, N, 3], negative inside."""


@dataclass(frozen=True)
class CoarseImage:
    """A CT as the agent samples it.

    Attributes:
        hu: float32 [K, J, I] on a regular grid.
        voxel_from_lps: float32 [4, 4].
        low, high: float32 [3], the first and the last voxel (i, j, k) that count as inside the field of view.
        view: float32 [K, J, I], 1 where an oblique CT reaches within that box; None where it fills the box.
    """

    hu: torch.Tensor
    voxel_from_lps: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    view: torch.Tensor | None = None

    @staticmethod
    def from_volume(volume: Volume, spacing_mm: float = POSE_SPACING_MM) -> CoarseImage:
        """The volume on an isotropic LPS grid, block-averaged."""
        working = resample(volume, covering_grid(volume.grid, spacing_mm), outside=AIR_HU)
        size = torch.tensor(working.hu.shape[::-1], dtype=torch.float32)
        return CoarseImage(
            torch.from_numpy(np.asarray(working.hu, dtype=np.float32)),
            torch.from_numpy(working.grid.voxel_from_lps.astype(np.float32)),
            torch.zeros(3),
            size - 1,
            _field_of_view(volume.grid, working.grid),
        )

    @cached_property
    def lps_from_voxel(self) -> torch.Tensor:
        """float32 [4, 4]."""
        inverse: torch.Tensor = torch.linalg.inv(self.voxel_from_lps)
        return inverse

    def box_lps(self) -> torch.Tensor:
        """[2, 3] LPS mm of the lowest and highest corner of the field of view."""
        corners = torch.stack([self.low, self.high]) @ self.lps_from_voxel[:3, :3].T + self.lps_from_voxel[:3, 3]
        return torch.stack([corners.amin(0), corners.amax(0)])

    def sample(self, points_lps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """HU [K, J, I] and inside-the-field-of-view (0 or 1) [K, J, I] at LPS points [K, J, I, 3]; air outside."""
        last = (torch.tensor(self.hu.shape[::-1], dtype=torch.float32) - 1).clamp(min=1)
        # One product takes LPS mm to grid_sample's units, -1 and 1 at the outermost voxel centres.
        unit = points_lps @ (self.voxel_from_lps[:3, :3] * (2 / last)[:, None]).T
        unit += self.voxel_from_lps[:3, 3] * (2 / last) - 1
        middle, reach = (self.low + self.high) / last - 1, (self.high - self.low + 1) / last
        inside = ((unit - middle).abs_() <= reach).all(dim=-1)
        hu = torch_functional.grid_sample(
            self.hu[None, None], unit[None], mode="bilinear", padding_mode="border", align_corners=True
        )[0, 0]
        if self.view is not None:
            inside &= torch_functional.grid_sample(self.view[None, None], unit[None], align_corners=True)[0, 0] > 0.5
        return hu.masked_fill_(~inside, AIR_HU), inside.float()


def _field_of_view(ct_grid: Grid, working: Grid) -> torch.Tensor | None:
    """Where an oblique CT lies on its covering grid; None for a CT whose axes are those of the grid, in any order."""
    turned = np.abs(ct_grid.lps_from_voxel[:3, :3]) > _AXIS_TOLERANCE * ct_grid.spacing
    if np.count_nonzero(turned) == len(turned):
        return None
    return torch.from_numpy((ct_grid.beyond_faces_mm(working.points_lps()) <= 0).astype(np.float32))


@dataclass(frozen=True)
class ShapeCanvas:
    """The shape model rasterised once on a coarse lattice of its reference frame, for observations only.

    The basis is a first-order stand-in that spares a rasterisation in each step; losses and results use the decoder.

    Attributes:
        mean_mm: Signed distance of the mean shape, float32 [R, R, R], mm.
        basis_mm: Central differences at plus and minus one standard deviation of each loading, float32 [C, R, R, R].
        half_width_mm: The lattice covers [-half_width_mm, half_width_mm]^3.
    """

    mean_mm: torch.Tensor
    basis_mm: torch.Tensor
    half_width_mm: float

    @staticmethod
    def of(shape: ImplicitShape, components: int, resolution: int = 36, half_width: float = 0.8) -> ShapeCanvas:
        """The canvas of a shape model.

        Args:
            shape: The shape model; its decoder is evaluated at every node of the lattice, once for each loading's sign.
            components: How many loadings the canvas follows.
            resolution: Nodes along each axis, R.
            half_width: Canonical units.
        """
        steps = torch.linspace(-half_width, half_width, resolution)
        z, y, x = torch.meshgrid(steps, steps, steps, indexing="ij")
        points = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
        cube = (resolution,) * 3

        def rasterised(loadings: torch.Tensor) -> torch.Tensor:
            latent = shape.latent(loadings[None])
            with torch.no_grad():
                parts = [shape.canonical_sdf(part[None], latent)[0] for part in torch.split(points, _DECODER_CHUNK)]
            return torch.cat(parts).reshape(cube) * shape.mm_per_unit

        units = torch.eye(components)
        basis = [(rasterised(unit) - rasterised(-unit)) / 2 for unit in units]
        mean = rasterised(torch.zeros(max(components, 1)))
        stacked = torch.stack(basis) if basis else torch.zeros(0, *cube)
        return ShapeCanvas(mean, stacked, half_width * shape.mm_per_unit)

    def sdf_mm(self, reference_mm: torch.Tensor, loadings: torch.Tensor) -> torch.Tensor:
        """Signed distance [B, K, J, I] at reference points [B, K, J, I, 3] of the shapes with loadings [B, C]."""
        moved = torch.einsum("bc,ckji->bkji", loadings[:, : len(self.basis_mm)], self.basis_mm)
        unit = reference_mm / self.half_width_mm
        beyond = (unit - unit.clamp(-1, 1)).norm(dim=-1) * self.half_width_mm
        distance: torch.Tensor = _sampled((self.mean_mm + moved)[:, None], unit)[:, 0] + beyond
        return distance

    def mean_and_basis_mm(self, reference_mm: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean's distance [N] and its change per loading [N, C] at reference points [N, 3] on the lattice."""
        unit = (reference_mm / self.half_width_mm)[None, None, None]
        values = _sampled(torch.cat([self.mean_mm[None], self.basis_mm])[None], unit)[0, :, 0, 0]
        return values[0], values[1:].T


def _sampled(lattices: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Trilinear samples [B, C, K, J, I] of lattices [B, C, R, R, R] at points [B, K, J, I, 3] in [-1, 1]."""
    return torch_functional.grid_sample(lattices, unit, mode="bilinear", padding_mode="border", align_corners=True)


@dataclass(frozen=True, slots=True)
class ObservationSpec:
    """What a stage is shown.

    Attributes:
        frame: `pose` or `image`, see the module.
        shape: (K, J, I) of the observation's grid.
        spacing_mm: Of the observation's grid.
        contrast: Whether to add the channel (I - median) / sigma, both taken inside the current shape.
        show_loadings: Whether the shape is drawn with its current loadings, not as the mean.
    """

    frame: Literal["pose", "image"]
    shape: tuple[int, int, int]
    spacing_mm: float
    contrast: bool
    show_loadings: bool

    @property
    def channels(self) -> int:
        """Image, field of view, signed distance, and contrast where it is asked for."""
        return 4 if self.contrast else 3

    def offsets_mm(self) -> torch.Tensor:
        """[K, J, I, 3] grid points around the origin, last axis (x, y, z)."""
        axes = [(torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * self.spacing_mm for n in self.shape]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        return torch.stack([x, y, z], dim=-1)


def observe(
    spec: ObservationSpec,
    images: list[CoarseImage],
    poses: PoseBatch,
    loadings: torch.Tensor,
    canvas: ShapeCanvas,
    centers_lps: torch.Tensor,
) -> torch.Tensor:
    """What a stage sees of B images under their poses.

    Args:
        spec: What the stage is shown.
        images: B of them.
        poses: B of them.
        loadings: float32 [B, C], standard deviations.
        canvas: Draws the shape.
        centers_lps: float32 [B, 3], where the grid of the image frame stands; the pose frame ignores it.

    Returns:
        float32 [B, channels, K, J, I]: windowed HU, field of view, signed distance, and contrast where it is asked for.
    """
    offsets = spec.offsets_mm()
    flat = offsets.reshape(1, -1, 3).expand(len(poses), -1, 3)
    if spec.frame == "pose":
        image_points, reference_points = poses.to_image(flat), flat
    else:
        image_points = flat + centers_lps[:, None]
        reference_points = poses.to_reference(image_points)
    grid = (len(poses), *spec.shape, 3)
    image_points = image_points.reshape(grid)
    samples = [image.sample(points) for image, points in zip(images, image_points, strict=True)]
    hu, inside = (torch.stack(parts) for parts in zip(*samples, strict=True))
    shown = loadings if spec.show_loadings else torch.zeros_like(loadings)
    sdf = canvas.sdf_mm(reference_points.reshape(grid), shown)
    clipped = hu.clamp(*HU_WINDOW)
    channels = [(clipped - sum(HU_WINDOW) / 2) / 200.0, inside, torch.tanh(sdf / _SDF_REACH_MM)]
    if spec.contrast:
        channels.append(_contrast(clipped, (sdf < 0) & (inside > 0)))
    return torch.stack(channels, dim=1)


def _contrast(hu: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(I - median) / sigma [B, K, J, I] in [-1, 1] (three sigma); zero where too little of the shape is seen."""
    result = torch.zeros_like(hu)
    for index in range(len(hu)):
        values = hu[index][inside[index]]
        if len(values) < _MIN_INSIDE_VOXELS:
            continue
        low, median, high = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75]))
        sigma = ((high - low) / 1.349).clamp(*_SIGMA_LIMITS_HU)
        result[index] = ((hu[index] - median) / (3 * sigma)).clamp(-1, 1)
    return result
