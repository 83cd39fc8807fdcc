"""`dissm-node start` with an engine that needs no bundle: everything else is the node as it is.

python -m tests.end_to_end.analytic_node SETTINGS SECONDS: each case takes about SECONDS, so that a test can strike in
the middle of one.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_node.catalog.database import Recorder
from dicom_node.processes.supervisor import run_node
from dicom_node.settings import Settings, load_settings

_SECONDS = "ANALYTIC_ENGINE_SECONDS"
_STEPS = 20


def analytic_worker_main(settings: Settings, recorder: Recorder, stop: threading.Event) -> None:
    # Imported here: the node's other processes load this module too, as their main one, and shall stay small.
    from dicom_node.processes.worker_process import work_until_stopped
    from dissm_engine.delineation import Delineation
    from dissm_engine.progress import Cancellation, Monitor, Progress, no_progress
    from dissm_engine.volume import Volume
    from tests.builders.analytic import EllipsoidEngine

    class PatientEngine(EllipsoidEngine):
        def delineate(
            self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
        ) -> Delineation:
            for step in range(_STEPS):
                Monitor(progress, cancellation or Cancellation()).report("analytic", step / _STEPS)
                time.sleep(float(os.environ[_SECONDS]) / _STEPS)
            return super().delineate(volume, progress, cancellation)

    work_until_stopped(settings, recorder, stop, PatientEngine())


def command(seconds: float = 0.0) -> Callable[[Path], Sequence[str]]:
    """How a test starts this node from its settings file."""
    return lambda settings: [sys.executable, "-m", "tests.end_to_end.analytic_node", str(settings), str(seconds)]


if __name__ == "__main__":
    os.environ[_SECONDS] = sys.argv[2]
    run_node(load_settings(Path(sys.argv[1])), worker="tests.end_to_end.analytic_node:analytic_worker_main")
