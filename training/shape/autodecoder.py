"""Auto-decoder training: decoder weights and codes together (paper Eq. 3, A.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dissm_engine.precision import native_bfloat16
from dissm_engine.progress import Progress, no_progress
from dissm_engine.shape.decoder import Decoder
from training.shape.sampling import Samples
from training.shape.shape_settings import ShapePreset

STATE_FILE = "autodecoder.pt"
_FINAL_RATE = 0.01


@dataclass
class AutoDecoder:
    """A training that can stop and go on.

    decoder: the network. codes: [K, D], one for each shape. optimizer: Adam over both. epoch: how many are done.
    loss: mean |error| of the last epoch, canonical units.
    """

    decoder: Decoder
    codes: nn.Parameter
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    loss: float = math.nan

    @staticmethod
    def fresh(shapes: int, preset: ShapePreset, seed: int, device: str = "cpu") -> AutoDecoder:
        """Random weights and codes from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = Decoder(preset.architecture)
            directions = torch.randn(shapes, preset.latent_size) / math.sqrt(preset.latent_size)
        decoder, codes = decoder.to(device), nn.Parameter((preset.code_start * directions).to(device))
        groups = [
            {
                "params": list(decoder.parameters()),
                "lr": preset.decoder_learning_rate,
                "weight_decay": preset.weight_decay,
            },
            {"params": [codes], "lr": preset.code_learning_rate, "weight_decay": 0.0},
        ]
        return AutoDecoder(decoder, codes, torch.optim.Adam(groups))

    def save(self, folder: Path) -> None:
        """Everything needed to go on, aside then renamed."""
        aside = folder / (STATE_FILE + ".partial")
        torch.save(self._state(), aside)
        aside.replace(folder / STATE_FILE)

    def restore(self, folder: Path) -> bool:
        """Take up the state in `folder`; False where there is none."""
        path = folder / STATE_FILE
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True, map_location=self.codes.device)
        self.decoder.load_state_dict(state["decoder"])
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self.codes.copy_(state["codes"])
        self.epoch, self.loss = int(state["epoch"]), float(state["loss"])
        return True

    def _state(self) -> dict[str, Any]:
        return {
            "decoder": self.decoder.state_dict(),
            "codes": self.codes.detach(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "loss": self.loss,
        }


def train_epoch(state: AutoDecoder, samples: Samples, preset: ShapePreset, seed: int) -> None:
    """One pass over all shapes. Every random draw comes from (seed, epoch), so that a resumed run repeats itself."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + state.epoch)
    torch.manual_seed(seed * 1_000_003 + state.epoch)
    _set_rates(state, preset)
    state.decoder.train()
    total, batches = 0.0, 0
    for shapes in torch.randperm(len(samples.inside), generator=generator).split(preset.batch_size):
        drawn = samples.draw(shapes, preset.samples_per_step, generator)
        coordinates, distances = (tensor.to(state.codes.device) for tensor in drawn)
        state.optimizer.zero_grad(set_to_none=True)
        error, loss = _losses(state, shapes, coordinates, distances, preset)
        loss.backward()
        state.optimizer.step()
        total, batches = total + error, batches + 1
    state.epoch += 1
    state.loss = total / batches


def train(
    state: AutoDecoder, samples: Samples, preset: ShapePreset, seed: int, progress: Progress = no_progress
) -> bool:
    """Epochs up to the next checkpoint; False once all of the preset's are done."""
    last = min(preset.epochs, state.epoch + preset.checkpoint_every - state.epoch % preset.checkpoint_every)
    while state.epoch < last:
        train_epoch(state, samples, preset, seed)
        progress("shape", state.epoch / preset.epochs)
    state.decoder.eval()
    return state.epoch < preset.epochs


def _losses(
    state: AutoDecoder, shapes: torch.Tensor, coordinates: torch.Tensor, distances: torch.Tensor, preset: ShapePreset
) -> tuple[float, torch.Tensor]:
    """Mean |error| for the record, and Eq. 3 with the optional eikonal term."""
    codes = state.codes[shapes.to(state.codes.device)]
    eikonal = preset.eikonal_weight > 0
    coordinates.requires_grad_(eikonal)
    device = state.codes.device
    half = preset.precision == "bfloat16" and native_bfloat16(device.type)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        predicted = state.decoder(coordinates, codes)
    error = (predicted - distances).abs().mean()
    ramp = min(1.0, (state.epoch + 1) / 100)
    loss = error + ramp * preset.prior_weight * codes.square().sum(dim=1).mean()
    if eikonal:
        (gradient,) = torch.autograd.grad(predicted.sum(), coordinates, create_graph=True)
        loss = loss + preset.eikonal_weight * (gradient.norm(dim=-1) - 1).abs().mean()
    return float(error.detach()), loss


def _set_rates(state: AutoDecoder, preset: ShapePreset) -> None:
    """Cosine to a hundredth, or (the paper) a tenth after half of the epochs."""
    done = state.epoch / preset.epochs
    if preset.schedule == "cosine":
        factor = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done))
    else:
        factor = 1.0 if done < 0.5 else 0.1
    for group, rate in zip(
        state.optimizer.param_groups, (preset.decoder_learning_rate, preset.code_learning_rate), strict=True
    ):
        group["lr"] = rate * factor
