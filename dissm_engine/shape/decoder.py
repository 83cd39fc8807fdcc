"""The neural signed distance decoder f(x, z) (paper 3.1, A.2; Park et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": functional.relu,
    "silu": functional.silu,
    "softplus": lambda x: functional.softplus(x, beta=100.0),
    "sine": torch.sin,
}
_FIRST_FREQUENCY = 8.0


@dataclass(frozen=True, slots=True)
class DecoderArchitecture:
    """What must be known to build a decoder again.

    Attributes:
        layers, width: Number of hidden layers, and their channels.
        latent_size: Length D of a code.
        inject_at: The hidden layer, counted from zero, whose input is the features together with the decoder's input
            again.
        activation: `relu`, `silu`, `softplus` or `sine`.
        fourier_bands: Sines and cosines of 2^k pi x for k below it are added to the coordinates.
        weight_norm, dropout: Of every hidden layer.
        bounded_output: Whether a tanh stands at the end, as Park et al. have it.
    """

    layers: int
    width: int
    latent_size: int
    inject_at: int
    activation: str = "silu"
    fourier_bands: int = 0
    weight_norm: bool = False
    dropout: float = 0.0
    bounded_output: bool = False

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain JSON values, for a bundle's manifest."""
        return asdict(self)

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> DecoderArchitecture:
        """The inverse of `to_json`. Raises TypeError where a value is missing or unknown."""
        return DecoderArchitecture(**content)


class ConditionedLinear(nn.Linear):
    """A linear layer on [features, z] that multiplies z once for each shape instead of once for each point."""

    def apply_to(self, features: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Features [B, N, F] and codes [B, D] -> [B, N, out]; the weight's last D columns are the code's."""
        own = features.shape[-1]
        weight = self.weight
        return functional.linear(features, weight[:, :own]) + functional.linear(z, weight[:, own:], self.bias)[:, None]


class Decoder(nn.Module):
    """f(x, z): canonical coordinates and a code to the canonical signed distance, negative inside."""

    def __init__(self, architecture: DecoderArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        given = 3 * (1 + 2 * architecture.fourier_bands) + architecture.latent_size
        hidden: list[nn.Module] = []
        for index in range(architecture.layers):
            conditioned = index in (0, architecture.inject_at)
            inputs = given if index == 0 else architecture.width
            # As in Park et al. the layer before the injection is narrower by what is injected.
            outputs = architecture.width - (given if index + 1 == architecture.inject_at else 0)
            layer = ConditionedLinear(inputs, outputs) if conditioned else nn.Linear(inputs, outputs)
            _initialise(layer, architecture, first=index == 0)
            hidden.append(parametrizations.weight_norm(layer) if architecture.weight_norm else layer)
        self.hidden = nn.ModuleList(hidden)
        self.output = nn.Linear(architecture.width, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """x [B, N, 3] canonical units, z [B, D] -> signed distance [B, N], canonical units."""
        activation = ACTIVATIONS[self.architecture.activation]
        coordinates = self._encoded(x)
        features = coordinates
        for index, layer in enumerate(self.hidden):
            if index == self.architecture.inject_at:
                features = torch.cat([features, coordinates.to(features.dtype)], dim=-1)
            features = layer.apply_to(features, z) if isinstance(layer, ConditionedLinear) else layer(features)
            features = functional.dropout(activation(features), self.architecture.dropout, self.training)
        # The last product keeps full precision: half precision would round distances to half a millimetre.
        value = functional.linear(features.float(), self.output.weight, self.output.bias)[..., 0]
        return torch.tanh(value) if self.architecture.bounded_output else value

    def _encoded(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x]
        for band in range(self.architecture.fourier_bands):
            angle = x * (2.0**band * torch.pi)
            parts += [torch.sin(angle), torch.cos(angle)]
        return torch.cat(parts, dim=-1) if len(parts) > 1 else x


def _initialise(layer: nn.Linear, architecture: DecoderArchitecture, *, first: bool) -> None:
    """Sine layers need Sitzmann et al.'s (2020) spread; the others keep torch's own start."""
    if architecture.activation != "sine":
        return
    with torch.no_grad():
        bound = (6.0 / layer.in_features) ** 0.5
        layer.weight.uniform_(-bound, bound)
        if first:
            layer.weight[:, :3].uniform_(-_FIRST_FREQUENCY / 3, _FIRST_FREQUENCY / 3)
