"""Traits of a use: their shares, their generators, and that the plain variety draws nothing."""

from __future__ import annotations

import numpy as np
import torch

from dissm_engine.refine.tissues import TissueClass
from dissm_phantom import (
    SCAN_TRAITS,
    Appearance,
    Phase,
    ScanTraits,
    Tissue,
    Trait,
    Variety,
    draw_scan_traits,
    render_hu,
    render_hu_with_traits,
)
from training.refine.crops import LiverCrop, class_table, draw_sample
from training.refine.refinement_settings import RefinementPreset

OF_THE_BODY = (Trait.RIEDEL_LOBE, Trait.MASS_BESIDE_LIVER, Trait.ARMS_DOWN, Trait.CUT_ABOVE, Trait.CUT_BELOW)


def crop() -> LiverCrop:
    axis = (np.arange(90, dtype=np.float32) - 44.5) * 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    liver_mm = np.sqrt(x**2 + y**2 + z**2) - 55
    labels = np.where(liver_mm < 0, Tissue.LIVER, Tissue.FAT).astype(np.uint8)
    labels[(np.sqrt(x**2 + y**2 + (z - 78) ** 2) < 30) & (liver_mm > 0)] = Tissue.HEART_BLOOD
    return LiverCrop(labels, liver_mm.astype(np.float16), 2.0)


def test_traits_of_the_body_are_none_of_a_use() -> None:
    assert not SCAN_TRAITS & set(OF_THE_BODY)
    assert {Trait.METASTASES, Trait.STEATOSIS, Trait.PRONE, Trait.OBLIQUE, Trait.SHARP_KERNEL} <= SCAN_TRAITS
    assert not ScanTraits(frozenset(OF_THE_BODY), 1)


def test_uses_have_each_trait_about_as_often_as_its_share_says() -> None:
    rng = np.random.default_rng(1)
    variety = Variety.fourth_edition()
    uses = [draw_scan_traits(variety, rng) for _ in range(400)]
    for trait in SCAN_TRAITS:
        found, share = sum(trait in use for use in uses), variety.shares[trait]
        assert abs(found - 400 * share) < 4 * np.sqrt(400 * share)


def test_a_trait_that_is_switched_off_leaves_the_others_and_their_draws() -> None:
    every = [ScanTraits.draw(Variety.fourth_edition(), np.random.default_rng(k)) for k in range(60)]
    fewer = [
        ScanTraits.draw(Variety.fourth_edition().without(Trait.METAL), np.random.default_rng(k)) for k in range(60)
    ]
    assert any(Trait.METAL in use for use in every)
    for one, other in zip(every, fewer, strict=True):
        assert other.traits == one.traits - {Trait.METAL}
        assert other.seed == one.seed
        assert other.generator(Trait.LIPIODOL).random() == one.generator(Trait.LIPIODOL).random()


def test_drawing_traits_leaves_the_stream_of_the_given_generator() -> None:
    used, fresh = np.random.default_rng(4), np.random.default_rng(4)
    ScanTraits.draw(Variety.fourth_edition(), used)
    assert used.random() == fresh.random()


def test_without_traits_the_rendering_is_the_plain_one_bit_for_bit() -> None:
    part, look = crop(), Appearance.draw(np.random.default_rng(2), Phase.VENOUS)
    liver_mm = part.liver_mm.astype(np.float32)
    plain = render_hu(part.labels, 2.0, look, np.random.default_rng(3), liver_mm)
    other = render_hu_with_traits(part.labels, 2.0, look, np.random.default_rng(3), liver_mm, ScanTraits())
    assert np.array_equal(plain, other)


def test_a_sample_with_traits_differs_in_its_image_alone() -> None:
    preset, table = RefinementPreset.smoke(), class_table()
    odd = Variety.plain().always(*SCAN_TRAITS)
    plain, first, second = (
        draw_sample(
            [crop()], preset.model_copy(update={"shares": dict(variety.shares)}), table, np.random.default_rng(5)
        )
        for variety in (Variety.plain(), odd, odd)
    )
    assert torch.equal(first.hu, second.hu)
    assert not torch.equal(first.hu, plain.hu)
    assert torch.isfinite(first.hu).all()
    assert torch.equal(first.truth_mm, plain.truth_mm)
    assert torch.equal(first.tissue, plain.tissue)
    assert int(TissueClass.LIVER) in first.tissue
