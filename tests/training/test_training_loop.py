"""One loop trains every network: what a kill, a stop or a foreign checkpoint does to it, and what it records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from training.errors import RunError
from training.metrics_file import MetricsFile
from training.training_loop import (
    LoopSettings,
    Metrics,
    Plateau,
    StepLoss,
    TrainingLoop,
    cosine_factor,
    mean_metrics,
)

STEPS_PER_EPOCH, EPOCHS = 3, 6
TOTAL = STEPS_PER_EPOCH * EPOCHS


class Killed(Exception):
    """As a kill would end a training."""


class LineFit:
    """A small network with dropout; its draws come from PyTorch's global generator, which only a checkpoint carries."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(2, 16), nn.Dropout(0.3), nn.Linear(16, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-2)
        self.rates: list[float] = []
        self.exported: list[nn.Module] = []
        self.in_training: list[bool] = []

    def steps(self, epoch: int) -> Iterator[StepLoss]:
        for _ in range(STEPS_PER_EPOCH):
            inputs = torch.randn(8, 2)
            loss = (self.model(inputs)[:, 0] - inputs.sum(dim=1)).square().mean()
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            self.in_training.append(self.model.training)
            yield StepLoss(loss, {"loss": float(loss.detach())})

    def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
        assert not self.model.training
        return mean_metrics(steps)

    def export(self, averaged: nn.Module) -> None:
        self.exported.append(averaged)


def cosine(step: int) -> float:
    return cosine_factor(step / TOTAL, 0.1)


def loop_of(
    task: LineFit, folder: Path, schedule: Callable[[int], float] | Plateau = cosine, checkpoint_epochs: int = 2
) -> TrainingLoop:
    settings = LoopSettings(TOTAL, schedule, 1.0, 0.9, checkpoint_epochs)
    return TrainingLoop(task, settings, folder / "state.pt", MetricsFile(folder / "metrics.jsonl", "line"))


def silent(_: float) -> None:
    pass


def kill_after(step: int) -> Callable[[float], None]:
    def progress(done: float) -> None:
        if round(done * TOTAL) == step:
            raise Killed

    return progress


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("schedule", [cosine, Plateau("loss", 0)])
@pytest.mark.parametrize("killed_at", [2, 7, 13, 17])
def test_a_killed_training_ends_bit_for_bit_as_an_uninterrupted_one(
    tmp_path: Path, killed_at: int, schedule: Callable[[int], float] | Plateau
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    straight = loop_of(LineFit(1), whole, schedule)
    straight.run(silent)
    with pytest.raises(Killed):
        loop_of(LineFit(1), broken, schedule).run(kill_after(killed_at))
    # Killed before the first checkpoint, it begins again; after it, nothing of the new start may count.
    resumed = loop_of(LineFit(1 if killed_at < 6 else 99), broken, schedule)
    resumed.run(silent)
    for name, weight in straight.task.model.state_dict().items():
        assert torch.equal(weight, resumed.task.model.state_dict()[name]), name
    for name, weight in straight.averaged.state_dict().items():
        assert torch.equal(weight, resumed.averaged.state_dict()[name]), name
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in lines(f)] for f in (whole, broken)]
    assert timeless[0] == timeless[1]
    assert [line["step"] for line in timeless[1]] == [6, 12, 18]


def test_a_training_that_is_asked_to_stop_writes_a_checkpoint_and_goes_on_from_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="did so after step 3 of 18") as stopped:
        loop_of(LineFit(1), tmp_path).run(silent, lambda: True)
    assert stopped.value.reason.code == "TRAINING_STOPPED"
    resumed = loop_of(LineFit(99), tmp_path)
    assert (resumed.step, resumed.epoch) == (3, 1)
    resumed.run(silent)
    (tmp_path / "whole").mkdir()
    straight = loop_of(LineFit(1), tmp_path / "whole")
    straight.run(silent)
    for name, weight in straight.averaged.state_dict().items():
        assert torch.equal(weight, resumed.averaged.state_dict()[name]), name


def test_the_learning_rate_follows_the_schedule_by_step_and_the_model_is_in_training_mode(tmp_path: Path) -> None:
    task = LineFit(1)
    loop_of(task, tmp_path).run(silent)
    assert task.rates == [1e-2 * cosine(step) for step in range(TOTAL)]
    assert all(task.in_training)


def test_a_plateau_divides_the_rate_by_ten(tmp_path: Path) -> None:
    class Stalled(LineFit):
        def metrics_of(self, steps: Sequence[Metrics]) -> Metrics:
            return {"loss": 1.0}

    task = Stalled(1)
    loop_of(task, tmp_path, Plateau("loss", 0), checkpoint_epochs=1).run(silent)
    assert task.rates[0] == task.rates[2 * STEPS_PER_EPOCH - 1] == 1e-2
    assert task.rates[2 * STEPS_PER_EPOCH] == pytest.approx(1e-3)


def test_the_average_follows_the_weights_and_forgets_the_random_start(tmp_path: Path) -> None:
    class Jump(LineFit):
        """Weights that are 0 at the start and 1 after each step."""

        def __init__(self) -> None:
            super().__init__(1)
            for weight in self.model.parameters():
                nn.init.zeros_(weight)
            self.optimizer = SetToOne(self.model.parameters(), {"lr": 1.0})  # type: ignore[assignment]

    class SetToOne(torch.optim.Optimizer):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            for weight in self.param_groups[0]["params"]:
                nn.init.ones_(weight)

    loop = loop_of(Jump(), tmp_path)
    loop.run(silent)
    left = 1.0
    for step in range(1, TOTAL + 1):
        left *= min(0.9, (1 + step) / (10 + step))
    for weight in loop.averaged.parameters():
        assert weight.detach().numpy() == pytest.approx(1 - left, rel=1e-5)


def test_a_finished_training_only_exports_again(tmp_path: Path) -> None:
    loop_of(LineFit(1), tmp_path).run(silent)
    state, metrics = (tmp_path / "state.pt").read_bytes(), lines(tmp_path)
    again = LineFit(99)
    loop_of(again, tmp_path).run(silent)
    assert (tmp_path / "state.pt").read_bytes() == state
    assert lines(tmp_path) == metrics
    assert (len(again.exported), again.rates) == (1, [])


def test_a_checkpoint_of_another_layout_is_named_with_its_cure(tmp_path: Path) -> None:
    torch.save({"network": {}, "step": 3}, tmp_path / "state.pt")
    with pytest.raises(RunError, match=r"state\.pt was written by another version .* remove the file") as refused:
        loop_of(LineFit(1), tmp_path)
    assert refused.value.reason.code == "CHECKPOINT_UNKNOWN"


def test_a_loss_that_is_no_number_stops_the_training_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    class Diverging(LineFit):
        def steps(self, epoch: int) -> Iterator[StepLoss]:
            for found in super().steps(epoch):
                yield StepLoss(found.loss * (float("nan") if epoch == 3 else 1.0), found.metrics)

    with pytest.raises(RunError, match="the loss of step 9 is nan"):
        loop_of(Diverging(1), tmp_path).run(silent)
    assert loop_of(LineFit(1), tmp_path).step == 6


def test_trainings_that_share_a_metrics_file_keep_each_others_lines(tmp_path: Path) -> None:
    first, second = (MetricsFile(tmp_path / "metrics.jsonl", name) for name in ("first", "second"))
    first.append({"step": 5, "loss": 1.0})
    second.append({"step": 3, "loss": 2.0})
    second.append({"step": 6, "loss": 3.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "second", "st')
    second.drop_after(4)
    assert [(line["stage"], line["step"]) for line in lines(tmp_path)] == [("first", 5), ("second", 3)]
