"""Lesions of single patients: they lie in the liver, look as they should, and leave everything else alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dissm_phantom import Appearance, Phase, ScanTraits, Tissue, Trait, is_liver
from dissm_phantom.focal_lesions import with_focal_lesions

LESIONS = (
    Trait.METASTASES,
    Trait.POLYCYSTIC_LIVER,
    Trait.CALCIFIED_LESION,
    Trait.LIPIODOL,
    Trait.HAEMANGIOMA,
    Trait.ABSCESS,
    Trait.ABLATION_ZONE,
)
SEEDS = range(8)
LIVER_HU, VESSEL_HU = 110.0, 180.0


def ball() -> tuple[np.ndarray, np.ndarray]:
    """A liver of 1.4 litres in fat: labels and signed distance on 2 mm."""
    axis = (np.arange(80, dtype=np.float32) - 39.5) * 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    liver_mm = np.sqrt(x**2 + y**2 + z**2) - 69
    return np.where(liver_mm < 0, Tissue.LIVER, Tissue.FAT).astype(np.uint8), liver_mm


def venous() -> Appearance:
    look = Appearance.draw(np.random.default_rng(0), Phase.VENOUS, randomised=False)
    look.hu[[Tissue.AORTA, Tissue.PORTAL_BRANCH]] = VESSEL_HU
    look.hu[Tissue.LIVER] = LIVER_HU
    return look


def drawn(trait: Trait, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, HU of the lesions (NaN elsewhere) and signed distance."""
    labels, liver_mm = ball()
    changed, hu = with_focal_lesions(labels, liver_mm, 2.0, venous(), ScanTraits(frozenset({trait}), seed))
    return changed, hu, liver_mm


@pytest.mark.parametrize("trait", LESIONS)
def test_lesions_lie_in_the_liver_and_remain_liver(trait: Trait) -> None:
    for seed in SEEDS:
        labels, hu, liver_mm = drawn(trait, seed)
        painted = np.isfinite(hu)
        assert painted.any()
        assert liver_mm[painted].max() < 0
        assert np.array_equal(is_liver(labels), liver_mm < 0)
        assert np.array_equal(labels != Tissue.LIVER, painted | (liver_mm >= 0))


@pytest.mark.parametrize("trait", LESIONS)
def test_the_same_seed_draws_the_same_whatever_else_is_drawn_and_leaves_the_given_labels(trait: Trait) -> None:
    labels, liver_mm = ball()
    before = labels.copy()
    alone = with_focal_lesions(labels, liver_mm, 2.0, venous(), ScanTraits(frozenset({trait}), 3))[1]
    again = with_focal_lesions(labels, liver_mm, 2.0, venous(), ScanTraits(frozenset({trait}), 3))[1]
    with_others = with_focal_lesions(labels, liver_mm, 2.0, venous(), ScanTraits(frozenset(LESIONS), 3))[1]
    assert np.array_equal(alone, again, equal_nan=True)
    assert np.isfinite(with_others[np.isfinite(alone)]).all()
    assert np.array_equal(labels, before)


def test_metastases_are_many_small_and_darker_than_the_liver() -> None:
    counts = []
    for seed in SEEDS:
        labels, hu, _ = drawn(Trait.METASTASES, seed)
        counts.append(ndimage.label(np.isfinite(hu))[1])
        assert np.median(hu[labels == Tissue.LESION_HYPO]) < LIVER_HU - 10
    assert max(counts) > 15
    assert np.median(counts) >= 5


def test_cysts_fill_up_to_sixty_per_cent_with_fluid_and_reach_the_surface() -> None:
    shares, at_surface = [], False
    for seed in SEEDS:
        labels, hu, liver_mm = drawn(Trait.POLYCYSTIC_LIVER, seed)
        shares.append(float((labels == Tissue.CYST).sum() / (liver_mm < 0).sum()))
        assert np.median(hu[labels == Tissue.CYST]) < 20
        at_surface |= bool((liver_mm[labels == Tissue.CYST] > -2).any())
    assert 0.12 < min(shares) < 0.4 < max(shares) < 0.68
    assert at_surface


@pytest.mark.parametrize(("trait", "least", "most"), [(Trait.CALCIFIED_LESION, 250, 1000), (Trait.LIPIODOL, 180, 1500)])
def test_calcium_and_lipiodol_are_denser_than_any_tissue_beside_bone(trait: Trait, least: float, most: float) -> None:
    for seed in SEEDS:
        labels, hu, _ = drawn(trait, seed)
        dense = hu[labels == Tissue.LIPIODOL]
        assert len(dense)
        assert least <= dense.min() <= dense.max() <= most


def test_some_calcified_lesions_lie_at_the_dome() -> None:
    tops = [np.nonzero(np.isfinite(drawn(Trait.CALCIFIED_LESION, seed)[1]))[0].max() for seed in SEEDS]
    assert max(tops) > 66


def test_a_haemangioma_is_bright_like_vessels_near_its_edge_and_dark_inside() -> None:
    bright_share = []
    for seed in SEEDS:
        labels, hu, liver_mm = drawn(Trait.HAEMANGIOMA, seed)
        bright, dark = labels == Tissue.LESION_HYPER, labels == Tissue.LESION_HYPO
        assert liver_mm[bright | dark].max() > -12
        assert hu[dark].max() <= LIVER_HU - 25
        bright_share.append(float(bright.sum() / (bright | dark).sum()))
        if bright.any():
            assert hu[bright].min() >= LIVER_HU + 24
    assert max(bright_share) > 0.1


def test_an_abscess_holds_fluid_in_a_brighter_wall_and_now_and_then_gas() -> None:
    gas = []
    for seed in range(16):
        labels, hu, _ = drawn(Trait.ABSCESS, seed)
        assert hu[labels == Tissue.LESION_RIM].min() > LIVER_HU
        assert 5 <= np.median(hu[labels == Tissue.CYST]) <= 35 or (hu < -300).any()
        gas.append(bool((hu < -300).any()))
    assert 2 <= sum(gas) <= 12


def test_an_ablation_zone_is_a_dark_part_that_reaches_towards_the_surface() -> None:
    for seed in SEEDS:
        _, hu, liver_mm = drawn(Trait.ABLATION_ZONE, seed)
        zone = np.isfinite(hu)
        assert np.median(hu[zone]) <= LIVER_HU - 15
        assert 100 < zone.sum() < 40_000
        assert liver_mm[zone].max() > -12
        assert ndimage.label(zone, np.ones((3, 3, 3)))[1] <= 3


def test_without_liver_in_view_nothing_is_drawn() -> None:
    labels = np.full((30, 30, 30), Tissue.FAT, dtype=np.uint8)
    far = np.full(labels.shape, 30, dtype=np.float32)
    changed, hu = with_focal_lesions(labels, far, 2.0, venous(), ScanTraits(frozenset(LESIONS), 1))
    assert changed is labels
    assert np.isnan(hu).all()
