"""What every stage of a run is given: where, from what, with which settings."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dissm_engine.progress import Progress
from training.bundle_start import BundleStart
from training.presets import Preset


def never_stop() -> bool:
    """Let a run go on to its end."""
    return False


@dataclass(frozen=True)
class RunContext:
    """One training run.

    Attributes:
        folder: The run's folder; every stage keeps its results in a folder of its own below it.
        surfaces: An npz or folder of meshes, or a folder of label maps.
        preset: Settings of every stage.
        seed: Of everything random.
        threads: Processor threads a stage may use.
        device: "cpu" or "cuda"; the pose stage always uses the processor.
        stop: Asked between stages, and between the epochs of a training, whether to end early.
        decay_now: Whether a refinement training that goes on from a checkpoint shall end its stable phase there.
        start: The bundle that the run begins with; None: with random weights.
        validation: A folder of bodies that no training sees, on which the refinement is measured while it is trained;
            None: `validation_anatomies/` of the run folder, if there is one.
        painters: Processes that prepare the refinement's samples beside the training; 0: it does so itself.
        progress: Told the name of what is being done and the share of it that is done.
    """

    folder: Path
    surfaces: Path
    preset: Preset
    seed: int = 2026
    threads: int = 2
    device: str = "cpu"
    stop: Callable[[], bool] = never_stop
    decay_now: bool = False
    start: BundleStart | None = None
    validation: Path | None = None
    painters: int = 0
    progress: Progress = field(default_factory=lambda: LoggedProgress())  # noqa: PLW0108 - defined below

    def stage_folder(self, name: str) -> Path:
        """The folder of a stage, made if it is not there."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class LoggedProgress:
    """Progress as log lines, at most one every few seconds a stage."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        self._every = every_seconds
        self._said: dict[str, float] = {}
        self._log = logging.getLogger("dissm-train")

    def __call__(self, stage: str, done: float) -> None:
        """Say it, unless this stage was heard of just now."""
        now = time.monotonic()
        if done >= 1 or now - self._said.get(stage, -1e9) >= self._every:
            self._said[stage] = now
            self._log.info("%s %.0f %%", stage, 100 * done)
