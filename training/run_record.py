"""What a run folder was begun with: stages are never put together from different settings."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dissm_engine.atomic_file import write_json
from dissm_engine.errors import Reason
from dissm_engine.json_value import JsonObject, JsonValue
from training.context import RunContext
from training.errors import RunError

RECORD = "run.json"
LAYOUT = 2
"""Of a run folder. Layout 1 (versions to 0.3.0, which did not record it) had checkpoints of three kinds."""

RUN_DIFFERS = Reason(
    "RUN_DIFFERS",
    "the run folder {folder} was begun with other settings: {differences}",
    "give a new folder with --out, or the settings that it was begun with",
)
RUN_LAYOUT_OLD = Reason(
    "RUN_LAYOUT_OLD",
    "the run folder {folder} has a half-done stage {stage} of an older version, and {files} cannot be read any more",
    "finish the stage with the version that began it, or remove these files to begin the stage anew",
)
RUN_LAYOUT_NEW = Reason(
    "RUN_LAYOUT_NEW",
    "the run folder {folder} was begun with a newer version (layout {found}, this version knows {expected})",
    "go on with the version that began it, or give a new folder with --out",
)

_MAX_NAMED = 4
_OLD_CHECKPOINTS: Mapping[str, str] = {
    "shape": "autodecoder.pt",
    "pose": "*.checkpoint.pt",
    "refine": "checkpoint.pt",
    "finetune": "checkpoint.pt",
}
"""Checkpoints of layout 1 by stage."""

_NEW_NAMES: Mapping[str, str] = {
    "average": "ema_decay",
    "bf16": "bfloat16",
    "decoder_rate": "decoder_learning_rate",
    "latent_rate": "code_learning_rate",
    "most_held_out": "max_held_out",
    "most_shapes": "max_shapes",
    "native_half": "bfloat16",
    "supervised": "supervision_weight",
}
"""Settings that have had another name since layout 1."""

_log = logging.getLogger("dissm-train")


@dataclass(frozen=True)
class RunRecord:
    """What a run folder was begun with.

    Attributes:
        layout: Of the folder.
        preset: Every setting, as JSON.
        seed: Of everything random.
        surfaces: Name of the file or folder of surfaces.
        start: The bundle that the run begins with, and what it keeps of it; None: with random weights.
    """

    layout: int
    preset: JsonObject
    seed: int
    surfaces: str
    start: JsonObject | None = None

    @staticmethod
    def of(context: RunContext) -> RunRecord:
        """The record of a run that begins now. Threads and device are no part of it; they may change."""
        start = None if context.start is None else context.start.to_json()
        return RunRecord(LAYOUT, context.preset.model_dump(mode="json"), context.seed, context.surfaces.name, start)

    def to_json(self) -> JsonObject:
        """The content of `run.json`."""
        return {
            "layout": self.layout,
            "preset": self.preset,
            "seed": self.seed,
            "surfaces": self.surfaces,
            "start": self.start,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> RunRecord:
        """The inverse of `to_json`. Settings of layout 1 get their present names, with a warning."""
        layout, preset = int(content.get("layout", 1)), content["preset"]
        if layout == 1:
            renamed: set[str] = set()
            preset = _with_new_names(preset, renamed)
            for old in sorted(renamed):
                _log.warning("the run's setting %s is now called %s", old, _NEW_NAMES[old])
        return RunRecord(layout, preset, int(content["seed"]), str(content["surfaces"]), content.get("start"))


def require_recorded_settings(context: RunContext) -> None:
    """Write down preset, seed and source when a folder is begun; later, require the same.

    A folder that an older version began goes on with the stages that are still to do.

    Raises:
        RunError: `RUN_DIFFERS` if something differs (threads and device may), `RUN_LAYOUT_OLD` if a stage was half done
            by a version to 0.3.0, `RUN_LAYOUT_NEW` if a newer version began the folder.
    """
    path, now = context.folder / RECORD, RunRecord.of(context)
    if not path.exists():
        write_json(path, now.to_json())
        return
    before = RunRecord.from_json(json.loads(path.read_text()))
    if before.layout > LAYOUT:
        raise RunError(RUN_LAYOUT_NEW, folder=context.folder.name, found=before.layout, expected=LAYOUT)
    _require_equal(context.folder, before, now)
    if before.layout < LAYOUT:
        _require_no_half_done_stage(context.folder)
        write_json(path, now.to_json())


def _require_equal(folder: Path, before: RunRecord, now: RunRecord) -> None:
    differences = list(_differences("", replace(before, layout=now.layout).to_json(), now.to_json()))
    if differences:
        named = "; ".join(differences[:_MAX_NAMED])
        more = f" and {len(differences) - _MAX_NAMED} more" if len(differences) > _MAX_NAMED else ""
        raise RunError(RUN_DIFFERS, folder=folder.name, differences=named + more)


def _require_no_half_done_stage(folder: Path) -> None:
    for stage, pattern in _OLD_CHECKPOINTS.items():
        left = sorted((folder / stage).glob(pattern))
        if left and not (folder / f"{stage}.done").exists():
            files = ", ".join(f"{stage}/{file.name}" for file in left)
            raise RunError(RUN_LAYOUT_OLD, folder=folder.name, stage=stage, files=files)


def _with_new_names(value: Any, renamed: set[str]) -> Any:
    """A copy of a JSON value with the present names of settings; old names that it has are put into `renamed`."""
    if not isinstance(value, dict):
        return value
    renamed |= value.keys() & _NEW_NAMES.keys()
    return {_NEW_NAMES.get(key, key): _with_new_names(item, renamed) for key, item in value.items()}


def _differences(name: str, before: JsonValue, now: JsonValue) -> Iterator[str]:
    """`name was this and is that`, for every plain value that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted(before.keys() | now.keys()):
            yield from _differences(f"{name}.{key}".lstrip("."), before.get(key), now.get(key))
    elif before != now:
        yield f"{name} was {before} and is {now}"
