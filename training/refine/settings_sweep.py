"""Which settings of the refinement learn most in the same processor time: short trainings, one after the other.

Wall time on a busy machine compares nothing. What is given to each variant is processor time, painting included; its
learning rate rises over the first twentieth of it and falls to zero over the last three tenths, so that it ends as a
long training would.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from dissm_engine.errors import Reason
from dissm_engine.progress import Progress
from training.errors import RunError
from training.measurement_cache import cached_measurement
from training.refine.crops import RefinementSample, load_crops
from training.refine.painting import InProcessPainter
from training.refine.refinement_settings import RefinementPreset
from training.refine.refinement_trainer import RefinementTraining
from training.refine.validation import ValidationPatches

SETTING_UNKNOWN = Reason(
    "SETTING_UNKNOWN",
    "{text} does not vary a setting of the refinement: {problem}",
    "write it as learning_rate=3e-4,1e-3 or widths=24-48-72-96 or errors.centring=0,1",
)
_WARM_UP_SHARE, _DECAY_SHARE = 0.05, 0.3
_MAX_GRADIENT_NORM = 2.0


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
        chosen: The variants.
        files: Anatomies to learn from.
        validation: Patches of others.
        cpu_seconds: For each variant.
        folder: Keeps each variant's row, so that a sweep that was killed goes on.
        seed: Of weights and samples.
        progress: Told after every step.
        start: Weights to begin with; None: random ones.
    """
    rows = []
    for variant in chosen:
        measure = partial(_measured, variant, files, validation, cpu_seconds, folder, seed, progress, start)
        path = folder / f"{variant.name}.json"
        rows.append(cached_measurement(path, measure, asdict, lambda row: SweepRow(**row)))
    return rows


def _measured(
    variant: Variant,
    files: Sequence[Path],
    validation: ValidationPatches,
    cpu_seconds: float,
    folder: Path,
    seed: int,
    progress: Progress,
    start: Mapping[str, Tensor] | None,
) -> SweepRow:
    preset = variant.preset
    painter = InProcessPainter(load_crops(files, preset.tile), preset, seed)
    task = RefinementTraining(preset, painter, seed, folder)
    if start is not None:
        task.start_from(start)
    clock = _Clock(cpu_seconds)
    task.painter = _TimedPainter(painter, clock)
    steps = 0
    for step in _train(task, clock):
        steps = step + 1
        progress(f"sweep {variant.name}", min(1.0, clock.share))
    seconds = clock.seconds
    found = validation.measure(task.model.eval(), half=task.half)
    return SweepRow(
        variant.name,
        steps,
        steps * preset.batch,
        seconds,
        clock.painting / seconds,
        found["validation_dsc"],
        found["validation_mm"],
        found["validation_bias_mm"],
    )


class _Clock:
    """Processor time since it was made, and how much of it went into painting."""

    def __init__(self, budget: float) -> None:
        self._began, self._budget = time.process_time(), budget
        self.painting = 0.0

    @property
    def seconds(self) -> float:
        return time.process_time() - self._began

    @property
    def share(self) -> float:
        return self.seconds / self._budget


class _TimedPainter:
    """A painter whose time is counted."""

    def __init__(self, painter: InProcessPainter, clock: _Clock) -> None:
        self._painter, self._clock = painter, clock

    def batches(self, steps: Sequence[int]) -> Iterator[list[RefinementSample]]:
        for step in steps:
            began = time.process_time()
            batch = self._painter.batch(step)
            self._clock.painting += time.process_time() - began
            yield batch


def _train(task: RefinementTraining, clock: _Clock) -> Iterator[int]:
    """Make steps until the time is over; yield their numbers. The learning rate follows the time."""
    rates = [group["lr"] for group in task.optimizer.param_groups]
    task.model.train()
    step = 0
    while True:
        for found in task.steps(step // task.preset.checkpoint_every):
            share = clock.share
            if share >= 1:
                return
            for group, rate in zip(task.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, (share + 1e-3) / _WARM_UP_SHARE, (1 - share) / _DECAY_SHARE)
            task.optimizer.zero_grad(set_to_none=True)
            found.loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            nn.utils.clip_grad_norm_(task.model.parameters(), _MAX_GRADIENT_NORM)
            task.optimizer.step()
            yield step
            step += 1


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
