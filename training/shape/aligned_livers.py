"""Each training liver's pose, code and loadings, as the pose stage needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dissm_engine.atomic_file import write_json
from dissm_engine.json_value import JsonObject, JsonValue
from dissm_engine.pose.similarity import Pose
from training.shape.alignment import Alignment

ALIGNMENT_FILE = "alignment.json"
LIVERS_FILE = "livers.json"


@dataclass(frozen=True)
class AlignedLiver:
    """One training liver in the model.

    pose: image_from_reference, "image" being the frame of the liver's prepared surface (mm).
    code: float32 [D]. loadings: float32 [C], standard deviations.
    """

    pose: Pose
    code: npt.NDArray[np.float32]
    loadings: npt.NDArray[np.float32]


def save_alignment(folder: Path, alignment: Alignment) -> None:
    """Write `alignment.json`."""
    poses: JsonObject = {name: _pose_to_json(pose) for name, pose in alignment.poses.items()}
    content: JsonObject = {"mm_per_unit": alignment.mm_per_unit, "reach": alignment.reach, "poses": poses}
    write_json(folder / ALIGNMENT_FILE, content)


def load_alignment(folder: Path) -> Alignment:
    """What `save_alignment` wrote."""
    content = json.loads((folder / ALIGNMENT_FILE).read_text())
    poses = {name: _pose_from_json(pose) for name, pose in content["poses"].items()}
    return Alignment(poses, float(content["mm_per_unit"]), float(content.get("reach", 1.0)))


def save_livers(folder: Path, livers: Mapping[str, AlignedLiver]) -> None:
    """Write `livers.json`."""
    content = {
        name: _pose_to_json(liver.pose) | {"code": liver.code.tolist(), "loadings": liver.loadings.tolist()}
        for name, liver in livers.items()
    }
    write_json(folder / LIVERS_FILE, content)


def load_livers(folder: Path) -> dict[str, AlignedLiver]:
    """The training livers of a run's `shape` folder by name."""
    content = json.loads((folder / LIVERS_FILE).read_text())
    return {
        name: AlignedLiver(
            _pose_from_json(liver),
            np.array(liver["code"], dtype=np.float32),
            np.array(liver["loadings"], dtype=np.float32),
        )
        for name, liver in content.items()
    }


def _pose_to_json(pose: Pose) -> dict[str, JsonValue]:
    return {
        "translation": pose.translation.tolist(),
        "scale": pose.scale.tolist(),
        "rotation": pose.rotation.tolist(),
    }


def _pose_from_json(content: Mapping[str, list[float]]) -> Pose:
    return Pose(*(np.array(content[key], dtype=np.float64) for key in ("translation", "scale", "rotation")))
