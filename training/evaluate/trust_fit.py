"""What stage "trust" found, and its file in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dissm_engine.atomic_file import write_json
from dissm_engine.json_value import JsonObject
from dissm_engine.trust import TrustModel

TRUST_FILE = "trust.json"

FindingValues = Mapping[str, float]
"""The value of every finding of a delineation by its name, in the unit of `dissm_engine.trust.LIMITS`."""


@dataclass(frozen=True, slots=True)
class TrustPair:
    """One delineation whose truth is known: what the engine can measure itself, and the true DSC."""

    findings: FindingValues
    dsc: float


@dataclass(frozen=True, slots=True)
class TrustFit:
    """The fitted trust model and what it was fitted on.

    Attributes:
        model: The fitted model.
        pairs: What it was fitted on.
        absent: Findings on scans without a liver.
        absent_recognised: On how many of them the model says that there is none.
    """

    model: TrustModel
    pairs: tuple[TrustPair, ...]
    absent: tuple[FindingValues, ...]
    absent_recognised: int


def write_trust_fit(run_folder: Path, fit: TrustFit) -> None:
    """Write `trust/trust.json`."""
    content: JsonObject = {
        "model": fit.model.to_json(),
        "measured": [pair.findings for pair in fit.pairs],
        "dsc": [pair.dsc for pair in fit.pairs],
        "absent": fit.absent,
        "absent_recognised": fit.absent_recognised,
    }
    write_json(run_folder / "trust" / TRUST_FILE, content)


def read_trust_fit(run_folder: Path) -> TrustFit:
    """What `write_trust_fit` wrote. Raises OSError if it is missing."""
    content = json.loads((run_folder / "trust" / TRUST_FILE).read_text())
    return TrustFit(
        model=TrustModel.from_json(content["model"]),
        pairs=tuple(
            TrustPair(findings, float(dsc)) for findings, dsc in zip(content["measured"], content["dsc"], strict=True)
        ),
        absent=tuple(content["absent"]),
        absent_recognised=int(content["absent_recognised"]),
    )
