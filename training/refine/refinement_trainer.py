"""Training of the refinement network (paper 3.3, appendix C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dissm_engine.atomic_file import atomic_path, write_json
from dissm_engine.precision import native_bfloat16
from dissm_engine.progress import Progress
from dissm_engine.refine.network import RefinementNetwork
from dissm_engine.refine.refiner import input_channels
from training.context import never_stop
from training.metrics_file import MetricsFile
from training.refine.crops import LiverCrop, class_table, draw_sample
from training.refine.refinement_loss import RefinementBatch, overlap_term, refinement_loss
from training.refine.refinement_settings import RefinementPreset
from training.training_loop import LoopSettings, Metrics, StepLoss, TrainingLoop, cosine_factor, mean_metrics

WEIGHTS_FILE, DESCRIPTION_FILE, CHECKPOINT_FILE = "refine.safetensors", "refine.json", "training_state.pt"
_MAX_GRADIENT_NORM = 2.0
_FINAL_RATE = 0.02
_MAX_WARM_UP_STEPS = 100.0


class RefinementTraining:
    """The refinement network as a task of the training loop.

    Every step draws from a generator of its own (seed, step), so that a resumed run sees the samples that an
    uninterrupted one would have seen.

    Args:
        preset: Settings of the training.
        crops: What samples are cut from.
        seed: Of weights and samples.
        folder: Where the weights are exported to.
        device: "cpu" or "cuda".
    """

    def __init__(
        self, preset: RefinementPreset, crops: list[LiverCrop], seed: int, folder: Path, device: str = "cpu"
    ) -> None:
        self.preset, self.crops, self.seed, self.folder, self.device = preset, crops, seed, folder, device
        torch.manual_seed(seed)
        self.model = RefinementNetwork(preset.architecture).to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), preset.learning_rate, weight_decay=preset.weight_decay
        )
        self._classes = class_table()
        self._half = preset.bfloat16 and native_bfloat16(device)

    def start_from(self, folder: Path) -> None:
        """Take the weights of a finished training. A checkpoint, where there is one, takes their place again."""
        self.model.load_state_dict(load_file(folder / WEIGHTS_FILE))

    def train(self, progress: Progress, stop: Callable[[], bool] = never_stop) -> nn.Module:
        """Make the remaining steps; the network with the averaged weights. Raises RunError if `stop` said to end."""
        settings = LoopSettings(
            total_steps=self.preset.steps,
            schedule=partial(_learning_rate_factor, steps=self.preset.steps),
            max_gradient_norm=_MAX_GRADIENT_NORM,
            ema_decay=self.preset.ema_decay,
        )
        metrics = MetricsFile(self.folder / "metrics.jsonl", self.folder.name)
        loop = TrainingLoop(self, settings, self.folder / CHECKPOINT_FILE, metrics)
        loop.run(partial(progress, "refine"), stop)
        return loop.averaged

    def steps(self, epoch: int) -> Iterator[StepLoss]:
        """The steps between two checkpoints."""
        first = epoch * self.preset.checkpoint_every
        for step in range(first, min(first + self.preset.checkpoint_every, self.preset.steps)):
            batch = self._batch(np.random.default_rng([self.seed, step]))
            loss = refinement_loss(batch, self.preset.loss, self.crops[0].spacing, self.preset.rho_mm)
            dice_loss = float(overlap_term(batch).detach())
            yield StepLoss(loss, {"loss": float(loss.detach()), "dice_loss": dice_loss})

    def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
        """Means since the last checkpoint."""
        return mean_metrics(steps)

    def export(self, averaged: nn.Module) -> None:
        """The averaged weights and what they are, as the engine reads them."""
        weights = {name: value.cpu().contiguous() for name, value in averaged.state_dict().items()}
        with atomic_path(self.folder / WEIGHTS_FILE) as path:
            save_file(weights, path)
        about = {**asdict(self.preset.architecture), "tile": self.preset.tile}
        write_json(self.folder / DESCRIPTION_FILE, about, indent=2)

    def _batch(self, rng: np.random.Generator) -> RefinementBatch:
        samples = [draw_sample(self.crops, self.preset, self._classes, rng) for _ in range(self.preset.batch)]
        hu, prior, truth, view = (
            torch.stack([getattr(s, name) for s in samples]).to(self.device)
            for name in ("hu", "prior_mm", "truth_mm", "in_view")
        )
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self._half):
            change, tissue = self.model(input_channels(hu, prior, view))
        band = ((prior.abs() <= self.preset.band_mm) & (view > 0)).float()
        target = torch.stack([s.tissue for s in samples]).to(self.device)
        return RefinementBatch(prior + change.float(), change.float(), truth, band, tissue.float(), target)


def _learning_rate_factor(step: int, steps: int) -> float:
    """Short warm-up, then a cosine to two per cent."""
    warm_up = min(1.0, (step + 1) / min(_MAX_WARM_UP_STEPS, max(1.0, 0.05 * steps)))
    return warm_up * cosine_factor(step / max(1, steps), _FINAL_RATE)
