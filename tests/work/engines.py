"""Engines for tests of the work around them: quick, slow, and broken ones. Found by name from child processes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from dicom_node.catalog.database import Recorder
from dicom_node.processes.case_processing import Engine
from dicom_node.processes.worker_process import work_until_stopped
from dicom_node.settings import Settings
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Verdict
from dissm_engine.progress import Cancellation, Monitor, Progress, no_progress
from dissm_engine.volume import Volume
from tests.builders.analytic import EllipsoidEngine


class SlowEngine(EllipsoidEngine):
    """Waits in small steps as long as the file `slow` lies in the data folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.brake = folder / "slow"

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        while self.brake.exists():
            Monitor(progress, cancellation or Cancellation()).report("waiting", 0.5)
            time.sleep(0.05)
        return super().delineate(volume, progress, cancellation)


class HungEngine(EllipsoidEngine):
    """Hangs without a word while the file `slow` lies in the data folder, or until it is let go."""

    def __init__(self, brake: Path | None = None) -> None:
        super().__init__()
        self.brake = brake
        self.released = threading.Event()

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        progress("waiting", 0.5)
        while not self.released.wait(0.05) and (self.brake is None or self.brake.exists()):
            pass
        return super().delineate(volume, progress, cancellation)


class FatalEngine(EllipsoidEngine):
    """Takes its whole process with it, as the kernel does when memory runs out."""

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        os.kill(os.getpid(), 9)
        raise AssertionError("unreachable")


class UnreasonableEngine(EllipsoidEngine):
    """Fails without a reason, as a programming error would."""

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        raise ZeroDivisionError


class RaisingEngine(EllipsoidEngine):
    """Raises the error it was given."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        raise self.problem


def load_quick(settings: Settings) -> Engine:
    return EllipsoidEngine()


def load_rejecting(settings: Settings) -> Engine:
    return EllipsoidEngine(verdict=Verdict.REJECT)


def load_slow(settings: Settings) -> Engine:
    return SlowEngine(settings.node.data_folder)


def load_fatal(settings: Settings) -> Engine:
    return FatalEngine()


def slow_worker(settings: Settings, recorder: Recorder, stop: threading.Event) -> None:
    """A worker process of a node, with the slow engine in it."""
    work_until_stopped(settings, recorder, stop, load_slow(settings))


def fatal_worker(settings: Settings, recorder: Recorder, stop: threading.Event) -> None:
    """A worker process that dies of every case."""
    work_until_stopped(settings, recorder, stop, load_fatal(settings))


def hung_worker(settings: Settings, recorder: Recorder, stop: threading.Event) -> None:
    """A worker process whose engine hangs."""
    work_until_stopped(settings, recorder, stop, HungEngine(settings.node.data_folder / "slow"))
