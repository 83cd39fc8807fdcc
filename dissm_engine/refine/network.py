"""The refinement network h(I, SDF) of the paper's 3.3: a 3-D U-Net that predicts a bounded change of the field."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

INPUT_CHANNELS = 4
"""Windowed HU, HU normalised by the prior's inside, prior SDF, inside the CT's field of view."""


@dataclass(frozen=True, slots=True)
class RefinementArchitecture:
    """What must be known to build the refinement network again.

    Attributes:
        widths: Channels of each level; level 0 works at `stride` voxels.
        blocks: Convolutions of each level on the way down, and again on the way up.
        tissues: Number of classes of the auxiliary tissue head.
        rho_mm: Bound on the change of the field.
        band_mm: The field is changed only where the prior's distance is within this.
        stride: 1 or 2; with 2 the input is folded (space to depth) and the change unfolded again, which keeps every
            voxel at an eighth of the cost.
    """

    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 2
    tissues: int = 10
    rho_mm: float = 20.0
    band_mm: float = 25.0
    stride: int = 2


class WeightedInstanceNorm(nn.InstanceNorm3d):
    """Instance normalisation whose mean and variance may count some places more than others.

    Its tensors are those of `torch.nn.InstanceNorm3d` with `affine`.
    """

    def forward(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        """[1, C, K, J, I] or, without weights, [B, C, K, J, I].

        Args:
            features: What is normalised.
            weights: How much each place counts, float32 [K, J, I] with the sum 1; None: all alike. Not differentiable.
        """
        if weights is None:
            return super().forward(features)
        # Sums over a million places need float32, whatever the products are made in.
        with torch.autocast(features.device.type, enabled=False):
            places = weights.flatten()
            flat = features[0].flatten(1)
            mean = torch.stack([channel.float() @ places for channel in flat])
            variance = torch.stack(
                [(channel.float() - m).square_() @ places for channel, m in zip(flat, mean, strict=True)]
            )
            return nn.functional.batch_norm(features, mean, variance, self.weight, self.bias, eps=self.eps)


class _Convolutions(nn.Sequential):
    """Convolution, normalisation and activation, some times in turn; weights are handed to the normalisation."""

    def forward(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        for layer in self:
            features = layer(features, weights) if isinstance(layer, WeightedInstanceNorm) else layer(features)
        return features


def _convolutions(channels_in: int, channels_out: int, count: int) -> _Convolutions:
    layers: list[nn.Module] = []
    for index in range(count):
        layers += [
            nn.Conv3d(channels_in if index == 0 else channels_out, channels_out, 3, padding=1, bias=False),
            WeightedInstanceNorm(channels_out, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return _Convolutions(*layers)


class RefinementNetwork(nn.Module):
    """U-Net with two heads: change of the field in mm at every voxel, and tissue logits at every feature cell."""

    def __init__(self, architecture: RefinementArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths, blocks, fold = architecture.widths, architecture.blocks, architecture.stride**3
        channels = [INPUT_CHANNELS * fold, *widths]
        self.down = nn.ModuleList(_convolutions(a, b, blocks) for a, b in zip(channels[:-1], widths, strict=True))
        self.up = nn.ModuleList(_convolutions(deep + shallow, shallow, blocks) for shallow, deep in pairwise(widths))
        self.change = nn.Conv3d(widths[0], fold, 1)
        self.tissue = nn.Conv3d(widths[0], architecture.tissues, 1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type]  # torch types a bias as Tensor | None

    @property
    def granularity(self) -> int:
        """Input sizes must be multiples of this."""
        return int(self.architecture.stride * 2 ** (len(self.architecture.widths) - 1))

    def forward(self, channels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Change of the field and tissue logits.

        Args:
            channels: [B, 4, K, J, I]; sizes are multiples of `granularity`.
            weights: How much each voxel counts for the statistics of the normalisation, [K, J, I], none negative and
                not all 0; only with a batch of one. None: all alike, as in training.

        Returns:
            Change [B, 1, K, J, I] in mm, |change| <= rho, and tissue logits [B, T, K / stride, ...].
        """
        stride, rho = self.architecture.stride, self.architecture.rho_mm
        of_level = self._weights_of_levels(weights)
        features = folded(channels, stride)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else nn.functional.max_pool3d(features, 2), of_level[level])
            skips.append(features)
        for level in reversed(range(len(self.up))):
            grown = nn.functional.interpolate(features, scale_factor=2, mode="nearest")
            features = self.up[level](torch.cat([grown, skips[level]], dim=1), of_level[level])
        raw = unfolded(self.change(features).float(), stride)
        return rho * torch.tanh(raw), self.tissue(features).float()

    def _weights_of_levels(self, weights: Tensor | None) -> list[Tensor | None]:
        """The weights of each level's cells, with the sum 1."""
        levels = len(self.architecture.widths)
        if weights is None:
            return [None] * levels
        sides = [self.architecture.stride * 2**level for level in range(levels)]
        pooled = [nn.functional.avg_pool3d(weights[None, None], side)[0, 0] for side in sides]
        return [cells / cells.sum() for cells in pooled]


def folded(image: Tensor, stride: int) -> Tensor:
    """Space to depth: [B, C, K, J, I] -> [B, C * stride^3, K / stride, ...]."""
    b, c, k, j, i = image.shape
    parts = image.reshape(b, c, k // stride, stride, j // stride, stride, i // stride, stride)
    return parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * stride**3, k // stride, j // stride, i // stride)


def unfolded(features: Tensor, stride: int) -> Tensor:
    """Depth to space, the inverse of `folded` for one channel: [B, stride^3, k, j, i] -> [B, 1, k * stride, ...]."""
    b, _, k, j, i = features.shape
    parts = features.reshape(b, 1, stride, stride, stride, k, j, i)
    return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, 1, k * stride, j * stride, i * stride)
