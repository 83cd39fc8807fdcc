"""Weights of a refinement network for a wider one that computes the same, so that no training has to begin anew.

After Net2WiderNet (Chen et al. 2016, arXiv 1511.05641), with zeros in the place of split weights: what the old channels
see of the new ones is zero, and what the new ones see of the old ones is random. The new channels learn from the first
step on, as their zeros have a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise

from torch import Tensor

from dissm_engine.refine.network import RefinementNetwork


def widened(weights: Mapping[str, Tensor], network: RefinementNetwork) -> dict[str, Tensor]:
    """The weights of `network` with which it computes what a narrower or equal one computes with `weights`.

    Args:
        weights: State of a network that differs in nothing but that its levels have as many channels or fewer.
        network: With random weights, which its further channels keep.
    """
    wide = {name: value.clone() for name, value in network.state_dict().items()}
    old_widths = [len(weights[f"down.{level}.0.weight"]) for level in range(len(network.down))]
    for name, old in weights.items():
        new = wide[name]
        if old.dim() == 1:
            new[: len(old)] = old
            continue
        new[: len(old)] = 0.0
        inputs_of_old = _inputs(name, old_widths, old.shape[1])
        inputs_of_new = _inputs(name, network.architecture.widths, new.shape[1])
        for (a, b), (c, _) in zip(inputs_of_old, inputs_of_new, strict=True):
            new[: len(old), c : c + b - a] = old[:, a:b]
    return wide


def _inputs(name: str, widths: list[int] | tuple[int, ...], channels: int) -> list[tuple[int, int]]:
    """First channel and the one after the last of each of a convolution's inputs: the first of a way up has two."""
    part, level, layer = [*name.split("."), "", ""][:3]
    of_inputs = [channels]
    if part == "up" and layer == "0":
        of_inputs = [widths[int(level) + 1], widths[int(level)]]
    return list(pairwise(accumulate(of_inputs, initial=0)))
