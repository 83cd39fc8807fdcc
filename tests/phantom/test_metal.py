"""Implants: where they lie, how bright they are, which streaks they cause."""

from __future__ import annotations

import numpy as np
import pytest

from dissm_phantom import Appearance, Phase, ScanTraits, Tissue, Trait, render_hu_with_traits
from dissm_phantom.metal import Implant, draw_implants, paint_implants, streaks

SEEDS = range(24)


def trunk() -> tuple[np.ndarray, np.ndarray]:
    """A liver in fat, a heart above, portal vein and gallbladder below: labels and signed distance, 2 mm."""
    axis = (np.arange(90, dtype=np.float32) - 44.5) * 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    liver_mm = np.sqrt(x**2 + y**2 + z**2) - 50
    labels = np.where(np.sqrt(x**2 + y**2) < 80, Tissue.FAT, Tissue.AIR).astype(np.uint8)
    labels[np.sqrt(x**2 + y**2 + (z - 70) ** 2) < 26] = Tissue.HEART_BLOOD
    labels[np.sqrt((x - 10) ** 2 + y**2 + (z + 62) ** 2) < 9] = Tissue.PORTAL_TRUNK
    labels[np.sqrt((x + 20) ** 2 + (y + 20) ** 2 + (z + 50) ** 2) < 12] = Tissue.GALLBLADDER
    labels[liver_mm < 0] = Tissue.LIVER
    labels[(np.sqrt(x**2 + y**2) < 4) & (liver_mm < -10)] = Tissue.PORTAL_BRANCH
    labels[(np.sqrt((x + 20) ** 2 + y**2) < 4) & (liver_mm < -10)] = Tissue.HEPATIC_VEIN
    return labels, liver_mm


def implants(trait: Trait, seed: int) -> list[Implant]:
    labels, liver_mm = trunk()
    return draw_implants(labels, liver_mm, 2.0, ScanTraits(frozenset({trait}), seed))


def test_every_kind_is_drawn_within_sixty_millimetres_of_the_liver() -> None:
    _, liver_mm = trunk()
    counts = set()
    for seed in SEEDS:
        drawn = implants(Trait.METAL, seed)
        assert drawn
        counts.add("clips" if len(drawn) > 1 else "stent" if drawn[0].lumen_hu is not None else "rod")
        for one in drawn:
            voxels = np.clip(np.rint(one.path).astype(int), 0, 89)
            assert liver_mm[tuple(voxels.T)].min() < 60
            assert np.linalg.norm(np.diff(one.path, axis=0), axis=1).max() < 2.5
    assert counts == {"clips", "stent", "rod"}


def test_clips_lie_under_the_liver() -> None:
    heights = [one.path[:, 0].mean() for seed in SEEDS for one in implants(Trait.METAL, seed)[:1] if one.hu > 3000]
    assert len(heights) > 4
    assert np.median(heights) < 35


def test_a_lead_ends_at_the_underside_of_the_heart_and_needs_one() -> None:
    for seed in SEEDS:
        (lead,) = implants(Trait.PACEMAKER_LEAD, seed)
        assert 22 + 44.5 - 1 <= lead.path[-1, 0] < 80
        assert lead.path[0, 0] > lead.path[-1, 0]
    labels, liver_mm = trunk()
    labels[labels == Tissue.HEART_BLOOD] = Tissue.LUNG
    assert not draw_implants(labels, liver_mm, 2.0, ScanTraits(frozenset({Trait.PACEMAKER_LEAD}), 1))


def test_a_stent_is_a_tube_round_its_filling() -> None:
    path = np.stack([np.arange(5, 25, 0.5), np.full(40, 15.0), np.full(40, 15.0)], axis=1)
    hu = np.full((30, 30, 30), np.nan, dtype=np.float32)
    paint_implants(hu, 2.0, [Implant(path, 5.0, 1500.0, 130.0, 0.0)])
    assert hu[15, 15, 15] == 130
    assert hu[15, 15, 17] == 1500
    assert np.isnan(hu[15, 15, 19])


@pytest.mark.parametrize("seed", range(4))
def test_metal_in_an_image_is_as_bright_as_a_scanner_stores_with_streaks_beside_it(seed: int) -> None:
    labels, liver_mm = trunk()
    look = Appearance.draw(np.random.default_rng(1), Phase.VENOUS, randomised=False)
    plain, lead = (
        render_hu_with_traits(labels, 2.0, look, np.random.default_rng(2), liver_mm, ScanTraits(traits, seed))
        for traits in (frozenset(), frozenset({Trait.PACEMAKER_LEAD}))
    )
    assert 1000 < lead.max() <= 3071
    change = (lead - plain)[labels == Tissue.FAT]
    assert change.max() > 8
    assert change.min() < -8


def test_streaks_fade_with_distance_and_stay_in_the_slices_of_the_implant() -> None:
    path = np.stack([np.arange(10, 14, 0.5), np.full(8, 60.0), np.full(8, 60.0)], axis=1)
    lines = streaks((20, 120, 120), 2.0, [Implant(path, 1.0, 5000.0, None, 100.0)], np.random.default_rng(1))
    assert lines is not None
    assert not lines[:9].any()
    assert not lines[15:].any()
    assert np.abs(lines[12, 57:64, 57:64]).mean() > 4 * np.abs(lines[12, 95:104]).mean()


def test_plastic_without_streaks_adds_none() -> None:
    path = np.array([[5.0, 5.0, 5.0], [5.5, 5.0, 5.0]])
    assert streaks((9, 9, 9), 2.0, [Implant(path, 1.0, 500.0, None, 0.0)], np.random.default_rng(1)) is None
