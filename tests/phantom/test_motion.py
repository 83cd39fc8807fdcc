"""Breathing: what moves, and that the truth is the position in the mean."""

from __future__ import annotations

import numpy as np

from dissm_phantom.motion import dome_slice, with_dome_motion

SEEDS = range(30)
DOME = 60


def step() -> np.ndarray:
    """Liver up to the dome, lung above it."""
    hu = np.full((90, 6, 6), 110.0, dtype=np.float32)
    hu[DOME + 1 :] = -850
    return hu


def edge_mm(hu: np.ndarray) -> float:
    """Height of the edge: where the liver's share of the column ends."""
    return float(((hu[:, 3, 3] + 850) / 960).sum() * 2)


def test_the_dome_is_blurred_or_displaced_and_lies_where_it_was_in_the_mean() -> None:
    shifts = []
    for seed in SEEDS:
        moved = with_dome_motion(step(), 2.0, DOME, np.random.default_rng(seed))
        assert not np.array_equal(moved, step())
        assert moved.min() >= -850.1
        assert moved.max() <= 110.1
        shifts.append(edge_mm(moved) - edge_mm(step()))
    assert max(np.abs(shifts)) < 8
    assert abs(np.mean(shifts)) < 1.0


def test_far_below_the_dome_nothing_moves() -> None:
    rng = np.random.default_rng(1)
    hu = rng.normal(100, 20, (90, 6, 6)).astype(np.float32)
    moved = with_dome_motion(hu, 2.0, DOME, np.random.default_rng(2))
    still = DOME - 65 // 2 - 1
    assert np.array_equal(moved[:still], hu[:still])
    assert not np.array_equal(moved[DOME - 10 : DOME], hu[DOME - 10 : DOME])


def test_a_patch_far_below_the_dome_is_left_as_it_is() -> None:
    hu = step()
    assert with_dome_motion(hu, 2.0, 200, np.random.default_rng(1)) is hu


def test_the_dome_is_the_highest_slice_with_liver() -> None:
    liver_mm = np.ones((10, 4, 4), dtype=np.float16)
    assert dome_slice(liver_mm) == 9
    liver_mm[3:6] = -1
    assert dome_slice(liver_mm) == 5
