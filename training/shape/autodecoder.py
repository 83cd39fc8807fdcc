"""Auto-decoder training: decoder weights and codes together (paper Eq. 3, A.2)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from dissm_engine.precision import native_bfloat16
from dissm_engine.shape.decoder import Decoder
from dissm_engine.shape.latent import LatentSpace
from dissm_engine.shape.model import ShapeModel
from training.shape.aligned_livers import AlignedLiver, save_livers
from training.shape.alignment import Alignment
from training.shape.sampling import Samples
from training.shape.shape_settings import ShapePreset
from training.training_loop import LoopSettings, Metrics, StepLoss, cosine_factor, mean_metrics

_FINAL_RATE = 0.01
_PRIOR_RAMP_EPOCHS = 100


class AutoDecoder(nn.Module):
    """The decoder and a code for each training shape, with random weights and codes from a seed.

    Attributes:
        decoder: f(x, z), canonical units.
        codes: [K, D], one for each shape.
    """

    def __init__(self, shapes: int, preset: ShapePreset, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = Decoder(preset.architecture)
            directions = torch.randn(shapes, preset.latent_size) / math.sqrt(preset.latent_size)
        self.codes = nn.Parameter(preset.code_start * directions)


class AutoDecoderTraining:
    """The auto-decoder as a task of the training loop.

    Every random draw of an epoch comes from the seed and the epoch's number.

    Args:
        samples: Coordinates and distances of all shapes.
        alignment: Where the livers stand; its names, sorted, are the order of the shapes.
        preset: Settings of the stage.
        seed: Of weights, codes and batches.
        folder: Where the model and the livers are exported to.
        device: "cpu" or "cuda".
        deformed: Names of those shapes that are real livers in another shape: all of them together count as much as the
            real ones do.
    """

    def __init__(
        self,
        samples: Samples,
        alignment: Alignment,
        preset: ShapePreset,
        seed: int,
        folder: Path,
        device: str = "cpu",
        deformed: frozenset[str] = frozenset(),
    ) -> None:
        self.names = sorted(alignment.poses)
        self.real = torch.tensor([index for index, name in enumerate(self.names) if name not in deformed])
        self.deformed = torch.tensor([index for index, name in enumerate(self.names) if name in deformed])
        self.samples, self.alignment, self.preset = samples, alignment, preset
        self.seed, self.folder, self.device = seed, folder, device
        self.model = AutoDecoder(len(samples.inside), preset, seed).to(device)
        decoder = {
            "params": list(self.model.decoder.parameters()),
            "lr": preset.decoder_learning_rate,
            "weight_decay": preset.weight_decay,
        }
        codes = {"params": [self.model.codes], "lr": preset.code_learning_rate, "weight_decay": 0.0}
        self.optimizer = torch.optim.Adam([decoder, codes])

    @property
    def loop_settings(self) -> LoopSettings:
        """Every epoch visits each real shape once, and as many of the deformed ones."""
        visits = len(self.real) * (2 if len(self.deformed) else 1)
        steps_per_epoch = -(-visits // self.preset.batch_size)
        return LoopSettings(
            total_steps=self.preset.epochs * steps_per_epoch,
            schedule=_learning_rate_factor(self.preset, steps_per_epoch),
            checkpoint_epochs=self.preset.checkpoint_every,
        )

    def steps(self, epoch: int) -> Iterator[StepLoss]:
        """One pass over all real shapes and over as many deformed ones, which take turns."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        torch.manual_seed(self.seed * 1_000_003 + epoch)
        visited = torch.cat([self.real, self._deformed_in(epoch)])
        order = torch.randperm(len(visited), generator=generator)
        for shapes in torch.split(visited[order], self.preset.batch_size):
            drawn = self.samples.draw(shapes, self.preset.samples_per_step, generator)
            coordinates, distances = (tensor.to(self.device) for tensor in drawn)
            yield self._loss(epoch, shapes, coordinates, distances)

    def _deformed_in(self, epoch: int) -> torch.Tensor:
        """Indices of the deformed shapes of an epoch: each is visited once before any is visited again."""
        if len(self.deformed) == 0:
            return self.deformed.long()
        places = epoch * len(self.real) + torch.arange(len(self.real))
        laps, within = (places // len(self.deformed)).tolist(), (places % len(self.deformed)).tolist()
        orders = {lap: self._lap_order(lap) for lap in set(laps)}
        return torch.stack([orders[lap][place] for lap, place in zip(laps, within, strict=True)])

    def _lap_order(self, lap: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + 500_009 + lap)
        return self.deformed[torch.randperm(len(self.deformed), generator=generator)]

    def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
        """Mean loss, and mean |error| in canonical units."""
        return mean_metrics(steps)

    def export(self, averaged: nn.Module) -> None:
        """The model and the livers' codes as they stand: `shape.safetensors`, `shape.json`, `livers.json`."""
        codes = self.model.codes.detach().cpu()
        space = LatentSpace.from_codes(self._weighted(codes), self.preset.components)
        # A copy: the model freezes its decoder, and the training goes on with this one.
        decoder = copy.deepcopy(self.model.decoder)
        radius = self.preset.sphere_radius * self.alignment.reach
        ShapeModel(decoder, space, self.alignment.mm_per_unit, radius).save(self.folder)
        real = {self.names[index]: codes[index] for index in self.real.tolist()}
        livers = {
            name: AlignedLiver(self.alignment.poses[name], code.numpy(), space.loadings(code).numpy())
            for name, code in real.items()
        }
        save_livers(self.folder, livers)

    def _weighted(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [N, D] among which the real shapes' stand as often as there are deformed ones for each."""
        if len(self.deformed) == 0:
            return codes
        times = max(1, round(len(self.deformed) / len(self.real)))
        return torch.cat([codes[self.real].repeat(times, 1), codes[self.deformed]])

    def _loss(self, epoch: int, shapes: torch.Tensor, coordinates: torch.Tensor, distances: torch.Tensor) -> StepLoss:
        """Eq. 3 with the optional eikonal term."""
        preset = self.preset
        codes = self.model.codes[shapes.to(self.device)]
        eikonal = preset.eikonal_weight > 0
        coordinates.requires_grad_(eikonal)
        device_type = torch.device(self.device).type
        half = preset.precision == "bfloat16" and native_bfloat16(device_type)
        with torch.autocast(device_type, torch.bfloat16, enabled=half):
            predicted = self.model.decoder(coordinates, codes)
        error = (predicted - distances).abs().mean()
        ramp = min(1.0, (epoch + 1) / _PRIOR_RAMP_EPOCHS)
        loss = error + ramp * preset.prior_weight * codes.square().sum(dim=1).mean()
        if eikonal:
            (gradient,) = torch.autograd.grad(predicted.sum(), coordinates, create_graph=True)
            loss = loss + preset.eikonal_weight * (gradient.norm(dim=-1) - 1).abs().mean()
        return StepLoss(loss, {"loss": float(loss.detach()), "error": float(error.detach())})


def _learning_rate_factor(preset: ShapePreset, steps_per_epoch: int) -> Callable[[int], float]:
    """By epoch: cosine to a hundredth, or (the paper) a tenth after half of the epochs."""

    def factor(step: int) -> float:
        done = step // steps_per_epoch / preset.epochs
        if preset.schedule == "cosine":
            return cosine_factor(done, _FINAL_RATE)
        return 1.0 if done < 0.5 else 0.1

    return factor
