"""`dissm-node start` with an engine that needs no bundle: everything else is the node as it is.

python -m tests.end_to_end.analytic_node SETTINGS SECONDS: each case takes about SECONDS.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import dicom_node.worker
from dicom_node.settings import Settings, load_settings
from dicom_node.supervise import supervise
from dissm_engine.delineation import Delineation, Progress, silent
from dissm_engine.volume import Volume
from tests.builders.analytic import EllipsoidEngine

_STEPS = 20
_SECONDS = "ANALYTIC_ENGINE_SECONDS"


class PatientEngine(EllipsoidEngine):
    """Takes its time, and tells how far it is, so that a test can strike in the middle."""

    def delineate(self, volume: Volume, progress: Progress = silent) -> Delineation:
        for step in range(_STEPS):
            progress("analytic", step / _STEPS)
            time.sleep(float(os.environ[_SECONDS]) / _STEPS)
        return super().delineate(volume, progress)


def load_analytic_engine(settings: Settings) -> PatientEngine:
    return PatientEngine()


# Spawned children import this module as their main one, so the worker finds this engine too.
dicom_node.worker.load_engine = load_analytic_engine


def command(seconds: float = 0.0) -> Callable[[Path], Sequence[str]]:
    """How a test starts this node from its settings file."""
    return lambda settings: [sys.executable, "-m", "tests.end_to_end.analytic_node", str(settings), str(seconds)]


if __name__ == "__main__":
    os.environ[_SECONDS] = sys.argv[2]
    supervise(load_settings(Path(sys.argv[1])))
