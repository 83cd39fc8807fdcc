from dataclasses import replace

import numpy as np
import torch

from dissm_engine.refine.network import RefinementArchitecture, RefinementNetwork, folded, unfolded
from dissm_engine.refine.refiner import Refinement, Refiner, input_channels
from dissm_engine.volume import SignedDistance, Volume, axis_aligned_grid


def small_refiner(rho_mm: float = 12.0, tile: int = 32) -> Refiner:
    torch.manual_seed(0)
    network = RefinementNetwork(RefinementArchitecture(widths=(4, 8), blocks=1, rho_mm=rho_mm))
    torch.nn.init.normal_(network.change.weight, std=50.0)
    return Refiner(network, tile)


def noisy_case(side: int = 41) -> tuple[Volume, SignedDistance]:
    grid = axis_aligned_grid([0, 0, 0], [2 * (side - 1)] * 3, 2.0)
    hu = np.random.default_rng(0).normal(60, 40, grid.shape).astype(np.float32)
    distance = (np.linalg.norm(grid.points_lps() - side, axis=-1) - 22).astype(np.float32)
    return Volume(hu, grid.lps_from_voxel), SignedDistance(distance, grid)


def everywhere(prior: SignedDistance) -> np.ndarray:
    return np.ones(prior.mm.shape, dtype=np.bool_)


def test_unfolding_is_the_inverse_of_folding() -> None:
    image = torch.randn(2, 1, 8, 6, 4)
    assert torch.equal(unfolded(folded(image, 2), 2), image)


def test_the_surface_moves_by_no_more_than_rho_and_only_in_the_band() -> None:
    volume, prior = noisy_case()
    result = small_refiner(rho_mm=5.0).refine(volume, prior, everywhere(prior))
    assert 1.0 < np.abs(result.change_mm).max() <= 5.0001
    assert np.abs(result.change_mm[np.abs(prior.mm) > 25]).max() == 0
    assert np.allclose(result.field.mm, prior.mm + result.change_mm)


def test_an_untrained_network_changes_nothing() -> None:
    volume, prior = noisy_case()
    untrained = Refiner(RefinementNetwork(RefinementArchitecture(widths=(4, 8))), 32)
    assert np.array_equal(untrained.refine(volume, prior, everywhere(prior)).field.mm, prior.mm)


def test_the_result_does_not_depend_on_sizes_the_tiles_do_not_divide() -> None:
    for side in (20, 32, 41, 47):
        volume, prior = noisy_case(side)
        result = small_refiner().refine(volume, prior, everywhere(prior))
        assert result.field.mm.shape == result.tissue.shape == prior.mm.shape
        assert np.isfinite(result.field.mm).all()


def test_a_brighter_liver_looks_the_same_in_the_normalised_channel() -> None:
    volume, prior = noisy_case()
    hu, sdf = torch.from_numpy(volume.hu)[None, None], torch.from_numpy(prior.mm)[None, None]
    view = torch.ones_like(hu)
    dark, bright = input_channels(hu, sdf, view), input_channels(hu + 35, sdf, view)
    assert torch.allclose(dark[:, 1], bright[:, 1], atol=1e-5)
    assert not torch.allclose(dark[:, 0], bright[:, 0], atol=0.05)


def test_weights_and_description_make_the_same_refiner_again() -> None:
    volume, prior = noisy_case()
    first = small_refiner()
    second = Refiner.from_tensors(first.state_tensors(), first.architecture())
    one, other = (refiner.refine(volume, prior, everywhere(prior)) for refiner in (first, second))
    assert np.array_equal(one.field.mm, other.field.mm)


def test_moving_the_surface_inward_moves_it_by_so_much_and_never_beyond_rho() -> None:
    grid = axis_aligned_grid([-40.0] * 3, [40.0] * 3, 2.0)
    distance = np.linalg.norm(grid.points_lps(), axis=-1) - 25.0
    change = np.where(np.abs(distance) < 30, np.float32(19.8), np.float32(0))
    found = Refinement(
        SignedDistance(distance.astype(np.float32), grid),
        change.astype(np.float32),
        np.zeros(grid.shape, np.uint8),
        np.ones(grid.shape, np.bool_),
    )
    moved = found.moved_inward(0.7, max_change_mm=20.0)
    assert np.abs(moved.change_mm).max() <= 20.0
    near = np.abs(distance) < 10
    np.testing.assert_allclose((moved.field.mm - found.field.mm)[near], 0.2, atol=1e-4)
    less = replace(found, change_mm=np.zeros_like(change, dtype=np.float32)).moved_inward(0.7, max_change_mm=20.0)
    np.testing.assert_allclose((less.field.mm - found.field.mm)[near], 0.7, atol=1e-4)
