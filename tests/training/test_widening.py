"""A wider network that begins with a narrower one's weights computes the same, and its new channels learn at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dissm_engine.refine.network import INPUT_CHANNELS, RefinementArchitecture, RefinementNetwork
from training.bundle_start import BundleStart
from training.errors import RunError
from training.refine.painting import InProcessPainter
from training.refine.refinement_settings import RefinementPreset
from training.refine.refinement_trainer import RefinementTraining
from training.refine.widening import widened

NARROW = RefinementArchitecture(widths=(4, 6, 8), blocks=2)
WIDE = RefinementArchitecture(widths=(7, 6, 12), blocks=2)


def trained_network(architecture: RefinementArchitecture, seed: int) -> RefinementNetwork:
    """Random weights, in the last layer as well, which begins with zeros."""
    torch.manual_seed(seed)
    network = RefinementNetwork(architecture)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


def test_a_wider_network_computes_what_the_narrower_one_does() -> None:
    narrow, wide = trained_network(NARROW, 0), trained_network(WIDE, 1)
    image = torch.randn(1, INPUT_CHANNELS, 16, 16, 16)
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    with torch.no_grad():
        for ours, theirs in zip(wide(image), narrow(image), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_new_channels_have_a_gradient_at_the_first_step() -> None:
    narrow, wide = trained_network(NARROW, 0), trained_network(WIDE, 1)
    wide.load_state_dict(widened(narrow.state_dict(), wide))
    change, _ = wide(torch.randn(1, INPUT_CHANNELS, 16, 16, 16))
    change.square().mean().backward()
    gradient = wide.change.weight.grad
    assert gradient is not None
    assert float(gradient[:, 4:].abs().min()) > 0


def test_a_training_of_a_wider_preset_begins_with_the_shipped_weights(tmp_path: Path) -> None:
    refiner = BundleStart.read("shipped").bundle.model.refiner
    wider = RefinementPreset(widths=tuple(width + 8 for width in refiner.network.architecture.widths))
    BundleStart.read("shipped").require_architecture(wider.architecture)
    task = RefinementTraining(wider, InProcessPainter([], wider, 0), 0, tmp_path)
    task.start_from(refiner.state_tensors())
    image = torch.randn(1, INPUT_CHANNELS, 32, 32, 32)
    with torch.no_grad():
        assert torch.allclose(task.model(image)[0], refiner.network.float()(image)[0], atol=1e-3)


@pytest.mark.parametrize("widths", [(16, 64, 96, 128), (32, 64, 96)])
def test_a_narrower_or_shallower_preset_cannot_begin_with_the_shipped_weights(widths: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match="widths"):
        BundleStart.read("shipped").require_architecture(RefinementPreset(widths=widths).architecture)
