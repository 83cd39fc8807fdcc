"""What a stage measures case by case: one small file each, so that a stage that was killed goes on.

The files go with the end of the stage (`discard_measurements`): a stage that is run again, after other weights,
measures again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cached_measurement(path: Path, measure: Callable[[], Any]) -> Any:
    """What `path` holds, or else what `measure` returns (plain JSON values), written there (aside, then renamed)."""
    if not path.exists():
        write_json(path, measure())
    return json.loads(path.read_text())


def discard_measurements(folder: Path) -> None:
    """The stage's answer is written: its cases are not needed any more, and must not serve another run of it."""
    shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write aside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    aside.write_text(json.dumps(content, indent=1))
    aside.replace(path)
