"""A training of open length: when its stable phase ends, what its rates are, and that a kill changes nothing of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from training.errors import RunError
from training.metrics_file import MetricsFile
from training.stable_decay import FlatRule, StableThenDecay, Validation
from training.training_loop import LoopSettings, Metrics, StepLoss, TrainingLoop, mean_metrics

STEPS_PER_EPOCH = 3
SCHEDULE = StableThenDecay(warmup_steps=2, max_stable_steps=24, decay_steps=7)


class LineFit:
    """A small network; its draws come from PyTorch's global generator, which only a checkpoint carries."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)
        self.rates: list[float] = []

    def steps(self, epoch: int) -> Iterator[StepLoss]:
        for _ in range(STEPS_PER_EPOCH):
            inputs = torch.randn(8, 2)
            loss = (self.model(inputs)[:, 0] - inputs.sum(dim=1)).square().mean()
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            yield StepLoss(loss, {"loss": float(loss.detach())})

    def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
        return mean_metrics(steps)

    def export(self, averaged: nn.Module) -> None:
        pass


class Curve:
    """A validation whose values are given beforehand; the last of them comes again and again."""

    def __init__(self, values: Sequence[float], seen: int = 0) -> None:
        self.values, self.seen = values, seen

    def __call__(self, averaged: nn.Module) -> Mapping[str, float]:
        value = self.values[min(self.seen, len(self.values) - 1)]
        self.seen += 1
        return {"validation_dsc": value}


def loop_of(
    folder: Path, task: LineFit, curve: Curve | None = None, schedule: StableThenDecay = SCHEDULE
) -> TrainingLoop:
    validation = None if curve is None else Validation(curve, 6, "validation_dsc", FlatRule(0.01, 2))
    settings = LoopSettings(0, schedule, ema_decay=0.9, validation=validation)
    return TrainingLoop(task, settings, folder / "state.pt", MetricsFile(folder / "metrics.jsonl", "line"))


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def silent(_: float) -> None:
    pass


def test_a_curve_is_flat_when_its_best_gained_too_little_and_never_before_it_is_long_enough() -> None:
    rule = FlatRule(min_gain=0.01, evaluations=2)
    assert not rule.holds([0.5, 0.5])
    assert rule.holds([0.5, 0.5, 0.505])
    assert not rule.holds([0.5, 0.505, 0.511])
    # A dip is no gain, and a return from it is none either.
    assert rule.holds([0.5, 0.6, 0.4, 0.6])


def test_without_validation_the_rates_rise_stay_and_fall_to_zero_over_the_last_steps(tmp_path: Path) -> None:
    task = LineFit(1)
    loop = loop_of(tmp_path, task)
    loop.run(silent)
    factors = [rate / 1e-2 for rate in task.rates]
    assert factors[:3] == pytest.approx([0.5, 1, 1])
    assert factors[2:25] == pytest.approx([1.0] * 23)
    assert factors[24:] == pytest.approx([(7 - step) / 7 for step in range(7)])
    assert loop.step == loop.total_steps == 31


def test_the_averaged_weights_are_measured_every_so_many_steps_and_after_the_last(tmp_path: Path) -> None:
    loop_of(tmp_path, LineFit(1), Curve([0.5, 0.6, 0.7, 0.8])).run(silent)
    assert [line["step"] for line in lines(tmp_path) if "validation_dsc" in line] == [6, 12, 18, 24, 30, 31]


def test_a_flat_curve_ends_the_stable_phase(tmp_path: Path) -> None:
    loop = loop_of(tmp_path, LineFit(1), Curve([0.5]))
    loop.run(silent)
    assert (loop.decay_begins, loop.step) == (18, 25)


@pytest.mark.parametrize("stopped_after", [3, 12, 18, 21])
def test_a_training_that_was_stopped_decides_and_ends_as_one_that_was_not(tmp_path: Path, stopped_after: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    straight = loop_of(whole, LineFit(1), Curve([0.5]))
    straight.run(silent)
    first = loop_of(broken, LineFit(1), Curve([0.5]))
    with pytest.raises(RunError, match=f"after step {stopped_after} of"):
        first.run(silent, lambda: first.step == stopped_after)
    resumed = loop_of(broken, LineFit(99), Curve([0.5]))
    resumed.run(silent)
    assert (resumed.decay_begins, resumed.step) == (18, 25)
    for name, weight in straight.averaged.state_dict().items():
        assert torch.equal(weight, resumed.averaged.state_dict()[name]), name
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in lines(f)] for f in (whole, broken)]
    assert timeless[0] == timeless[1]


def test_the_decay_can_be_begun_by_hand_and_a_kill_does_not_undo_it(tmp_path: Path) -> None:
    first = loop_of(tmp_path, LineFit(1))
    with pytest.raises(RunError):
        first.run(silent, lambda: first.step == 9)
    loop_of(tmp_path, LineFit(2)).begin_decay()
    task = LineFit(3)
    resumed = loop_of(tmp_path, task)
    resumed.run(silent)
    assert resumed.step == 16
    assert [rate / 1e-2 for rate in task.rates] == pytest.approx([(7 - step) / 7 for step in range(7)])


def test_a_training_that_has_not_begun_and_one_without_a_stable_phase_know_no_decay_by_hand(tmp_path: Path) -> None:
    fresh = loop_of(tmp_path, LineFit(1))
    fresh.begin_decay()
    assert fresh.decay_begins == 24
    assert not (tmp_path / "state.pt").exists()


def test_a_schedule_without_decay_ends_with_its_stable_phase(tmp_path: Path) -> None:
    loop = loop_of(tmp_path, LineFit(1), Curve([0.5]), StableThenDecay(2, 24, 0))
    loop.run(silent)
    assert loop.step == 18


def test_an_error_is_flat_when_it_no_longer_falls() -> None:
    rule = FlatRule(min_gain=0.05, evaluations=2, falling=True)
    assert not rule.holds([3.0, 2.0, 1.5, 1.4])
    assert rule.holds([3.0, 1.4, 1.5, 1.38])
