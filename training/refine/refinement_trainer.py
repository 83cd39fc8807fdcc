"""Training of the refinement network; goes on from its last checkpoint after a kill."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dissm_engine.precision import native_bfloat16
from dissm_engine.progress import Progress
from dissm_engine.refine.network import RefinementNetwork
from dissm_engine.refine.refiner import input_channels
from training.refine.crops import LiverCrop, class_table, draw_sample
from training.refine.refinement_loss import RefinementBatch, overlap_term, refinement_loss
from training.refine.refinement_settings import RefinePreset

_log = logging.getLogger("dissm-train")
_CHECKPOINT, _WEIGHTS, _DESCRIPTION = "checkpoint.pt", "refine.safetensors", "refine.json"


@dataclass
class RefinementTrainer:
    """The network, its optimiser and its running average. Every step draws from a generator of its own (seed, step),
    so that a resumed run sees the samples that an uninterrupted one would have seen."""

    preset: RefinePreset
    crops: list[LiverCrop]
    seed: int
    folder: Path
    device: str = "cpu"

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.network = RefinementNetwork(self.preset.architecture).to(self.device)
        self.average = RefinementNetwork(self.preset.architecture).to(self.device)
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), self.preset.learning_rate, weight_decay=self.preset.weight_decay
        )
        self.step = 0
        self.table = class_table()
        self.half = self.preset.bfloat16 and native_bfloat16(self.device)

    def start_from(self, folder: Path) -> None:
        """Take the weights of a finished training, unless this one has begun already."""
        if not (self.folder / _CHECKPOINT).exists():
            weights = load_file(folder / _WEIGHTS)
            self.network.load_state_dict(weights)
            self.average.load_state_dict(weights)

    def train(self, progress: Progress) -> None:
        """Run the remaining steps."""
        self._restore()
        started, first, losses, overlaps = time.monotonic(), self.step, [], []
        while self.step < self.preset.steps:
            loss, overlap = self._one_step()
            losses.append(loss)
            overlaps.append(overlap)
            if self.step % self.preset.checkpoint_every == 0 or self.step == self.preset.steps:
                pace = (time.monotonic() - started) / (self.step - first)
                _log.info(
                    "refine step %d/%d loss %.4f dice-loss %.4f, %.2f s a step",
                    self.step,
                    self.preset.steps,
                    np.mean(losses),
                    np.mean(overlaps),
                    pace,
                )
                losses, overlaps = [], []
                self._save()
            progress("refine", self.step / self.preset.steps)
        # Again, in case the last save was cut off between checkpoint and weights.
        self._export()

    def _one_step(self) -> tuple[float, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.preset.learning_rate * _schedule(self.step, self.preset.steps)
        batch = self._batch(np.random.default_rng([self.seed, self.step]))
        loss = refinement_loss(batch, self.preset.loss, self.crops[0].spacing, self.preset.rho_mm)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return float(loss.detach()), float(overlap_term(batch).detach())

    def _batch(self, rng: np.random.Generator) -> RefinementBatch:
        samples = [draw_sample(self.crops, self.preset, self.table, rng) for _ in range(self.preset.batch)]
        hu, prior, truth, view = (
            torch.stack([getattr(s, name) for s in samples]).to(self.device)
            for name in ("hu", "prior_mm", "truth_mm", "in_view")
        )
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half):
            change, tissue = self.network(input_channels(hu, prior, view))
        band = ((prior.abs() <= self.preset.band_mm) & (view > 0)).float()
        target = torch.stack([s.tissue for s in samples]).to(self.device)
        return RefinementBatch(prior + change.float(), change.float(), truth, band, tissue.float(), target)

    def _follow(self) -> None:
        decay = min(self.preset.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        aside = self.folder / (_CHECKPOINT + ".new")
        torch.save(state, aside)
        aside.replace(self.folder / _CHECKPOINT)
        self._export()

    def _export(self) -> None:
        """The averaged weights and what they are, as the engine reads them."""
        weights: dict[str, Tensor] = {k: v.cpu().contiguous() for k, v in self.average.state_dict().items()}
        save_file(weights, self.folder / (_WEIGHTS + ".new"))
        about = {**asdict(self.preset.architecture), "tile": self.preset.tile, "step": self.step}
        (self.folder / (_DESCRIPTION + ".new")).write_text(json.dumps(about, indent=2))
        for name in (_WEIGHTS, _DESCRIPTION):
            (self.folder / (name + ".new")).replace(self.folder / name)

    def _restore(self) -> None:
        path = self.folder / _CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def _schedule(step: int, steps: int) -> float:
    """Short warm-up, then a cosine to two per cent."""
    warm = min(1.0, (step + 1) / min(100.0, max(1.0, 0.05 * steps)))
    return warm * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * step / max(1, steps)))))
