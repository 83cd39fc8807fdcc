"""What an evaluation found, and its file `evaluation.json` in the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from dissm_engine.atomic_file import write_json
from dissm_engine.findings import Verdict
from dissm_engine.json_value import JsonObject
from training.evaluate.agreement_by_stage import REFINED, AgreementSummary, StageAgreements, summarise
from training.evaluate.engine_statement import EngineStatement
from training.evaluate.frozen_phantoms import EvaluationPhantom
from training.evaluate.metrics import Agreement
from training.evaluate.phantom_table import PhantomSet
from training.evaluate.requirements import Requirement, requirements
from training.evaluate.trust_assessment import TrustAssessment, assess_trust
from training.shape.generalisation import GeneralisationTable, table_from_json, table_to_json

REPORT_FILE = "evaluation.json"

Group = TypeVar("Group")


@dataclass(frozen=True, slots=True)
class JudgedBundle:
    """Which bundle was judged; weights: digest of its weights."""

    name: str
    version: str
    weights: str


@dataclass(frozen=True, slots=True)
class JudgedPhantom:
    """One phantom and how well its liver was found.

    Attributes:
        phantom: From what it was made.
        frozen: Whether it is the frozen one, bit for bit.
        true_ml: Volume of the true liver, as far as the scan shows it.
        stages: Agreement after every stage.
        statement: What the engine says of its result; None where it found nothing.
        problem: Why it found nothing, code and sentence; empty otherwise.
    """

    phantom: EvaluationPhantom
    frozen: bool
    true_ml: float
    stages: StageAgreements
    statement: EngineStatement | None
    problem: str = ""

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return {
            **self.phantom.to_json(),
            "frozen": self.frozen,
            "true_ml": self.true_ml,
            "statement": self.statement.to_json() if self.statement else None,
            "problem": self.problem,
            "stages": {stage: agreement.to_json() for stage, agreement in self.stages.items()},
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> JudgedPhantom:
        """The inverse of `to_json`. Raises KeyError or TypeError if the content is something else."""
        statement = content["statement"]
        return JudgedPhantom(
            phantom=EvaluationPhantom.from_json(content),
            frozen=bool(content["frozen"]),
            true_ml=float(content["true_ml"]),
            stages={stage: Agreement.from_json(agreement) for stage, agreement in content["stages"].items()},
            statement=EngineStatement.from_json(statement) if statement else None,
            problem=str(content["problem"]),
        )


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What an evaluation found.

    Figures of two bundles may be compared only where all phantoms are the frozen ones.

    Attributes:
        bundle: Which bundle was judged.
        final: Whether the phantoms that are judged once, at the end of an edition, are among them.
        cases: Every phantom with its agreements, in the order of the test set; at least one.
        shape_model: How close the shape model alone comes to livers it has never seen.
    """

    bundle: JudgedBundle
    final: bool
    cases: tuple[JudgedPhantom, ...]
    shape_model: GeneralisationTable

    @property
    def phantoms(self) -> int:
        """How many phantoms."""
        return len(self.cases)

    @property
    def frozen_phantoms(self) -> int:
        """How many of them are the frozen ones, bit for bit."""
        return sum(case.frozen for case in self.cases)

    @property
    def summary(self) -> Mapping[str, AgreementSummary]:
        """Mean and worst of every stage over all phantoms."""
        return summarise([case.stages for case in self.cases])

    @property
    def summary_by_edition(self) -> Mapping[int, Mapping[str, AgreementSummary]]:
        """The same over the phantoms of each edition."""
        return _grouped(self.cases, lambda case: case.phantom.edition)

    @property
    def summary_by_set(self) -> Mapping[PhantomSet, Mapping[str, AgreementSummary]]:
        """The same over set A and over set B."""
        in_sets = [case for case in self.cases if case.phantom.set]
        return _grouped(in_sets, lambda case: PhantomSet(case.phantom.set or ""))

    @property
    def summary_by_category(self) -> Mapping[str, Mapping[str, AgreementSummary]]:
        """The same over each category of set B."""
        odd = [case for case in self.cases if case.phantom.set is PhantomSet.ODD]
        return _grouped(odd, lambda case: case.phantom.category)

    @property
    def trust_values(self) -> tuple[list[float], list[float], list[Verdict]]:
        """True DSC, estimated DSC and verdict of every result."""
        results = [(case.stages[REFINED].dsc, case.statement) for case in self.cases if case.statement]
        return (
            [dsc for dsc, _ in results],
            [said.estimated_dsc for _, said in results],
            [said.verdict for _, said in results],
        )

    @property
    def trust(self) -> TrustAssessment | None:
        """The engine's trust against the truth; None without a result."""
        true, estimated, verdicts = self.trust_values
        return assess_trust(true, estimated, verdicts) if true else None

    def to_json(self) -> JsonObject:
        """The content of `evaluation.json`: what was measured, and what follows from it."""
        trust = self.trust
        return {
            "bundle": asdict(self.bundle),
            "final": self.final,
            "phantoms": self.phantoms,
            "frozen_phantoms": self.frozen_phantoms,
            "summary": _summary_to_json(self.summary),
            "summary_by_edition": {
                str(edition): _summary_to_json(summary) for edition, summary in self.summary_by_edition.items()
            },
            "summary_by_set": {str(name): _summary_to_json(each) for name, each in self.summary_by_set.items()},
            "summary_by_category": {name: _summary_to_json(each) for name, each in self.summary_by_category.items()},
            "requirements": [each.to_json() for each in requirements_of(self)],
            "trust": trust.to_json() if trust else None,
            "cases": [case.to_json() for case in self.cases],
            "shape_model": table_to_json(self.shape_model),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> EvaluationReport:
        """The inverse of `to_json`. Raises KeyError or TypeError if the content is something else."""
        return EvaluationReport(
            bundle=JudgedBundle(**content["bundle"]),
            final=bool(content["final"]),
            cases=tuple(JudgedPhantom.from_json(case) for case in content["cases"]),
            shape_model=table_from_json(content["shape_model"]),
        )


def requirements_of(report: EvaluationReport) -> tuple[Requirement, ...]:
    """What a bundle must reach on sets A and B, with what this one reaches; those without phantoms are left out."""
    return requirements(report.summary_by_set, report.summary_by_category)


def write_report(folder: Path, report: EvaluationReport) -> None:
    """Write `evaluation.json` into a run folder."""
    write_json(folder / REPORT_FILE, report.to_json())


def read_report(folder: Path) -> EvaluationReport:
    """What `write_report` wrote. Raises OSError if it is missing."""
    return EvaluationReport.from_json(json.loads((folder / REPORT_FILE).read_text()))


def _grouped(
    cases: Sequence[JudgedPhantom], key: Callable[[JudgedPhantom], Group]
) -> dict[Group, Mapping[str, AgreementSummary]]:
    """Mean and worst of every stage for each group, in the order in which the groups first come."""
    groups: dict[Group, list[StageAgreements]] = {}
    for case in cases:
        groups.setdefault(key(case), []).append(case.stages)
    return {group: summarise(stages) for group, stages in groups.items()}


def _summary_to_json(summary: Mapping[str, AgreementSummary]) -> JsonObject:
    return {stage: row.to_json() for stage, row in summary.items()}
