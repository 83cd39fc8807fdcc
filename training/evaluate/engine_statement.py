"""What the engine says of its own result, as an evaluation keeps it beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dissm_engine.delineation import Delineation
from dissm_engine.findings import Verdict
from dissm_engine.json_value import JsonObject


@dataclass(frozen=True, slots=True)
class EngineStatement:
    """What the engine says of its own result.

    Attributes:
        verdict: How far it may be trusted.
        estimated_dsc: The engine's estimate of the DSC with the true organ, 0 to 1.
        found_ml: Volume of the mask.
        reasons: What speaks against trusting it.
        seconds: Wall time of the delineation.
    """

    verdict: Verdict
    estimated_dsc: float
    found_ml: float
    reasons: tuple[str, ...]
    seconds: float

    @staticmethod
    def of(found: Delineation) -> EngineStatement:
        """What a delineation says."""
        findings = found.findings
        return EngineStatement(
            verdict=findings.verdict,
            estimated_dsc=findings.estimated_dsc,
            found_ml=found.volume_ml,
            reasons=findings.reasons,
            seconds=float(sum(found.stage_seconds.values())),
        )

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return {
            "verdict": str(self.verdict),
            "estimated_dsc": self.estimated_dsc,
            "found_ml": self.found_ml,
            "reasons": list(self.reasons),
            "seconds": self.seconds,
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> EngineStatement:
        """The inverse of `to_json`. Raises KeyError or ValueError if the content is something else."""
        return EngineStatement(
            verdict=Verdict(content["verdict"]),
            estimated_dsc=float(content["estimated_dsc"]),
            found_ml=float(content["found_ml"]),
            reasons=tuple(content["reasons"]),
            seconds=float(content["seconds"]),
        )
