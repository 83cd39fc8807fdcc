"""What a benchmark found: a table for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PROGRESS = Console(stderr=True)
"""Where a benchmark says what it does; its result alone goes to the standard output."""
Cell = str | int | float | None
_WIDTH_IN_A_FILE = 120


@dataclass(frozen=True)
class Limit:
    """A promise: `value` is at most `limit`."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def kept(self) -> bool:
        return self.value <= self.limit

    @property
    def said(self) -> str:
        return f"{'PASS' if self.kept else 'OVER'}  {self.name}: {self.value:.2f} {self.unit}, limit {self.limit:g}"


@dataclass(frozen=True)
class Report:
    """title: one sentence. facts: machine, file system, versions, input. rows: one value for each of the columns."""

    title: str
    facts: Mapping[str, Cell]
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    limits: Sequence[Limit] = ()
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "facts": dict(self.facts),
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "limits": [
                {"name": one.name, "value": one.value, "limit": one.limit, "unit": one.unit, "kept": one.kept}
                for one in self.limits
            ],
            "notes": list(self.notes),
        }

    def show(self, as_json: bool) -> None:
        """Print it to the standard output."""
        if as_json:
            print(json.dumps(self.as_json(), indent=1))
            return
        console = Console()
        if not console.is_terminal:
            console.width = _WIDTH_IN_A_FILE
        console.print(self._table())
        for name, value in self.facts.items():
            console.print(f"  [dim]{escape(name)}[/dim]  {escape(_text(value))}", highlight=False)
        for note in self.notes:
            console.print(f"  {escape(note)}", highlight=False)
        for limit in self.limits:
            console.print(limit.said, style="bold green" if limit.kept else "bold red", highlight=False)

    def _table(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in self.rows:
            table.add_row(*(escape(_text(value)) for value in row))
        return table


def _text(value: Cell) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
