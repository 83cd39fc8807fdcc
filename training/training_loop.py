"""The one loop that trains every network: optimiser steps, learning rate, weight average, checkpoints, metrics.

A trainer is a `TrainingTask`: it yields losses. Everything around them is here. A training that was killed goes on from
its last checkpoint and ends with the weights, bit for bit, of one that was not, if the task draws everything random
either from PyTorch's global generators or from generators that it seeds by the number of the epoch.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dissm_engine.atomic_file import open_atomic, remove_partial_files
from dissm_engine.errors import Reason
from training.errors import RunError
from training.metrics_file import MetricsFile
from training.stable_decay import StableThenDecay, Validation

CHECKPOINT_LAYOUT = 1
"""Raised whenever the content of a checkpoint changes in a way that older ones cannot be read."""

CHECKPOINT_UNKNOWN = Reason(
    "CHECKPOINT_UNKNOWN",
    "the checkpoint {path} was written by another version (layout {found}, this version reads {expected})",
    "finish the stage with the version that began it, or remove the file to begin the stage anew",
)
TRAINING_STOPPED = Reason(
    "TRAINING_STOPPED",
    "the training was asked to stop and did so after step {step} of {total_steps}",
    "run the same command again; it goes on from there",
)
LOSS_NOT_FINITE = Reason(
    "LOSS_NOT_FINITE",
    "the loss of step {step} is {loss}",
    "lower the learning rate in a new run folder; the last checkpoint is kept",
)

_log = logging.getLogger("dissm-train")

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The loss of one optimiser step.

    Attributes:
        loss: Scalar with its graph; what is minimised.
        metrics: Figures for the record, by name.
    """

    loss: Tensor
    metrics: Metrics


class TrainingTask(Protocol):
    """What is trained: a model, its optimiser, and the losses of an epoch."""

    @property
    def model(self) -> nn.Module:
        """Holds everything that is trained; the weight average is of its parameters."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Its learning rates are the rates at factor one."""
        ...

    def steps(self, epoch: int) -> Iterator[StepLoss]:
        """Yield the losses of an epoch (numbered from 0); the loop makes an optimiser step after each of them."""
        ...

    def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
        """The record of all steps since the last checkpoint. Validation belongs here; the model is in eval mode."""
        ...

    def export(self, averaged: nn.Module) -> None:
        """Write what later stages read.

        Args:
            averaged: A copy of the model with the averaged weights; the model itself where no average is kept.
        """
        ...


@dataclass(frozen=True, slots=True)
class Plateau:
    """Divide the learning rates by ten when a metric has not fallen for some checkpoints (appendix B.2)."""

    metric: str
    patience: int


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How a task is trained.

    Attributes:
        total_steps: Optimiser steps in all; the epoch in which they are reached ends there. With `StableThenDecay` it
            is not read: that schedule says itself when a training ends.
        schedule: Factor on the learning rates by step, from 0, or a plateau rule, or a schedule of open length.
        max_gradient_norm: Gradients of a larger norm are scaled down to it; None leaves them.
        ema_decay: Decay of the exponential moving average of the weights; None keeps no average.
        checkpoint_epochs: Epochs between two checkpoints.
        validation: Measures the averaged weights at some of the checkpoints, and after the last step.
    """

    total_steps: int
    schedule: Callable[[int], float] | Plateau | StableThenDecay
    max_gradient_norm: float | None = None
    ema_decay: float | None = None
    checkpoint_epochs: int = 1
    validation: Validation | None = None


class TrainingLoop:
    """Trains a task in a folder; goes on from the checkpoint that lies there.

    Args:
        task: What is trained.
        settings: How.
        checkpoint: The checkpoint's file. Its folder must exist.
        metrics: Gets a line with every checkpoint.

    Raises:
        RunError: `CHECKPOINT_UNKNOWN` if the file was written by another version.
    """

    def __init__(self, task: TrainingTask, settings: LoopSettings, checkpoint: Path, metrics: MetricsFile) -> None:
        self.task, self.settings = task, settings
        self.step, self.epoch = 0, 0
        self._checkpoint, self._metrics = checkpoint, metrics
        self._validated: list[tuple[int, float]] = []
        schedule = settings.schedule
        self.decay_begins = schedule.max_stable_steps if isinstance(schedule, StableThenDecay) else settings.total_steps
        self._schedule = self._scheduler()
        self._average = None if settings.ema_decay is None else _averaged(task.model, settings.ema_decay)
        self._restore()

    @property
    def averaged(self) -> nn.Module:
        """A copy of the model with the averaged weights; the model itself where no average is kept."""
        return self.task.model if self._average is None else self._average.module

    @property
    def total_steps(self) -> int:
        """Optimiser steps in all, as far as it is known now."""
        schedule = self.settings.schedule
        if isinstance(schedule, StableThenDecay):
            return self.decay_begins + schedule.decay_steps
        return self.settings.total_steps

    def begin_decay(self) -> None:
        """End the stable phase of a training that goes on from a checkpoint; nothing where there is no such phase.

        A training that has not made a step yet is left alone: a run asks it of all its trainings, and means the one
        that it had reached.
        """
        if isinstance(self.settings.schedule, StableThenDecay) and 0 < self.step < self.decay_begins:
            self.decay_begins = self.step
            self._write_checkpoint()
            _log.info("the decay of the learning rate begins at step %d", self.step)

    def run(self, progress: Callable[[float], None], stop: Callable[[], bool] = lambda: False) -> None:
        """Make all steps that are still missing, then export.

        Args:
            progress: Told the share of all steps that is done, after each of them.
            stop: Asked after each epoch whether to end early. A checkpoint is written before.

        Raises:
            RunError: `TRAINING_STOPPED` after `stop` said so, `LOSS_NOT_FINITE` if a loss is infinite or no number.
        """
        pending: list[Metrics] = []
        began = time.monotonic()
        while self.step < self.total_steps:
            pending += self._train_epoch(progress)
            stopped = stop() and self.step < self.total_steps
            if stopped or self.step == self.total_steps or self.epoch % self.settings.checkpoint_epochs == 0:
                self._finish_checkpoint(pending, time.monotonic() - began)
                pending, began = [], time.monotonic()
            if stopped:
                raise RunError(TRAINING_STOPPED, step=self.step, total_steps=self.total_steps)
        # Again also where all was done before: a kill may have come between the last checkpoint and its export.
        self.task.export(self.averaged)

    def _train_epoch(self, progress: Callable[[float], None]) -> list[Metrics]:
        recorded: list[Metrics] = []
        self.task.model.train()
        for found in self.task.steps(self.epoch):
            self._optimise(found.loss)
            recorded.append(found.metrics)
            progress(self.step / self.total_steps)
            if self.step == self.total_steps:
                break
        self.task.model.eval()
        if not recorded:
            raise ValueError(f"the epoch after step {self.step} has no steps, all in all are {self.total_steps}")
        self.epoch += 1
        return recorded

    def _optimise(self, loss: Tensor) -> None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RunError(LOSS_NOT_FINITE, step=self.step, loss=value)
        optimizer = self.task.optimizer
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        if self.settings.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.task.model.parameters(), self.settings.max_gradient_norm)
        optimizer.step()
        if isinstance(self._schedule, LambdaLR):
            self._schedule.step()
        if self._average is not None:
            self._average.update_parameters(self.task.model)
        self.step += 1

    def _finish_checkpoint(self, steps: Sequence[Metrics], seconds: float) -> None:
        """Record, then the checkpoint, then what later stages read: `_restore` drops a record without a checkpoint."""
        metrics = {**self.task.metrics_of(steps), **self._validate()}
        if isinstance(self.settings.schedule, Plateau) and isinstance(self._schedule, ReduceLROnPlateau):
            self._schedule.step(metrics[self.settings.schedule.metric])
        shown = {name: float(f"{value:.5g}") for name, value in metrics.items()}
        counts = {"epoch": self.epoch, "step": self.step}
        _log.info("%s", self._metrics.append({**counts, **shown, "seconds": round(seconds, 1)}))
        self._write_checkpoint()
        self.task.export(self.averaged)

    def _validate(self) -> Metrics:
        """Figures of the averaged weights where an evaluation is due. A flat curve lets the decay begin."""
        validation = self.settings.validation
        last = self._validated[-1][0] if self._validated else 0
        if validation is None or (self.step < last + validation.every_steps and self.step < self.total_steps):
            return {}
        found = validation.measure(self.averaged)
        self._validated.append((self.step, found[validation.watched]))
        stable = isinstance(self.settings.schedule, StableThenDecay) and self.step < self.decay_begins
        if stable and validation.flat.holds([value for _, value in self._validated]):
            self.decay_begins = self.step
            _log.info("the validation curve is flat: the decay of the learning rate begins at step %d", self.step)
        return found

    def _write_checkpoint(self) -> None:
        with open_atomic(self._checkpoint) as stream:
            torch.save(self._state(), stream)

    def _scheduler(self) -> LambdaLR | ReduceLROnPlateau:
        schedule, optimizer = self.settings.schedule, self.task.optimizer
        if isinstance(schedule, Plateau):
            return ReduceLROnPlateau(optimizer, patience=schedule.patience)
        if isinstance(schedule, StableThenDecay):
            # The rate of a step is set after the step before it, when its decay may not have been decided: the factor
            # of the step at which a decay begins is therefore the stable one.
            return LambdaLR(optimizer, lambda step: schedule.factor(step, self.decay_begins))
        return LambdaLR(optimizer, schedule)

    def _state(self) -> dict[str, Any]:  # a checkpoint's content, as torch.save takes it
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "layout": CHECKPOINT_LAYOUT,
            "step": self.step,
            "epoch": self.epoch,
            "model": self.task.model.state_dict(),
            "optimizer": self.task.optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "decay_begins": self.decay_begins,
            "validated": self._validated,
            "average": None if self._average is None else self._average.state_dict(),
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def _restore(self) -> None:
        remove_partial_files(self._checkpoint.parent)
        if not self._checkpoint.exists():
            self._metrics.drop_after(0)
            return
        state = torch.load(self._checkpoint, weights_only=True, map_location="cpu")
        if state.get("layout") != CHECKPOINT_LAYOUT:
            found = state.get("layout", "none")
            raise RunError(CHECKPOINT_UNKNOWN, path=self._checkpoint.name, found=found, expected=CHECKPOINT_LAYOUT)
        self.step, self.epoch = int(state["step"]), int(state["epoch"])
        # Checkpoints of trainings that began before there were these two have neither.
        self.decay_begins = int(state.get("decay_begins", self.decay_begins))
        self._validated = [(int(step), float(value)) for step, value in state.get("validated", [])]
        self.task.model.load_state_dict(state["model"])
        self.task.optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"]["cpu"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
        self.task.model.eval()
        self._metrics.drop_after(self.step)


def mean_metrics(steps: Sequence[Metrics]) -> dict[str, float]:
    """The mean of every figure over some steps."""
    return {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}


def cosine_factor(done: float, final: float) -> float:
    """Half a cosine from 1 at `done` = 0 down to `final` at `done` = 1."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average whose decay rises from 2/11 to `decay`, so that the random start soon fades."""

    def average(averaged: Any, current: Any, count: Any) -> None:  # PyTorch's parameter lists and counter
        steps = int(count)
        rising = min(decay, (1 + steps) / (10 + steps))
        follow = get_ema_multi_avg_fn(rising)  # type: ignore[no-untyped-call]  # untyped in torch
        follow(averaged, current, count)

    averaged = AveragedModel(model, multi_avg_fn=average)
    # The first call copies: the average begins at the weights before the first step.
    averaged.update_parameters(model)
    return averaged
