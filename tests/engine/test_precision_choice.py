"""The precision of the refinement follows a measurement, once in a process."""

from __future__ import annotations

import pytest
import torch

from dissm_engine.refine import precision_choice
from dissm_engine.refine.network import RefinementArchitecture
from dissm_engine.refine.precision_choice import is_clear_gain, is_faster_in_bfloat16, measured_seconds

SMALL = RefinementArchitecture(widths=(4, 8), blocks=1)


@pytest.fixture
def forgotten() -> None:
    precision_choice._measured_faster.cache_clear()


def test_bfloat16_needs_a_clear_gain_so_that_two_runs_agree() -> None:
    assert is_clear_gain(1.0, 0.84)
    assert not is_clear_gain(1.0, 0.86)
    assert not is_clear_gain(1.0, 1.4)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize(("bfloat16", "taken"), [(0.5, True), (0.9, False), (2.0, False)])
def test_the_choice_follows_the_measurement_and_is_kept(
    monkeypatch: pytest.MonkeyPatch, bfloat16: float, taken: bool
) -> None:
    measured = []

    def seconds(architecture: RefinementArchitecture, device: str) -> tuple[float, float]:
        measured.append(architecture)
        return 1.0, bfloat16

    monkeypatch.setattr(precision_choice, "native_bfloat16", lambda device: True)
    monkeypatch.setattr(precision_choice, "measured_seconds", seconds)
    assert is_faster_in_bfloat16(SMALL) is taken
    assert is_faster_in_bfloat16(SMALL) is taken
    assert measured == [SMALL]


@pytest.mark.usefixtures("forgotten")
def test_without_instructions_for_bfloat16_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(architecture: RefinementArchitecture, device: str) -> tuple[float, float]:
        raise AssertionError("measured")

    monkeypatch.setattr(precision_choice, "native_bfloat16", lambda device: False)
    monkeypatch.setattr(precision_choice, "measured_seconds", seconds)
    assert not is_faster_in_bfloat16(SMALL)


def test_a_measurement_leaves_the_random_numbers_of_others_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    full, half = measured_seconds(SMALL)
    assert torch.equal(torch.rand(3), expected)
    assert full > 0
    assert half > 0
