"""Where the samples of a refinement training come from: painted in its own process, or in others beside it.

The samples of a step depend on the seed and the step's number alone, so that both ways give the same ones, and a run
that goes on after a kill sees those that it would have seen.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from dissm_engine.errors import Reason
from training.errors import RunError
from training.refine.crops import LiverCrop, RefinementSample, class_table, draw_sample, load_crops
from training.refine.refinement_settings import RefinementPreset

PAINTER_DIED = Reason(
    "PAINTER_DIED",
    "the process that prepares the samples of step {step} has ended",
    "see its last lines above; run the same command again, with --painters 0 if the memory is short",
)
_AHEAD = 3
"""Batches that each process prepares before they are asked for."""


class Painter(Protocol):
    """Gives the samples of training steps."""

    def batches(self, steps: Sequence[int]) -> Iterator[list[RefinementSample]]:
        """Yield the batch of each step, in their order."""
        ...


class InProcessPainter:
    """Paints when asked.

    Args:
        crops: What samples are cut from.
        preset: Settings of the training.
        seed: Of the samples.
    """

    def __init__(self, crops: Sequence[LiverCrop], preset: RefinementPreset, seed: int) -> None:
        self.crops, self.preset, self.seed = crops, preset, seed
        self._classes = class_table()

    def batches(self, steps: Sequence[int]) -> Iterator[list[RefinementSample]]:
        """Yield the batch of each step, in their order."""
        return (self.batch(step) for step in steps)

    def batch(self, step: int) -> list[RefinementSample]:
        """The samples of one step, from a generator of its own."""
        rng = np.random.default_rng([self.seed, step])
        return [draw_sample(self.crops, self.preset, self._classes, rng) for _ in range(self.preset.batch)]


@dataclass(frozen=True)
class PaintingJob:
    """What a process must know to paint: files in the place of crops.

    Attributes:
        files: Anatomies.
        fits: Folder of the pose stage's results on them; None: priors have drawn errors only.
        preset: Settings of the training.
        seed: Of the samples.
    """

    files: tuple[Path, ...]
    fits: Path | None
    preset: RefinementPreset
    seed: int

    def painter(self) -> InProcessPainter:
        """A painter in the calling process. Reads every file."""
        return InProcessPainter(load_crops(self.files, self.preset.tile, self.fits), self.preset, self.seed)


class ProcessPainter:
    """Paints in processes of its own, some steps ahead of the training. Each of them reads all files.

    Args:
        job: What they paint.
        processes: How many; step n is painted by process n modulo their number.
    """

    def __init__(self, job: PaintingJob, processes: int) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes: list[multiprocessing.context.SpawnProcess] = []
        self._next: int | None = None
        for _ in range(processes):
            ours, theirs = spawning.Pipe()
            process = spawning.Process(target=_paint, args=(job, theirs), daemon=True)
            process.start()
            # Only the child may hold its end: when either of the two ends, the other then sees the end of the pipe.
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def batches(self, steps: Sequence[int]) -> Iterator[list[RefinementSample]]:
        """Yield the batch of each step; steps must be consecutive, from call to call as well.

        Raises:
            RunError: `PAINTER_DIED` if a process has ended.
        """
        for step in steps:
            try:
                self._ask_until(step, step + _AHEAD * len(self._processes))
                arrays = self._connection(step).recv()
            except (EOFError, BrokenPipeError, ConnectionResetError) as ended:
                raise RunError(PAINTER_DIED, step=step) from ended
            yield [RefinementSample(*map(torch.from_numpy, sample)) for sample in arrays]

    def _ask_until(self, step: int, beyond: int) -> None:
        """Ask for every step from `step` that was not asked for yet, up to the one before `beyond`."""
        self._next = step if self._next is None else self._next
        while self._next < beyond:
            self._connection(self._next).send(self._next)
            self._next += 1

    def _connection(self, step: int) -> Connection:
        return self._connections[step % len(self._connections)]

    def close(self) -> None:
        """End the processes."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def painting(job: PaintingJob, processes: int) -> Iterator[Painter]:
    """A painter for a training: in the calling process where `processes` is 0. Its processes end with the block."""
    if processes == 0:
        yield job.painter()
        return
    with ProcessPainter(job, processes) as painter:
        yield painter


def _paint(job: PaintingJob, connection: Connection) -> None:
    """A painting process: a step's number comes in, the arrays of its samples go out, until the pipe is closed."""
    # An interrupt at the keyboard reaches every process; the training ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    painter = job.painter()
    try:
        while True:
            connection.send([_arrays(sample) for sample in painter.batch(connection.recv())])
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _arrays(sample: RefinementSample) -> list[npt.NDArray[np.generic]]:
    """Plain arrays, which travel through a pipe; tensors would need shared memory, which containers often lack."""
    return [getattr(sample, field.name).numpy() for field in fields(sample)]
