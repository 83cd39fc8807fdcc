"""Marginal space learning: the four stages of the agent trained one after the other (paper 3.2.1, Table 1)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dissm_engine.atomic_file import atomic_path
from dissm_engine.pose.agent import PoseAgent, StageNetwork, encoder_for
from dissm_engine.pose.architecture import SearchSettings
from dissm_engine.pose.correction import AgentState, StageName
from dissm_engine.pose.encoder import ResidualEncoder
from dissm_engine.pose.observation import CoarseImage, ImplicitShape, ShapeCanvas
from dissm_engine.progress import Progress
from training.context import never_stop
from training.metrics_file import MetricsFile
from training.pose.agent_files import save_agent
from training.pose.pose_settings import PosePreset
from training.pose.pose_trainer import StageTraining, Starts
from training.pose.scenes import Scene
from training.training_loop import TrainingLoop

log = logging.getLogger(__name__)

CHECKPOINT_SUFFIX = "training_state.pt"
_START_MARGIN = 0.1


def train_agent(
    folder: Path,
    shape: ImplicitShape,
    scenes: Sequence[Scene],
    preset: PosePreset,
    seed: int,
    progress: Progress,
    stop: Callable[[], bool] = never_stop,
) -> PoseAgent:
    """Train the four stages on scenes; the finished agent also lies in `folder`.

    Raises RunError if `stop` said to end early.
    """
    training, validation = split_scenes(scenes, preset.validation_livers)
    log.info("%d training scenes, %d validation scenes, seed %d", len(training), len(validation), seed)
    canvas = _canvas(folder / "canvas.safetensors", shape, preset)
    starts = _first_starts(training, preset)
    stages: list[StageNetwork] = []
    for number, name in enumerate(StageName):
        torch.manual_seed(seed)
        network = network_for(name, preset, stages[-1].encoder if stages else None)
        task = StageTraining(network, shape, canvas, preset, training, validation, starts, seed)
        metrics = MetricsFile(folder / "metrics.jsonl", name.value)
        loop = TrainingLoop(task, task.loop_settings, folder / f"{name}.{CHECKPOINT_SUFFIX}", metrics)
        loop.run(partial(progress, f"pose {name}"), stop)
        stages.append(network)
        save_agent(folder, PoseAgent(stages, canvas, SearchSettings()))
        if number + 1 < len(StageName):
            starts = _continued(task.final_states(np.random.default_rng(seed)))
    return PoseAgent(stages, canvas, SearchSettings())


def split_scenes(scenes: Sequence[Scene], validation_livers: int) -> tuple[list[Scene], list[Scene]]:
    """Scenes of all but the last livers, by name, to train on; those of the last, at most a quarter, to validate."""
    names = sorted({scene.liver for scene in scenes})
    kept_apart = set(names[len(names) - min(validation_livers, len(names) // 4) :])
    return (
        [scene for scene in scenes if scene.liver not in kept_apart],
        [scene for scene in scenes if scene.liver in kept_apart],
    )


def network_for(name: StageName, preset: PosePreset, previous: ResidualEncoder | None) -> StageNetwork:
    """A stage's network; its weights are the previous stage's where there is one."""
    stage = preset.stage(name)
    encoder = encoder_for(stage.observation, preset.components, preset.encoder)
    if previous is not None:
        encoder.load_state_dict(previous.state_dict())
    return StageNetwork(name, stage.observation, stage.steps, encoder)


def _first_starts(training: Sequence[Scene], preset: PosePreset) -> Starts:
    """Anywhere in the field of view, or the training set's mean place in it (Table 1, first row)."""
    if preset.start == "mean":
        offsets = [
            torch.from_numpy(scene.target_pose.translation).float() - scene.image().box_lps().mean(dim=0)
            for scene in training
        ]
        mean = torch.stack(offsets).mean(dim=0)
        return lambda _, image, __: AgentState.at((image.box_lps().mean(dim=0) + mean)[None], preset.components)

    def anywhere(_: int, image: CoarseImage, rng: np.random.Generator) -> AgentState:
        low, high = image.box_lps()
        share = torch.from_numpy(rng.uniform(_START_MARGIN, 1 - _START_MARGIN, 3).astype(np.float32))
        return AgentState.at((low + share * (high - low))[None], preset.components)

    return anywhere


def _continued(states: AgentState) -> Starts:
    """Each case starts where the last stage left it."""
    return lambda case, _, __: states[[case]]


def _canvas(path: Path, shape: ImplicitShape, preset: PosePreset) -> ShapeCanvas:
    """The shape model's canvas; drawn once, then read."""
    if not path.exists():
        canvas = ShapeCanvas.of(shape, preset.components, preset.canvas_resolution)
        half_width = torch.tensor(canvas.half_width_mm, dtype=torch.float64)
        with atomic_path(path) as partial_path:
            tensors = {"mean_mm": canvas.mean_mm, "basis_mm": canvas.basis_mm, "half_width_mm": half_width}
            save_file(tensors, partial_path)
    stored = load_file(path)
    return ShapeCanvas(stored["mean_mm"], stored["basis_mm"], float(stored["half_width_mm"]))
