"""Which settings of the refinement learn most in the same processor time: short trainings side by side.

Wall time on a busy machine compares nothing, and processor time little: a step costs more where others use the same
caches. The variants are therefore trained in turns, each time the one that has had the least processor time, painting
included, so that whatever slows one slows all. The learning rate rises over the first twentieth of the time and falls
to zero over the last three tenths, so that each ends as a long training would.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dissm_engine.atomic_file import open_atomic
from dissm_engine.errors import Reason
from dissm_engine.progress import Progress
from training.errors import RunError
from training.refine.crops import LiverCrop, load_crops
from training.refine.painting import InProcessPainter
from training.refine.refinement_settings import RefinementPreset
from training.refine.refinement_trainer import MAX_GRADIENT_NORM, RefinementTraining
from training.refine.validation import ValidationPatches

SETTING_UNKNOWN = Reason(
    "SETTING_UNKNOWN",
    "{text} does not vary a setting of the refinement: {problem}",
    "write it as learning_rate=3e-4,1e-3 or widths=24-48-72-96 or errors.centring=0,1",
)
_WARM_UP_SHARE, _DECAY_SHARE = 0.05, 0.3
_KEPT_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class Variant:
    """A preset in which one setting differs.

    Attributes:
        name: The setting and its value; "base" for the preset itself.
        preset: All settings.
    """

    name: str
    preset: RefinementPreset


@dataclass(frozen=True, slots=True)
class SweepRow:
    """What a variant came to.

    Attributes:
        name: Of the variant.
        steps, samples: Made in the given time.
        cpu_seconds: Processor time spent, without the measurement.
        painting_share: Share of it that went into the samples.
        dsc, distance_mm, bias_mm: On the validation patches (`ValidationPatches.measure`).
    """

    name: str
    steps: int
    samples: int
    cpu_seconds: float
    painting_share: float
    dsc: float
    distance_mm: float
    bias_mm: float


def variants(base: RefinementPreset, varied: Sequence[str]) -> list[Variant]:
    """The preset itself, then one variant for each value of each varied setting.

    Args:
        base: What the variants differ from.
        varied: `setting=value,value`; a list has dashes between its numbers, a setting of `errors` or `loss` a dot.

    Raises:
        RunError: `SETTING_UNKNOWN`.
    """
    found = [Variant("base", base)]
    for text in varied:
        name, _, values = text.partition("=")
        for value in values.split(","):
            found.append(Variant(f"{name}={value}", _changed(base, text, name, value)))
    return found


def _changed(base: RefinementPreset, text: str, name: str, value: str) -> RefinementPreset:
    content = base.model_dump(mode="json")
    *path, last = name.split(".")
    try:
        section = content
        for part in path:
            section = section[part]
        if last not in section:
            raise KeyError(last)
        section[last] = value.split("-") if isinstance(section[last], list) else value
        return RefinementPreset.model_validate(content)
    except (KeyError, TypeError, ValueError) as problem:
        raise RunError(SETTING_UNKNOWN, text=text, problem=problem) from problem


def sweep(
    chosen: Sequence[Variant],
    files: Sequence[Path],
    validation: ValidationPatches,
    cpu_seconds: float,
    folder: Path,
    seed: int,
    progress: Progress,
    start: Mapping[str, Tensor] | None = None,
) -> list[SweepRow]:
    """Train every variant for the same processor time, from the same weights and on the same bodies.

    Args:
        chosen: The variants, all of one tile size or of several; the bodies are read once for each size.
        files: Anatomies to learn from.
        validation: Patches of others.
        cpu_seconds: For each variant.
        folder: Keeps each training every minute, so that a sweep that was killed goes on.
        seed: Of weights and samples.
        progress: Told after every step.
        start: Weights to begin with; None: random ones.
    """
    crops = {tile: load_crops(files, tile) for tile in {variant.preset.tile for variant in chosen}}
    contests = [_Contest(variant, crops[variant.preset.tile], cpu_seconds, folder, seed, start) for variant in chosen]
    while running := [contest for contest in contests if contest.share < 1]:
        least = min(running, key=lambda contest: contest.seconds)
        least.make_step()
        progress("sweep", sum(min(1.0, contest.share) for contest in contests) / len(contests))
    return [contest.row(validation) for contest in contests]


class _Contest:
    """The training of one variant, which counts its own processor time.

    Attributes:
        seconds: Spent so far, without measurements.
        painting: Seconds of them that went into the samples.
        step: Optimiser steps made.
    """

    def __init__(
        self,
        variant: Variant,
        crops: Sequence[LiverCrop],
        budget: float,
        folder: Path,
        seed: int,
        start: Mapping[str, Tensor] | None,
    ) -> None:
        self.variant, self._budget = variant, budget
        self._painter = InProcessPainter(crops, variant.preset, seed)
        self._task = RefinementTraining(variant.preset, self._painter, seed, folder)
        if start is not None:
            self._task.start_from(start)
        self._task.model.train()
        self.seconds, self.painting, self.step = 0.0, 0.0, 0
        self._file, self._kept_at = folder / f"{variant.name}.pt", 0.0
        if self._file.exists():
            self._restore()

    @property
    def share(self) -> float:
        return self.seconds / self._budget

    def make_step(self) -> None:
        began = time.process_time()
        samples = self._painter.batch(self.step)
        self.painting += time.process_time() - began
        task = self._task
        for group in task.optimizer.param_groups:
            decay = max(0.0, 1 - self.share) / _DECAY_SHARE
            group["lr"] = self.variant.preset.learning_rate * min(1.0, (self.share + 1e-3) / _WARM_UP_SHARE, decay)
        task.optimizer.zero_grad(set_to_none=True)
        task.loss_of(samples).loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        nn.utils.clip_grad_norm_(task.model.parameters(), MAX_GRADIENT_NORM)
        task.optimizer.step()
        self.step += 1
        self.seconds += time.process_time() - began
        if self.seconds > self._kept_at + _KEPT_EVERY_SECONDS or self.share >= 1:
            self._keep()

    def row(self, validation: ValidationPatches) -> SweepRow:
        found = validation.measure(self._task.model, half=self._task.half)
        return SweepRow(
            self.variant.name,
            self.step,
            self.step * self.variant.preset.batch,
            self.seconds,
            self.painting / self.seconds,
            found["validation_dsc"],
            found["validation_mm"],
            found["validation_bias_mm"],
        )

    def _keep(self) -> None:
        state = {
            "model": self._task.model.state_dict(),
            "optimizer": self._task.optimizer.state_dict(),
            "counts": {"seconds": self.seconds, "painting": self.painting, "step": self.step},
        }
        with open_atomic(self._file) as stream:
            torch.save(state, stream)
        self._kept_at = self.seconds

    def _restore(self) -> None:
        state = torch.load(self._file, weights_only=True)
        self._task.model.load_state_dict(state["model"])
        self._task.optimizer.load_state_dict(state["optimizer"])
        counts = state["counts"]
        self.seconds, self.painting, self.step = counts["seconds"], counts["painting"], counts["step"]
        self._kept_at = self.seconds


def sweep_table(rows: Sequence[SweepRow]) -> str:
    """The rows as a Markdown table, in their order."""
    lines = [
        "| setting | steps | samples | painting | DSC in the band | distance (mm) | bias (mm) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.steps} | {row.samples} | {100 * row.painting_share:.0f} % | {100 * row.dsc:.2f} | "
            f"{row.distance_mm:.2f} | {row.bias_mm:+.2f} |"
        )
    return "\n".join(lines) + "\n"
