"""Measurements of single cases on disk, so that a stage that was killed goes on with the case it had reached.

Each case has one small JSON file. The stage removes them when its result is written (`discard_measurements`): a stage
that is run again, after its inputs have changed, measures again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from dissm_engine.atomic_file import write_json
from dissm_engine.json_value import JsonValue

Measurement = TypeVar("Measurement")


def cached_measurement(
    path: Path,
    measure: Callable[[], Measurement],
    to_json: Callable[[Measurement], JsonValue],
    from_json: Callable[[Any], Measurement],
) -> Measurement:
    """Return the measurement in a file; where there is none yet, measure and write it first.

    Args:
        path: The case's file. Its folder is made if it is not there.
        measure: Measures the case.
        to_json: What is written of a measurement.
        from_json: The measurement of what was written. It is given the parsed JSON.

    Returns:
        What `from_json` makes of the file, also where it was only written now, so that a run that was killed and went
        on ends with the same values as one that was not.

    Raises:
        OSError: If the file can neither be read nor written.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, to_json(measure()))
    return from_json(json.loads(path.read_text()))


def discard_measurements(folder: Path) -> None:
    """Remove a stage's cases once its result is written: they must not serve another run of the stage."""
    shutil.rmtree(folder, ignore_errors=True)
