"""Training of the refinement network (paper 3.3, appendix C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from dissm_engine.precision import native_bfloat16
from dissm_engine.preprocessing import FIELD_SPACING_MM
from dissm_engine.progress import Progress
from dissm_engine.refine.network import RefinementNetwork
from dissm_engine.refine.refiner import RefinerArchitecture, input_channels
from training.context import never_stop
from training.metrics_file import MetricsFile
from training.refine.crops import RefinementSample
from training.refine.painting import Painter
from training.refine.refinement_loss import RefinementBatch, overlap_term, refinement_loss
from training.refine.refinement_settings import RefinementPreset
from training.refine.refiner_files import save_refiner
from training.refine.validation import WATCHED, ValidationPatches
from training.refine.widening import widened
from training.stable_decay import Validation
from training.training_loop import LoopSettings, Metrics, StepLoss, TrainingLoop, mean_metrics

CHECKPOINT_FILE = "training_state.pt"
METRICS_FILE = "metrics.jsonl"
MAX_GRADIENT_NORM = 2.0


class RefinementTraining:
    """The refinement network as a task of the training loop.

    The samples of a step depend on its number alone, so that a resumed run sees those that an uninterrupted one would
    have seen.

    Args:
        preset: Settings of the training.
        painter: Gives the samples.
        seed: Of the weights.
        folder: Where the weights are exported to.
        device: "cpu" or "cuda".
        validation: Patches on which the averaged weights are measured; None: they are not.
    """

    def __init__(
        self,
        preset: RefinementPreset,
        painter: Painter,
        seed: int,
        folder: Path,
        device: str = "cpu",
        validation: ValidationPatches | None = None,
    ) -> None:
        self.preset, self.painter, self.folder, self.device = preset, painter, folder, device
        self.validation = validation
        torch.manual_seed(seed)
        self.model = RefinementNetwork(preset.architecture).to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), preset.learning_rate, weight_decay=preset.weight_decay
        )
        self.half = preset.bfloat16 and native_bfloat16(device)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of another training, of a network as wide or narrower.

        A checkpoint, where there is one, takes their place again.
        """
        start = {name: value.float().to(self.device) for name, value in weights.items()}
        self.model.load_state_dict(widened(start, self.model))

    def train(self, progress: Progress, stop: Callable[[], bool] = never_stop, decay_now: bool = False) -> nn.Module:
        """Make the remaining steps.

        Args:
            progress: Told the share of the steps that is done, under the name "refine".
            stop: Asked between checkpoints whether to end early.
            decay_now: Whether to end the stable phase at the checkpoint that the training goes on from.

        Returns:
            The network with the averaged weights.

        Raises:
            RunError: `stop` said to end, or a loss is no number.
        """
        preset = self.preset
        settings = LoopSettings(
            total_steps=preset.steps,
            schedule=preset.rate_schedule,
            max_gradient_norm=MAX_GRADIENT_NORM,
            ema_decay=preset.ema_decay,
            validation=self._validation(),
        )
        metrics = MetricsFile(self.folder / METRICS_FILE, self.folder.name)
        loop = TrainingLoop(self, settings, self.folder / CHECKPOINT_FILE, metrics)
        if decay_now:
            loop.begin_decay()
        loop.run(partial(progress, "refine"), stop)
        return loop.averaged

    def steps(self, epoch: int) -> Iterator[StepLoss]:
        """The steps between two checkpoints."""
        first = epoch * self.preset.checkpoint_every
        for samples in self.painter.batches(range(first, first + self.preset.checkpoint_every)):
            yield self.loss_of(samples)

    def loss_of(self, samples: Sequence[RefinementSample]) -> StepLoss:
        """The loss of one batch."""
        batch = self._batch(samples)
        loss = refinement_loss(batch, self.preset.loss, FIELD_SPACING_MM, self.preset.rho_mm)
        return StepLoss(loss, {"loss": float(loss.detach()), "dice_loss": float(overlap_term(batch).detach())})

    def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
        """Means since the last checkpoint."""
        return mean_metrics(steps)

    def export(self, averaged: nn.Module) -> None:
        """The averaged weights and what they are, as the engine reads them."""
        save_refiner(
            self.folder, averaged.state_dict(), RefinerArchitecture(self.preset.architecture, self.preset.tile)
        )

    def _validation(self) -> Validation | None:
        if self.validation is None:
            return None
        measure = partial(self.validation.measure, device=self.device, half=self.half)
        return Validation(measure, self.preset.validation_steps, WATCHED, self.preset.flat_rule)

    def _batch(self, samples: Sequence[RefinementSample]) -> RefinementBatch:
        hu, prior, truth, view = (
            torch.stack([getattr(s, name) for s in samples]).to(self.device)
            for name in ("hu", "prior_mm", "truth_mm", "in_view")
        )
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half):
            change, tissue = self.model(input_channels(hu, prior, view))
        band = ((prior.abs() <= self.preset.band_mm) & (view > 0)).float()
        target = torch.stack([s.tissue for s in samples]).to(self.device)
        return RefinementBatch(prior + change.float(), change.float(), truth, band, tissue.float(), target)
