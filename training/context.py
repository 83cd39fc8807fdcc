"""What every stage of a run is given: where, from what, with which settings."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from dissm_engine.progress import Progress
from training.presets import Preset


@dataclass(frozen=True)
class RunContext:
    """One training run.

    folder: the run's folder; every stage keeps its results in a folder of its own below it.
    surfaces: an npz or folder of meshes, or a folder of label maps. seed: of everything random.
    threads: processor threads a stage may use.
    """

    folder: Path
    surfaces: Path
    preset: Preset
    seed: int = 2026
    threads: int = 2
    device: str = "cpu"
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
