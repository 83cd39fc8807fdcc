"""The phantoms that bundles are judged on: the frozen test set, or a run's own livers kept out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class EvaluationPhantom:
    """From what a phantom for the evaluation is made.

    Attributes:
        liver: Name of the surface.
        seed: Of body and scan.
        edition: Of the bundle before which the phantom was frozen; 0 for one that is not frozen.
        sha256: `content_hash` of the frozen scan; None for one that is not frozen.
    """

    liver: str
    seed: int
    edition: int
    sha256: str | None = None


def frozen_phantoms() -> list[EvaluationPhantom]:
    """The frozen test set, in its fixed order."""
    content = (resources.files("training.evaluate") / "frozen_phantoms.json").read_text()
    return [
        EvaluationPhantom(str(entry["liver"]), int(entry["seed"]), int(entry["edition"]), entry.get("sha256"))
        for entry in json.loads(content)["phantoms"]
    ]
