"""The network of a stage: a residual encoder from an observation to one vector of raw corrections (paper 3.2, B.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

_GROUPS = 8


@dataclass(frozen=True, slots=True)
class EncoderArchitecture:
    """What must be known to build the encoder again.

    Attributes:
        channels: Of the observation.
        widths: Channels of the residual blocks; the first `pooled` of them end in a pooling by two.
        pooled: How many blocks end in a pooling by two.
        squeezed: Channels before the features are flattened, where `pooling` is `keep`.
        stem_stride: 2 halves the observation before the first block.
        hidden: Width of the layer before the output.
        pooling: `average` over space, as the paper has it; `keep` narrows to `squeezed` channels and flattens, so that
            places keep their meaning.
        grid: (K, J, I) of the observation, used by `keep` only.
        outputs: Length of the result.
    """

    channels: int
    widths: tuple[int, ...]
    pooled: int
    squeezed: int
    stem_stride: int
    hidden: int
    pooling: Literal["average", "keep"]
    grid: tuple[int, int, int]
    outputs: int

    @property
    def features(self) -> int:
        """Length of the vector between convolutions and fully connected layers."""
        if self.pooling == "average":
            return self.widths[-1]
        cells = 1
        for size in self.grid:
            stemmed = (size + self.stem_stride - 1) // self.stem_stride
            cells *= stemmed // 2**self.pooled
        return self.squeezed * cells


class ResidualBlock(nn.Module):
    """Two normalised 3x3x3 convolutions beside a projection, then, if asked, max pooling by two."""

    def __init__(self, channels: int, width: int, pooled: bool) -> None:
        super().__init__()
        self.project = nn.Conv3d(channels, width, 1, bias=False)
        self.body = nn.Sequential(
            nn.Conv3d(channels, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
        )
        self.activation = nn.SiLU()
        self.pool = nn.MaxPool3d(2) if pooled else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, channels, K, J, I] -> [B, width, ...], half the size along each axis if pooled."""
        pooled: torch.Tensor = self.pool(self.activation(self.body(x) + self.project(x)))
        return pooled


class ResidualEncoder(nn.Module):
    """Observation [B, channels, K, J, I] -> raw outputs [B, outputs]; before it is trained all are zero."""

    def __init__(self, architecture: EncoderArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.widths
        self.stem = nn.Sequential(
            nn.Conv3d(architecture.channels, widths[0], 3, stride=architecture.stem_stride, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, widths[0]),
            nn.SiLU(),
        )
        inputs = (widths[0], *widths[:-1])
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(before, after, number < architecture.pooled)
                for number, (before, after) in enumerate(zip(inputs, widths, strict=True))
            )
        )
        keeps_places = architecture.pooling == "keep"
        self.squeeze = nn.Conv3d(widths[-1], architecture.squeezed, 1) if keeps_places else nn.AdaptiveAvgPool3d(1)
        self.hidden = nn.Sequential(nn.Linear(architecture.features, architecture.hidden), nn.SiLU())
        self.output = nn.Linear(architecture.hidden, architecture.outputs)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Raw outputs, float32 also under autocast."""
        features: torch.Tensor = self.squeeze(self.blocks(self.stem(observation)))
        raw: torch.Tensor = self.output(self.hidden(features.flatten(1)))
        return raw.float()
