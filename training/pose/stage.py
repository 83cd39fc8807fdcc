"""Stage "pose": scenes from anatomies, then the agent (paper 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dissm_engine.shape.model import ShapeModel
from training.pose.curriculum import train_agent
from training.pose.scene_files import prepare_scenes
from training.pose.settings import PosePreset
from training.shape.livers import load_livers


class StagePresets(Protocol):
    """The part of a preset this stage reads."""

    @property
    def pose(self) -> PosePreset:
        """Settings of the agent's training."""


class StageContext(Protocol):
    """The part of a run's context this stage reads."""

    @property
    def folder(self) -> Path:
        """The run folder; `shape/` and `anatomies/` are there, `pose/` is made."""

    @property
    def seed(self) -> int:
        """Of everything random."""

    @property
    def preset(self) -> StagePresets:
        """Settings by stage."""

    @property
    def progress(self) -> Callable[[str, float], None]:
        """Called with the stage's name and the share of it that is done."""


def run_pose(context: StageContext) -> None:
    """Fill `pose/` of the run folder: scenes, checkpoints, metrics, `agent.safetensors` and `agent.json`.

    A run that was killed goes on after the last finished epoch.
    """
    preset, folder = context.preset.pose, context.folder / "pose"
    folder.mkdir(parents=True, exist_ok=True)
    shape = ShapeModel.load(context.folder / "shape")
    livers = load_livers(context.folder / "shape")
    scenes = prepare_scenes(
        context.folder / "anatomies",
        folder / "scenes",
        livers,
        preset,
        context.seed,
        lambda done: context.progress("pose scenes", done),
    )
    train_agent(folder, shape, scenes, preset, context.seed, context.progress)
