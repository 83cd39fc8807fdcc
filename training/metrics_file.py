"""What a training reports while it runs: JSON lines in a file of the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dissm_engine.atomic_file import write_text

Record = Mapping[str, float | int | str]


@dataclass(frozen=True)
class MetricsFile:
    """A file of JSON lines, one for each checkpoint of a training.

    Several trainings may share a file, one after the other.

    Attributes:
        path: The file. It need not exist.
        name: Name of the training, written as "stage" into each of its lines.
    """

    path: Path
    name: str

    def append(self, record: Record) -> str:
        """Add a line for this training and return it. "stage" comes first, then the record's own keys."""
        line = json.dumps({"stage": self.name, **record})
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")
        return line

    def drop_after(self, step: int) -> None:
        """Remove this training's lines of later steps, which a run that goes on from that step will write again."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not self._is_later(line, step)]
        if kept != lines:
            write_text(self.path, "".join(kept))

    def _is_later(self, line: str, step: int) -> bool:
        if not line.endswith("\n"):
            # A kill in the middle of a line.
            return True
        record = json.loads(line)
        return bool(record["stage"] == self.name and record.get("step", 0) > step)
