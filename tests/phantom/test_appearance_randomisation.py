"""The broader looks: what they change, and that what was frozen before them stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from dissm_phantom import Appearance, Phase, Tissue, is_liver, randomise_appearance
from dissm_phantom.rendering import render_hu_without_noise


def venous(seed: int) -> Appearance:
    return Appearance.draw(np.random.default_rng(seed), Phase.VENOUS, randomised=False)


def half_liver() -> np.ndarray:
    labels = np.full((60, 60, 60), Tissue.FAT, dtype=np.uint8)
    labels[:, :, :30] = Tissue.LIVER
    return labels


def painted(look: Appearance) -> np.ndarray:
    return render_hu_without_noise(half_liver(), 2.0, look, np.random.default_rng(5))


def test_the_same_generator_state_broadens_alike_and_leaves_what_it_was_given() -> None:
    given = venous(1)
    before = given.hu.copy()
    first, second = (randomise_appearance(given, np.random.default_rng(2)) for _ in range(2))
    assert np.array_equal(first.hu, second.hu)
    assert replace(first, hu=given.hu) == replace(second, hu=given.hu)
    assert np.array_equal(given.hu, before)


def test_mottling_adds_slow_texture_of_its_size_to_the_liver_and_nothing_beside_it() -> None:
    even = replace(venous(1), bias_hu=0.0, point_spread_mm=0.1, slice_mm=0.0)
    added = painted(replace(even, mottle_hu=6.0, mottle_mm=30.0)) - painted(even)
    liver = is_liver(half_liver())
    assert np.abs(added[~liver]).max() < 1e-3
    slow = ndimage.gaussian_filter(added[:, :, :30], 4.0)
    assert 3.0 < slow.std() < 9.0


def test_patches_move_a_part_of_the_liver_by_their_hu_and_leave_the_rest() -> None:
    even = replace(venous(1), bias_hu=0.0, point_spread_mm=0.1, slice_mm=0.0)
    added = painted(replace(even, patch_hu=-20.0)) - painted(even)
    inside = added[is_liver(half_liver())]
    assert inside.min() > -20.5
    assert inside.max() < 0.5
    assert 0.02 < np.mean(inside < -19) < 0.6
    assert np.mean(inside > -1) > 0.2


def test_venous_spleens_stand_further_above_the_liver_and_as_far_as_in_the_real_scans() -> None:
    rng = np.random.default_rng(3)
    looks = [venous(seed) for seed in range(200)]

    def above(look: Appearance) -> float:
        return float(look.hu[Tissue.SPLEEN] - look.hu[Tissue.LIVER])

    drawn, broad = np.array([above(k) for k in looks]), np.array([above(randomise_appearance(k, rng)) for k in looks])
    assert np.median(broad) > np.median(drawn) + 3
    assert np.mean(broad > 34) > 0.1 > np.mean(drawn > 45)


def test_walls_and_contents_of_the_gut_are_now_and_then_as_bright_as_the_liver() -> None:
    rng = np.random.default_rng(4)
    apart = []
    for seed in range(200):
        look = randomise_appearance(venous(seed), rng)
        apart.append(np.abs(look.hu[[Tissue.STOMACH_WALL, Tissue.STOMACH_CONTENT]] - look.hu[Tissue.LIVER]).max())
    assert 0.08 < np.mean(np.array(apart) < 30) < 0.5
