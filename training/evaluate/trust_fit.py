"""What stage "trust" found, and its file in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dissm_engine.atomic_file import write_json
from dissm_engine.errors import NO_ORGAN, DelineationError
from dissm_engine.findings import Verdict
from dissm_engine.json_value import JsonObject
from dissm_engine.trust import TrustModel, judge
from training.evaluate.trust_assessment import TrustAssessment, assess_trust

TRUST_FILE = "trust.json"

FindingValues = Mapping[str, float]
"""The value of every finding of a delineation by its name, in the unit of `dissm_engine.trust.LIMITS`."""


class Start(StrEnum):
    """From where a delineation went on to refine."""

    FOUND = "the pose that was found"
    RIGID = "the rigid pose only"
    SHIFTED = "a pose shifted away"
    DEFORMED = "another size and other loadings"


@dataclass(frozen=True, slots=True)
class TrustPair:
    """One delineation whose truth is known: what the engine can measure itself, and the true DSC.

    Attributes:
        findings: Their values.
        dsc: With what the scan shows of the true liver, 0 to 1.
        start: From where it was refined.
        early: Whether it ended before the first round of fit and refinement.
        liver: Name of the surface that the body was built around.
        odd: Whether the body has a trait that makes a liver hard to delineate.
    """

    findings: FindingValues
    dsc: float
    start: Start
    early: bool
    liver: str
    odd: bool

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return asdict(self) | {"findings": dict(self.findings), "start": str(self.start)}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> TrustPair:
        """The inverse of `to_json`. Raises KeyError or ValueError if the content is something else."""
        return TrustPair(
            findings={name: float(value) for name, value in content["findings"].items()},
            dsc=float(content["dsc"]),
            start=Start(content["start"]),
            early=bool(content["early"]),
            liver=str(content["liver"]),
            odd=bool(content["odd"]),
        )


@dataclass(frozen=True, slots=True)
class TrustFit:
    """The fitted trust model, what it was fitted on and what it is tested on.

    Attributes:
        model: The fitted model.
        pairs: What it was fitted on.
        test: Results of other livers, bodies and scans, which neither the fit nor the choice of its limits saw.
        absent: Findings on scans without a liver.
        absent_recognised: On how many of them the model says that there is none.
    """

    model: TrustModel
    pairs: tuple[TrustPair, ...]
    test: tuple[TrustPair, ...]
    absent: tuple[FindingValues, ...]
    absent_recognised: int

    @property
    def found(self) -> tuple[TrustPair, ...]:
        """Of both sets the results that were delineated as in use."""
        return tuple(pair for pair in (*self.pairs, *self.test) if pair.start is Start.FOUND and not pair.early)

    @property
    def called_absent(self) -> int:
        """How many of `found`, which all show a liver, the model says to have none."""
        return sum(is_recognised_as_absent(pair.findings, self.model) for pair in self.found)

    @property
    def assessment(self) -> TrustAssessment | None:
        """The model against the truth on the test set; None without one."""
        return assess_trust(*judged(self.model, self.test)) if self.test else None


def judged(model: TrustModel, pairs: Sequence[TrustPair]) -> tuple[list[float], list[float], list[Verdict]]:
    """True DSC, estimated DSC and verdict of each pair; what is said to be no liver counts as REJECT."""
    true = [pair.dsc for pair in pairs]
    estimated = [model.estimate(pair.findings) for pair in pairs]
    return true, estimated, [verdict_of(pair.findings, model) for pair in pairs]


def verdict_of(findings: FindingValues, model: TrustModel) -> Verdict:
    """The verdict on a result; REJECT where the model says that it is no liver at all."""
    return Verdict.REJECT if is_recognised_as_absent(findings, model) else judge(findings, model).verdict


def is_recognised_as_absent(findings: FindingValues, model: TrustModel) -> bool:
    """Whether the model says that what was found is no liver."""
    try:
        judge(findings, model)
    except DelineationError as problem:
        return problem.reason is NO_ORGAN
    return False


def write_trust_fit(run_folder: Path, fit: TrustFit) -> None:
    """Write `trust/trust.json`."""
    assessment = fit.assessment
    content: JsonObject = {
        "model": fit.model.to_json(),
        "fit": [pair.to_json() for pair in fit.pairs],
        "test": [pair.to_json() for pair in fit.test],
        "assessment": assessment.to_json() if assessment else None,
        "absent": fit.absent,
        "absent_recognised": fit.absent_recognised,
        "called_absent": fit.called_absent,
    }
    write_json(run_folder / "trust" / TRUST_FILE, content)


def read_trust_fit(run_folder: Path) -> TrustFit:
    """What `write_trust_fit` wrote. Raises OSError if it is missing."""
    content = json.loads((run_folder / "trust" / TRUST_FILE).read_text())
    return TrustFit(
        model=TrustModel.from_json(content["model"]),
        pairs=tuple(map(TrustPair.from_json, content["fit"])),
        test=tuple(map(TrustPair.from_json, content["test"])),
        absent=tuple(content["absent"]),
        absent_recognised=int(content["absent_recognised"]),
    )
