"""Follows series and cases through the catalogue until each has come to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy import select

from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseState, SeriesState
from dicom_node.catalog.tables import Case, Series
from dicom_node.demo.node import RunningNode
from dicom_node.reasons import NODE_NOT_UP, NodeError

_LOOK_SECONDS = 0.2
_DECIDED = {SeriesState.ADMITTED, SeriesState.REFUSED}
_STILL_MOVING = {CaseState.QUEUED, CaseState.RUNNING, CaseState.DELINEATED, CaseState.PROVEN, CaseState.DELIVERING}


@dataclass(frozen=True, slots=True)
class Line:
    """Where one series or case stands. done: 0...1 within the present stage."""

    name: str
    state: str
    stage: str
    done: float
    over: bool


def follow_to_the_end(node: RunningNode, catalog: Catalog, console: Console, max_seconds: float) -> None:
    """Show progress until every series is decided and every case over.

    Raises NodeError if the node ends by itself or it takes longer than `max_seconds`.
    """
    deadline = time.monotonic() + max_seconds
    with _display(console) as show:
        while True:
            lines = look(catalog)
            show(lines)
            if all(line.over for line in lines):
                return
            node.check_alive()
            if time.monotonic() > deadline:
                raise NodeError(NODE_NOT_UP, problem=f"it had not finished after {max_seconds:.0f} s")
            time.sleep(_LOOK_SECONDS)


def look(catalog: Catalog) -> list[Line]:
    """Every series and case, oldest first."""
    with catalog.read() as session:
        series = session.scalars(select(Series).order_by(Series.id))
        lines = [
            Line(f"series {row.id}", str(row.state), f"{len(row.instances)} images", 0.0, row.state in _DECIDED)
            for row in series
        ]
        for row in session.scalars(select(Case).order_by(Case.created_at, Case.id)):
            over = row.state not in _STILL_MOVING
            lines.append(Line(f"case {row.id}", str(row.state), row.stage or "", 1.0 if over else row.stage_done, over))
        return lines


class _Bars:
    """Live bars on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, lines: list[Line]) -> None:
        for line in lines:
            if line.name not in self._tasks:
                self._tasks[line.name] = self._progress.add_task(line.name, total=1.0, state="", stage="")
            self._progress.update(
                self._tasks[line.name],
                completed=1.0 if line.over else line.done,
                state=line.state,
                stage=line.stage,
            )


class _Changes:
    """One printed line for each change, where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[str, str]] = {}
        self._started = time.monotonic()

    def __call__(self, lines: list[Line]) -> None:
        for line in lines:
            if self._seen.get(line.name) != (line.state, line.stage):
                self._seen[line.name] = (line.state, line.stage)
                elapsed = time.monotonic() - self._started
                self._console.print(f"{elapsed:6.1f} s  {line.name}: {line.state} {line.stage}".rstrip())


@contextmanager
def _display(console: Console) -> Iterator[_Bars | _Changes]:
    if not console.is_terminal:
        yield _Changes(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn("{task.fields[state]}"),
        TextColumn("{task.fields[stage]}", style="dim"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)
