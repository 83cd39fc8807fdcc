"""What a run folder was begun with: stages are never put together from different settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dissm_engine.errors import DissmError, Reason
from training.context import RunContext

RECORD = "run.json"
RUN_DIFFERS = Reason(
    "RUN_DIFFERS",
    "the run folder {folder} was begun with other settings: {differences}",
    "give a new folder with --out, or the settings that it was begun with",
)
_MAX_NAMED = 4


class RunError(DissmError):
    """A run that cannot go on in this folder."""


def require_recorded_settings(context: RunContext) -> None:
    """Write down preset, seed and source when a folder is begun; later, require the same.

    Raises RunError when they differ. Threads and device may.
    """
    path = context.folder / RECORD
    now = {
        "preset": context.preset.model_dump(mode="json"),
        "seed": context.seed,
        "surfaces": context.surfaces.name,
    }
    if not path.exists():
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(now, indent=1))
        aside.replace(path)
        return
    differences = list(_differences("", json.loads(path.read_text()), now))
    if differences:
        named = "; ".join(differences[:_MAX_NAMED])
        more = f" and {len(differences) - _MAX_NAMED} more" if len(differences) > _MAX_NAMED else ""
        raise RunError(RUN_DIFFERS, folder=context.folder.name, differences=named + more)


def _differences(name: str, before: Any, now: Any) -> Iterator[str]:
    """`name was this and is that`, for every plain value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(f"{name}.{key}".lstrip("."), before.get(key), now.get(key))
    elif before != now:
        yield f"{name} was {before} and is {now}"
