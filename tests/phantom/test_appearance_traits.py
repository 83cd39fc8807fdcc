"""What fat, iron, timing, dose, slices and kernels change in an appearance and in an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dissm_phantom import Appearance, Phase, ScanTraits, Tissue, Trait
from dissm_phantom.appearance_traits import appearance_with_traits
from dissm_phantom.rendering import render_hu_without_noise, scanner_noise

SEEDS = range(40)


def looks(trait: Trait, phase: Phase = Phase.VENOUS) -> list[tuple[Appearance, Appearance]]:
    """Before and after."""
    pairs = []
    for seed in SEEDS:
        before = Appearance.draw(np.random.default_rng(seed), phase, randomised=False)
        pairs.append((before, appearance_with_traits(before, ScanTraits(frozenset({trait}), seed))))
    return pairs


def test_without_traits_the_look_is_the_given_one() -> None:
    before = Appearance.draw(np.random.default_rng(1))
    assert appearance_with_traits(before, ScanTraits()) is before


def test_the_given_look_is_left_as_it_is() -> None:
    before = Appearance.draw(np.random.default_rng(1), Phase.VENOUS, randomised=False)
    kept = before.hu.copy(), before.texture.copy()
    appearance_with_traits(before, ScanTraits(frozenset(Trait), 1))
    appearance_with_traits(before, ScanTraits(frozenset({Trait.LATE_VENOUS, Trait.STEATOSIS}), 1))
    assert np.array_equal(before.hu, kept[0])
    assert np.array_equal(before.texture, kept[1])


def test_a_fatty_liver_is_darker_than_spleen_and_vessels_and_parts_are_spared() -> None:
    after = [look for _, look in looks(Trait.STEATOSIS)]
    assert all(0 <= look.hu[Tissue.LIVER] <= 62 for look in after)
    for tissue in (Tissue.SPLEEN, Tissue.PORTAL_BRANCH, Tissue.HEPATIC_VEIN):
        assert all(look.hu[tissue] > look.hu[Tissue.LIVER] + 10 for look in after)
    assert sum(look.patch_hu > 10 for look in after) > 15


def test_iron_makes_the_liver_dense_without_contrast_and_denser_with_it() -> None:
    native = [look.hu[Tissue.LIVER] for _, look in looks(Trait.HAEMOCHROMATOSIS, Phase.PLAIN)]
    venous = [look.hu[Tissue.LIVER] for _, look in looks(Trait.HAEMOCHROMATOSIS)]
    assert 75 <= min(native) <= max(native) <= 140
    assert np.mean(venous) > np.mean(native) + 20


def test_the_portal_phase_goes_from_bright_arteries_and_a_low_liver_to_blood_that_is_all_alike() -> None:
    early = [look.hu for _, look in looks(Trait.EARLY_PORTAL)]
    late = [look.hu for _, look in looks(Trait.LATE_VENOUS)]
    assert min(hu[Tissue.AORTA] - hu[Tissue.LIVER] for hu in early) > 90
    assert max(hu[Tissue.LIVER] for hu in early) < 95
    assert max(abs(hu[Tissue.AORTA] - hu[Tissue.PORTAL_TRUNK]) for hu in late) < 25
    assert np.mean([hu[Tissue.SPLEEN] - hu[Tissue.LIVER] for hu in early]) > 35
    assert abs(np.mean([hu[Tissue.SPLEEN] - hu[Tissue.LIVER] for hu in late])) < 12


def test_timing_changes_no_arterial_scan() -> None:
    assert all(np.array_equal(a.hu, b.hu) for a, b in looks(Trait.EARLY_PORTAL, Phase.ARTERIAL))


def test_low_dose_is_noisy_with_streaks_along_the_rows() -> None:
    for before, after in looks(Trait.LOW_DOSE)[:6]:
        noise = scanner_noise((6, 90, 120), (2.0,) * 3, after, np.random.default_rng(1))
        quiet = scanner_noise((6, 90, 120), (2.0,) * 3, replace(after, low_dose_hu=0.0), np.random.default_rng(1))
        assert after.noise_sd >= 16
        assert before.low_dose_hu == 0
        assert noise.mean(axis=2).std() > 1.5 * quiet.mean(axis=2).std()


def test_a_sharp_kernel_overshoots_at_edges_and_a_soft_one_is_wide() -> None:
    labels = np.full((20, 20, 40), Tissue.FAT, dtype=np.uint8)
    labels[:, :, 20:] = Tissue.LIVER

    def profile(trait: Trait | None) -> np.ndarray:
        even = replace(Appearance.draw(np.random.default_rng(1), Phase.VENOUS, False), bias_hu=0.0, slice_mm=0.0)
        even = replace(even, texture=np.zeros_like(even.texture), point_spread_mm=1.0)
        look = appearance_with_traits(even, ScanTraits(frozenset({trait} if trait else ()), 2))
        hu = render_hu_without_noise(labels, 2.0, look, np.random.default_rng(1)).mean(axis=(0, 1))
        return (hu - look.hu[Tissue.FAT]) / (look.hu[Tissue.LIVER] - look.hu[Tissue.FAT])

    def width(edge: np.ndarray) -> float:
        return float(np.diff(np.interp([0.1, 0.9], np.maximum.accumulate(edge), np.arange(40)))[0])

    sharp, usual, soft = profile(Trait.SHARP_KERNEL), profile(None), profile(Trait.SOFT_KERNEL)
    assert sharp.max() > 1.02 > 1.005 > usual.max()
    assert width(sharp) < width(usual) < width(soft)


def test_neighbouring_noise_of_a_sharp_kernel_is_less_alike() -> None:
    def alike(look: Appearance) -> float:
        noise = scanner_noise((4, 120, 120), (2.0, 0.8, 0.8), look, np.random.default_rng(1))
        return float(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1])

    for before, after in looks(Trait.SHARP_KERNEL)[:6]:
        assert alike(after) < alike(before) - 0.05


def test_slices_become_thin_or_thick() -> None:
    assert all(look.slice_mm == 0 for _, look in looks(Trait.THIN_SLICES))
    assert all(4.5 <= look.slice_mm <= 6 for _, look in looks(Trait.THICK_SLICES))
