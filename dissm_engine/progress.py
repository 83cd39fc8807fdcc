"""How far a delineation has come, and the request to end it early: two things that go opposite ways.

A progress callback only reports. Whoever wants the work to end keeps a `Cancellation`, passes it to the engine and
calls `request` on it from another thread; the engine looks at it between the steps of its stages and raises
`DelineationCancelled`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event

from dissm_engine.errors import CANCELLED, DelineationCancelled

Progress = Callable[[str, float], None]
"""Called with the stage's name and the share of it that is done, 0 to 1."""


def no_progress(stage: str, done: float) -> None:
    """A `Progress` that reports to nobody."""


class Cancellation:
    """A request to end a delineation; made in any thread, seen by the thread that delineates.

    Args:
        events: Events of the caller that count as a request once they are set, such as the stop event of a process.

    Examples:
        >>> cancellation = Cancellation()
        >>> cancellation.is_requested
        False
        >>> cancellation.request()
        >>> cancellation.raise_if_requested()
        Traceback (most recent call last):
        ...
        dissm_engine.errors.DelineationCancelled: the delineation was cancelled before it was finished; ...
    """

    def __init__(self, *events: Event) -> None:
        self._own = Event()
        self._events = (self._own, *events)

    def request(self) -> None:
        """Ask for the end of the work; asking twice does no harm."""
        self._own.set()

    @property
    def is_requested(self) -> bool:
        """Whether the end of the work was asked for, here or by one of the caller's events."""
        return any(event.is_set() for event in self._events)

    def raise_if_requested(self) -> None:
        """Raises DelineationCancelled if the end of the work was asked for."""
        if self.is_requested:
            raise DelineationCancelled(CANCELLED)


@dataclass(frozen=True)
class Monitor:
    """What a step of the engine reports to and listens to.

    Attributes:
        progress: Told the stage's name and the share of it that is done.
        cancellation: Looked at whenever something is reported, and between reports.
        low, high: The shares of the stage between which the step's own 0 and 1 lie.
    """

    progress: Progress = no_progress
    cancellation: Cancellation = field(default_factory=Cancellation)
    low: float = 0.0
    high: float = 1.0

    def report(self, stage: str, done: float) -> None:
        """Report a step's share, 0 to 1. Raises DelineationCancelled if the end of the work was asked for."""
        self.check()
        self.progress(stage, self.low + (self.high - self.low) * done)

    def check(self) -> None:
        """Raises DelineationCancelled if the end of the work was asked for."""
        self.cancellation.raise_if_requested()

    def part(self, number: int, count: int) -> Monitor:
        """The monitor of part `number` (from 0) of `count` equal parts of a stage."""
        return replace(self, low=number / count, high=(number + 1) / count)


UNMONITORED = Monitor()
"""For work that nobody watches or cancels."""
