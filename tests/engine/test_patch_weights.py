"""The pass over a whole grid is normalised as the patches of training were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dissm_engine.refine.network import RefinementArchitecture, RefinementNetwork, WeightedInstanceNorm
from dissm_engine.refine.patch_weights import patch_weights


def test_weights_count_the_cubes_around_the_surface_that_hold_a_voxel() -> None:
    """Against drawing every cube by itself, moved into the grid as training does it."""
    rng = np.random.default_rng(3)
    prior = rng.normal(0, 60, (9, 7, 12)).astype(np.float32)
    side, counted = 5, np.zeros(prior.shape)
    for middle in np.argwhere(np.abs(prior) < 10):
        start = [int(np.clip(m - side // 2, 0, n - side)) for m, n in zip(middle, prior.shape, strict=True)]
        counted[tuple(slice(s, s + side) for s in start)] += 1
    np.testing.assert_allclose(patch_weights(prior, side), counted / counted.max(), rtol=1e-6)


def test_a_grid_smaller_than_a_patch_or_without_surface_counts_all_alike() -> None:
    prior = np.linspace(-40, 40, 6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    assert (patch_weights(prior, 80) == 1).all()
    assert (patch_weights(np.full((6, 5, 4), 50.0, np.float32), 3) == 1).all()


def test_statistics_are_those_of_the_places_that_count() -> None:
    torch.manual_seed(0)
    norm = WeightedInstanceNorm(3, affine=True)
    torch.nn.init.normal_(norm.weight)
    features = torch.randn(1, 3, 8, 6, 10) * 4 + 9
    weights = torch.zeros(8, 6, 10)
    weights[2:6, 1:5, 3:9] = 1.0
    inside = (slice(None), slice(None), slice(2, 6), slice(1, 5), slice(3, 9))
    found = norm(features, weights / weights.sum())
    torch.testing.assert_close(found[inside], norm(features[inside]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pass_that_counts_all_voxels_alike_is_the_pass_of_training(stride: int) -> None:
    torch.manual_seed(0)
    network = RefinementNetwork(RefinementArchitecture(widths=(4, 8), blocks=1, stride=stride)).eval()
    torch.nn.init.normal_(network.change.weight)
    channels = torch.randn(1, 4, 16, 8, 12)
    with torch.inference_mode():
        for plain, weighted in zip(network(channels), network(channels, torch.ones(16, 8, 12)), strict=True):
            torch.testing.assert_close(weighted, plain, rtol=1e-3, atol=1e-3)


def test_air_that_does_not_count_changes_the_field_far_less_than_air_that_does() -> None:
    torch.manual_seed(0)
    network = RefinementNetwork(RefinementArchitecture(widths=(4, 8), blocks=1)).eval()
    torch.nn.init.normal_(network.change.weight, std=0.02)
    seen = torch.randn(1, 4, 32, 32, 32)
    larger = torch.nn.functional.pad(seen, (0, 64), value=-2.0)
    counts = torch.nn.functional.pad(torch.ones(32, 32, 32), (0, 64))
    away = (slice(None), slice(None), slice(None), slice(None), slice(0, 16))
    with torch.inference_mode():
        expected = network(seen, torch.ones(32, 32, 32))[0][away]
        weighted, alike = (network(larger, w)[0][away] for w in (counts, torch.ones_like(counts)))
    assert (weighted - expected).abs().mean() < 0.5 * (alike - expected).abs().mean()
