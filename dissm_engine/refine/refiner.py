"""Local refinement of the surface (paper 3.3, appendix C): field = prior + change, inside a narrow band."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from dissm_engine.preprocessing import HU_WINDOW, NORMALISED_HU, PRIOR_CLIP_MM
from dissm_engine.refine.network import RefinementArchitecture, RefinementNetwork
from dissm_engine.refine.patch_weights import patch_weights
from dissm_engine.volume import SignedDistance, Volume

_WELL_INSIDE_MM = -4.0
_SMOOTHING_VOXELS = 0.7
_PATCH_FACTOR = 1.2
"""Patches of the statistics against those of training; by measurement, see record 48."""


@dataclass(frozen=True)
class Refinement:
    """What the refinement made of a prior; all arrays lie on the grid of `field`.

    Attributes:
        field: The final signed distance, mm.
        change_mm: What was added to the prior, float32 [K, J, I].
        tissue: The most likely tissue class of every voxel, uint8 [K, J, I].
        in_view: Where the CT was, bool [K, J, I]; nothing is to be measured beyond.
    """

    field: SignedDistance
    change_mm: npt.NDArray[np.float32]
    tissue: npt.NDArray[np.uint8]
    in_view: npt.NDArray[np.bool_]

    def moved_inward(self, by_mm: float, max_change_mm: float) -> Refinement:
        """The same with the surface `by_mm` further inside; the change stays within `max_change_mm` (rho)."""
        prior = self.field.mm - self.change_mm
        # Far from the surface nothing was changed, and nothing is.
        near = np.abs(self.field.mm) < max_change_mm
        moved = np.clip(self.change_mm + np.float32(by_mm), -max_change_mm, max_change_mm)
        change = np.where(near, moved, self.change_mm)
        return replace(
            self, field=SignedDistance((prior + change).astype(np.float32), self.field.grid), change_mm=change
        )


def input_channels(hu: Tensor, prior_mm: Tensor, in_view: Tensor) -> Tensor:
    """What the network sees: [B, 4, K, J, I] from HU, prior (mm) and field of view, each [B, 1, K, J, I].

    The second channel is the HU relative to the median inside the prior: it makes the bright and the fatty liver alike.
    """
    low, high = HU_WINDOW
    windowed = ((hu.clamp(low, high) - low) / (high - low)) * 2 - 1
    medians = [_median_inside(hu[b], prior_mm[b], in_view[b]) for b in range(len(hu))]
    median = torch.stack(medians).reshape(-1, 1, 1, 1, 1)
    normalised = ((hu - median) / NORMALISED_HU).clamp(-3, 3)
    prior = prior_mm.clamp(-PRIOR_CLIP_MM, PRIOR_CLIP_MM) / PRIOR_CLIP_MM
    return torch.cat([windowed * in_view, normalised * in_view, prior, in_view], dim=1)


def _median_inside(hu: Tensor, prior_mm: Tensor, in_view: Tensor) -> Tensor:
    inside = hu[(prior_mm < _WELL_INSIDE_MM) & (in_view > 0)]
    return inside.median() if inside.numel() > 64 else hu.new_tensor(90.0)


@dataclass(frozen=True, slots=True)
class RefinerArchitecture:
    """What must be known to build a refiner again from its tensors.

    Attributes:
        network: Of the refinement network.
        tile: Side of the cubes that the network was trained with, voxels.
    """

    network: RefinementArchitecture
    tile: int

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain JSON values, for a bundle's manifest."""
        return {**asdict(self.network), "widths": list(self.network.widths), "tile": self.tile}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> RefinerArchitecture:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError where a value is missing or unknown."""
        network = {name: value for name, value in content.items() if name != "tile"}
        network["widths"] = tuple(network["widths"])
        return RefinerArchitecture(RefinementArchitecture(**network), int(content["tile"]))


class Refiner:
    """Applies the refinement network to a whole grid in one pass, normalised as the patches of its training were.

    Args:
        network: Is moved to `device`.
        tile: Side of the cubes that the network was trained with, voxels.
        device: As torch names it.
        half: Whether the network multiplies in bfloat16.
    """

    def __init__(self, network: RefinementNetwork, tile: int = 80, device: str = "cpu", half: bool = False) -> None:
        self.network = network.to(device).eval()
        self.tile = tile
        self.device = device
        self.half = half

    def refine(
        self,
        volume: Volume,
        prior: SignedDistance,
        in_view: npt.NDArray[np.bool_],
        progress: Callable[[float], None] = lambda _: None,
    ) -> Refinement:
        """The final field on the prior's grid. Its change stays within rho, and within the band around the prior.

        Args:
            volume: HU already resampled to `prior.grid`.
            prior: Metric signed distance of the posed shape model, mm.
            in_view: Which voxels lie within the CT, bool [K, J, I].
            progress: Called with the share of the work that is done; what it raises ends the work.
        """
        architecture = self.network.architecture
        hu, sdf = _as_batch(volume.hu), _as_batch(prior.mm)
        channels = input_channels(hu, sdf, _as_batch(in_view))
        change, tissue = self._whole(channels, patch_weights(prior.mm, round(_PATCH_FACTOR * self.tile)))
        progress(1.0)
        # Unfolding leaves a pattern with the period of the fold; a surface must not show it.
        change = ndimage.gaussian_filter(change, _SMOOTHING_VOXELS * (architecture.stride - 1), mode="nearest")
        change = np.where(np.abs(prior.mm) <= architecture.band_mm, change, np.float32(0))
        return Refinement(SignedDistance((prior.mm + change).astype(np.float32), prior.grid), change, tissue, in_view)

    @torch.inference_mode()
    def _whole(
        self, channels: Tensor, weights: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Change in mm and tissue class of every voxel."""
        shape = channels.shape[2:]
        missing = [-n % self.network.granularity for n in shape]
        further = (0, missing[2], 0, missing[1], 0, missing[0])
        padded = torch.nn.functional.pad(channels, further, mode="replicate") if any(missing) else channels
        counted = torch.nn.functional.pad(torch.from_numpy(weights), further)
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half):
            change, logits = self.network(padded.to(self.device), counted.to(self.device))
        labels = logits[0].argmax(0).to(torch.uint8)
        for axis in range(3):
            labels = labels.repeat_interleave(self.network.architecture.stride, dim=axis)
        crop = tuple(slice(0, n) for n in shape)
        return change[0, 0][crop].float().cpu().numpy(), labels[crop].cpu().numpy()

    def state_tensors(self) -> dict[str, Tensor]:
        """Weights for the bundle."""
        return dict(self.network.state_dict())

    def architecture(self) -> RefinerArchitecture:
        """What `from_tensors` needs beside the tensors."""
        return RefinerArchitecture(self.network.architecture, self.tile)

    def on(self, device: str, half: bool) -> Refiner:
        """A refiner with a copy of this one's network on another device; this one stays where it is."""
        return Refiner(deepcopy(self.network), self.tile, device, half)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], architecture: RefinerArchitecture) -> Refiner:
        """The refiner of `state_tensors` and `architecture`, on the CPU. Raises RuntimeError if the two disagree."""
        network = RefinementNetwork(architecture.network)
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return cls(network, architecture.tile)


def _as_batch(values: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
