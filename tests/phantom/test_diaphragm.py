"""The muscle upon the liver: where it lies, what it leaves alone, that frozen phantoms stay as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dissm_phantom import Tissue, content_hash, is_liver, with_diaphragm
from training.evaluate.evaluation_stage import frozen_phantoms
from training.phantom.scanned_phantoms import make_test_phantom
from training.sources.source_at_path import open_source

STEP_MM = 2.0
SEEDS = range(12)


def body(surrounding: Tissue) -> tuple[np.ndarray, np.ndarray]:
    """A ball of liver (60 mm) in one tissue, with a rib in front of it: labels and the liver's signed distance."""
    axis = (np.arange(90, dtype=np.float32) - 44.5) * STEP_MM
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    liver_mm = np.sqrt(x**2 + y**2 + z**2) - 60
    labels = np.full(liver_mm.shape, surrounding, dtype=np.uint8)
    labels[liver_mm < 0] = Tissue.LIVER
    labels[(np.abs(z) < 5) & (np.abs(y + 66) < 4) & (liver_mm > 1)] = Tissue.BONE_CORTEX
    return labels, liver_mm


def worn(surrounding: Tissue, seed: int, bare: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, liver_mm = body(surrounding)
    return labels, liver_mm, with_diaphragm(labels, liver_mm, STEP_MM, np.random.default_rng(seed), bare)


@pytest.mark.parametrize("surrounding", [Tissue.FAT, Tissue.MUSCLE, Tissue.LUNG, Tissue.SPLEEN])
def test_only_fat_wall_and_lung_give_way_never_liver_bone_or_another_organ(surrounding: Tissue) -> None:
    for seed in SEEDS:
        before, _, after = worn(surrounding, seed)
        changed = before != after
        assert not changed[is_liver(before) | (before == Tissue.BONE_CORTEX)].any()
        assert surrounding is not Tissue.SPLEEN or not changed.any()
        assert set(np.unique(after[changed])) <= {Tissue.DIAPHRAGM, Tissue.FAT}


def test_in_fat_a_sheet_of_millimetres_lies_on_the_side_that_faces_front_right_and_up() -> None:
    places, thick = [], []
    for seed in SEEDS:
        _, liver_mm, after = worn(Tissue.FAT, seed)
        sheet = after == Tissue.DIAPHRAGM
        assert liver_mm[sheet].min() >= 0
        thick.append(float(liver_mm[sheet].max()))
        places.append((np.argwhere(sheet) - 44.5).mean(axis=0)[::-1] * STEP_MM)
    assert max(thick) < 21
    assert max(thick) - min(thick) > 3
    x, y, z = np.mean(places, axis=0)
    assert x < -5 and y < -10 and z > 5  # noqa: PT018 - one direction


def test_a_wall_that_touched_the_liver_lets_fat_between_now_and_then() -> None:
    shares = [np.mean(worn(Tissue.MUSCLE, seed)[2] == Tissue.FAT) for seed in SEEDS]
    assert min(shares) < 0.005
    assert max(shares) > 0.02


def test_the_same_generator_state_draws_the_same_and_some_draws_are_bare() -> None:
    assert np.array_equal(worn(Tissue.FAT, 4)[2], worn(Tissue.FAT, 4)[2])
    kept = [np.array_equal(*worn(Tissue.FAT, seed, bare=0.5)[::2]) for seed in range(20)]
    assert 3 <= sum(kept) <= 17


@pytest.mark.parametrize("edition", [1, 2, 3])
def test_the_first_frozen_phantom_of_every_edition_is_still_the_same_bit_for_bit(
    shared_data: Path, edition: int
) -> None:
    entry = next(e for e in frozen_phantoms() if e.edition == edition)
    liver = open_source(shared_data / "amos_livers_watertight_lps.npz", ()).load()[entry.liver]
    assert content_hash(make_test_phantom(liver, entry.seed, edition)) == entry.sha256
