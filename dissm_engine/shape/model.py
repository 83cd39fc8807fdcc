"""The deep implicit statistical shape model: decoder, latent space, unit (paper 3.1; D4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as bytes_from_tensors

from dissm_engine.atomic_file import write_bytes, write_json
from dissm_engine.errors import SHAPE_MODEL_BROKEN, BundleError
from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_engine.shape.decoder import Decoder, DecoderArchitecture
from dissm_engine.shape.latent import LatentSpace
from dissm_engine.shape.meshing import mesh_of_field, projected_on_zero
from dissm_engine.shape.rasterise import EXACT_MM, Ball, rasterise
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid

WEIGHTS_FILE = "shape.safetensors"
DESCRIPTION_FILE = "shape.json"
_CHUNK_POINTS = 4096
_MIN_GRADIENT = 0.3
_FIRST_ORDER_MM = 6.0
"""Beyond it the decoder's own value is the better distance: near the medial axis its gradient vanishes."""


@dataclass(frozen=True, slots=True)
class ShapeArchitecture:
    """What must be known to build a shape model again from its tensors.

    Attributes:
        decoder: Of the neural signed distance decoder.
        mm_per_unit: Millimetres in one canonical unit.
        trained_radius: Canonical radius up to which the decoder has seen samples.
    """

    decoder: DecoderArchitecture
    mm_per_unit: float
    trained_radius: float

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain JSON values, for a bundle's manifest."""
        return {
            "decoder": self.decoder.to_json(),
            "mm_per_unit": self.mm_per_unit,
            "trained_radius": self.trained_radius,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> ShapeArchitecture:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError where a value is missing or wrong."""
        decoder = DecoderArchitecture.from_json(content["decoder"])
        return ShapeArchitecture(decoder, float(content["mm_per_unit"]), float(content["trained_radius"]))


@dataclass(frozen=True)
class ShapeModel:
    """The decoder f(x, z), the principal components of its codes, and what one canonical unit is in mm.

    Attributes:
        decoder: x [B, N, 3] in canonical units and z [B, D] to the signed distance [B, N] in canonical units.
        latent_space: The principal components of the codes z.
        mm_per_unit: The reference frame (mm) is the canonical frame times it.
        trained_radius: Canonical radius up to which the decoder has seen samples.
    """

    decoder: Decoder
    latent_space: LatentSpace
    mm_per_unit: float
    trained_radius: float = 1.1
    _mean_fields: dict[float, SignedDistance] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.decoder.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the decoder's weights lie."""
        return self.decoder.output.weight.device

    def latent(self, loadings: torch.Tensor) -> torch.Tensor:
        """Loadings [..., c] in standard deviations, c <= C, to codes [..., D]; the rest is zero (Eq. 12)."""
        return self.latent_space.latent(loadings)

    def canonical_sdf(self, points: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """Canonical points [B, N, 3] and codes [B, D] to canonical signed distances [B, N]."""
        value: torch.Tensor = self.decoder(points, latent)
        return value

    def code(self, loadings: npt.ArrayLike) -> torch.Tensor:
        """Loadings [c] as numbers to one code [D] on the model's device."""
        return self.latent(torch.as_tensor(np.asarray(loadings, dtype=np.float32), device=self.device))

    def value_and_gradient(
        self, points: npt.NDArray[np.float64], code: torch.Tensor
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Canonical points [N, 3] to canonical values [N] and gradients [N, 3] of one shape."""
        values, gradients = np.empty(len(points)), np.empty((len(points), 3))
        for first in range(0, len(points), _CHUNK_POINTS):
            part = slice(first, first + _CHUNK_POINTS)
            x = torch.as_tensor(points[part], dtype=torch.float32, device=self.device)[None].requires_grad_(True)
            value = self.decoder(x, code[None])
            (gradient,) = torch.autograd.grad(value.sum(), x)
            values[part] = value.detach()[0].double().cpu().numpy()
            gradients[part] = gradient[0].double().cpu().numpy()
        return values, gradients

    def distance_mm(
        self, points_lps: npt.NDArray[np.float64], pose: Pose, code: torch.Tensor
    ) -> npt.NDArray[np.float32]:
        """Signed distances [N] in mm at LPS points [N, 3] in the image.

        First order (D4): value over the norm of its gradient with respect to image coordinates, so that an anisotropic
        scale still gives millimetres near the surface. Away from it the canonical gradient's norm is taken as one, what
        it was trained to be, and only the pose's stretch along it counts.
        """
        canonical = pose.to_reference(points_lps) / self.mm_per_unit
        value, gradient = self.value_and_gradient(canonical, code)
        norm = np.linalg.norm(gradient, axis=1)
        # Stretch of a unit step along the gradient's direction; the rotation does not change its length.
        direction = gradient / np.maximum(norm, 1e-12)[:, None]
        per_mm = np.linalg.norm(direction / pose.scale, axis=1) / self.mm_per_unit
        near = np.exp(-np.square(value * self.mm_per_unit / _FIRST_ORDER_MM))
        slope = near * np.maximum(norm, _MIN_GRADIENT) + (1 - near)
        return np.asarray(value / (slope * per_mm), dtype=np.float32)

    def signed_distance(self, pose: Pose, loadings: npt.ArrayLike, grid: Grid, band_mm: float = 30.0) -> SignedDistance:
        """The posed shape's metric signed distance on a grid (mm), precise within `band_mm` of its surface (Eq. 4)."""
        return self.signed_distance_of_code(pose, self.code(loadings), grid, band_mm)

    def signed_distance_of_code(
        self, pose: Pose, code: torch.Tensor, grid: Grid, band_mm: float = 30.0, exact_mm: float = EXACT_MM
    ) -> SignedDistance:
        """As `signed_distance`, for a free code [D]; within `exact_mm` of the surface every voxel is evaluated."""
        image_from_ball = pose.image_from_reference
        image_from_ball[:3, :3] *= self.mm_per_unit * self.trained_radius
        ball = Ball(image_from_ball)
        return rasterise(lambda points: self.distance_mm(points, pose, code), ball, grid, band_mm, exact_mm)

    def mean_sdf_volume(self, spacing_mm: float) -> SignedDistance:
        """The mean shape's signed distance in the reference frame (mm) over the whole trained ball; made once."""
        if spacing_mm not in self._mean_fields:
            side = np.full(3, self.mm_per_unit * self.trained_radius)
            grid = axis_aligned_grid(-side, side, spacing_mm)
            self._mean_fields[spacing_mm] = self.signed_distance(Pose.at(np.zeros(3)), np.zeros(1), grid)
        return self._mean_fields[spacing_mm]

    def mesh(self, loadings: npt.ArrayLike, pose: Pose, spacing_mm: float = 3.0) -> TriangleMesh:
        """The posed shape's surface, LPS mm, outward, closed; `spacing_mm` is that of its triangles."""
        return self.mesh_of_code(self.code(loadings), pose, spacing_mm)

    def mesh_of_code(self, code: torch.Tensor, pose: Pose, spacing_mm: float = 3.0) -> TriangleMesh:
        """As `mesh`, for a free code [D]: marching cubes in the reference frame, then Newton steps on the decoder."""
        # Samples went a tenth beyond the largest of the shapes at least.
        side = np.full(3, self.mm_per_unit * max(1.0, self.trained_radius - 0.1))
        grid = axis_aligned_grid(-side, side, spacing_mm)
        field = self.signed_distance_of_code(Pose.at(np.zeros(3)), code, grid, band_mm=0.0, exact_mm=0.0)
        coarse = mesh_of_field(field)
        canonical = TriangleMesh(coarse.vertices / self.mm_per_unit, coarse.faces)
        exact = projected_on_zero(
            canonical, lambda points: self.value_and_gradient(points, code), 2, spacing_mm / 2 / self.mm_per_unit
        )
        return TriangleMesh(pose.to_image(exact.vertices * self.mm_per_unit), exact.faces)

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Every weight and component by name, for safetensors."""
        tensors = {f"decoder.{name}": tensor for name, tensor in self.decoder.state_dict().items()}
        space = self.latent_space
        tensors |= {f"latent_space.{name}": getattr(space, name) for name in _SPACE_TENSORS}
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}

    def architecture(self) -> ShapeArchitecture:
        """What `from_tensors` needs beside the tensors."""
        return ShapeArchitecture(self.decoder.architecture, self.mm_per_unit, self.trained_radius)

    @staticmethod
    def from_tensors(tensors: Mapping[str, torch.Tensor], architecture: ShapeArchitecture) -> ShapeModel:
        """The model of `state_tensors` and `architecture`. Raises KeyError or RuntimeError if the two disagree."""
        decoder = Decoder(architecture.decoder)
        prefix = "decoder."
        decoder.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        space = LatentSpace(**{name: tensors[f"latent_space.{name}"] for name in _SPACE_TENSORS})
        return ShapeModel(decoder, space, architecture.mm_per_unit, architecture.trained_radius)

    def save(self, folder: Path) -> None:
        """Write `shape.safetensors` and `shape.json`, each whole or not at all. The folder must exist."""
        write_bytes(folder / WEIGHTS_FILE, bytes_from_tensors(self.state_tensors()))
        write_json(folder / DESCRIPTION_FILE, self.architecture().to_json(), indent=2)

    @staticmethod
    def load(folder: Path) -> ShapeModel:
        """What `save` wrote. Raises BundleError if it is missing or broken."""
        try:
            architecture = ShapeArchitecture.from_json(json.loads((folder / DESCRIPTION_FILE).read_text()))
            return ShapeModel.from_tensors(load_file(folder / WEIGHTS_FILE), architecture)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise BundleError(SHAPE_MODEL_BROKEN, folder=folder, what=error) from error


_SPACE_TENSORS = ("mean", "basis", "standard_deviation", "explained")
