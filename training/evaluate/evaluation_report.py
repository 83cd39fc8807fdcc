"""What an evaluation found, and its file `evaluation.json` in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dissm_engine.atomic_file import write_json
from dissm_engine.json_value import JsonObject
from training.evaluate.agreement_by_stage import AgreementSummary, StageAgreements, summarise
from training.evaluate.frozen_phantoms import EvaluationPhantom
from training.evaluate.metrics import Agreement
from training.shape.generalisation import GeneralisationTable, table_from_json, table_to_json

REPORT_FILE = "evaluation.json"


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
        stages: Agreement after every stage.
    """

    phantom: EvaluationPhantom
    frozen: bool
    stages: StageAgreements


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What an evaluation found.

    Figures of two bundles may be compared only where all phantoms are the frozen ones.

    Attributes:
        bundle: Which bundle was judged.
        phantoms: How many phantoms.
        frozen_phantoms: How many of them are the frozen ones, bit for bit.
        summary: Mean and worst of every stage over all phantoms.
        summary_by_edition: The same over the phantoms of each edition.
        cases: Phantom and agreement after every stage, in the order of the test set.
        shape_model: How close the shape model alone comes to livers it has never seen.
    """

    bundle: JudgedBundle
    phantoms: int
    frozen_phantoms: int
    summary: Mapping[str, AgreementSummary]
    summary_by_edition: Mapping[int, Mapping[str, AgreementSummary]]
    cases: tuple[tuple[EvaluationPhantom, StageAgreements], ...]
    shape_model: GeneralisationTable

    @staticmethod
    def of(
        bundle: JudgedBundle, judged: tuple[JudgedPhantom, ...], shape_model: GeneralisationTable
    ) -> EvaluationReport:
        """The report on at least one phantom."""
        editions = sorted({one.phantom.edition for one in judged})
        return EvaluationReport(
            bundle=bundle,
            phantoms=len(judged),
            frozen_phantoms=sum(one.frozen for one in judged),
            summary=summarise([one.stages for one in judged]),
            summary_by_edition={
                edition: summarise([one.stages for one in judged if one.phantom.edition == edition])
                for edition in editions
            },
            cases=tuple((one.phantom, one.stages) for one in judged),
            shape_model=shape_model,
        )

    def to_json(self) -> JsonObject:
        """The content of `evaluation.json`."""
        return {
            "bundle": asdict(self.bundle),
            "phantoms": self.phantoms,
            "frozen_phantoms": self.frozen_phantoms,
            "summary": _summary_to_json(self.summary),
            "summary_by_edition": {
                str(edition): _summary_to_json(summary) for edition, summary in self.summary_by_edition.items()
            },
            "cases": [
                {"liver": phantom.liver, "seed": phantom.seed, "edition": phantom.edition, **stages_to_json(stages)}
                for phantom, stages in self.cases
            ],
            "shape_model": table_to_json(self.shape_model),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> EvaluationReport:
        """The inverse of `to_json`. Raises KeyError or TypeError if the content is something else."""
        return EvaluationReport(
            bundle=JudgedBundle(**content["bundle"]),
            phantoms=int(content["phantoms"]),
            frozen_phantoms=int(content["frozen_phantoms"]),
            summary=_summary_from_json(content["summary"]),
            summary_by_edition={
                int(edition): _summary_from_json(summary) for edition, summary in content["summary_by_edition"].items()
            },
            cases=tuple(_case_from_json(case) for case in content["cases"]),
            shape_model=table_from_json(content["shape_model"]),
        )


def stages_to_json(stages: StageAgreements) -> JsonObject:
    """Agreement by stage."""
    return {stage: agreement.to_json() for stage, agreement in stages.items()}


def stages_from_json(content: Mapping[str, Any]) -> StageAgreements:
    """The inverse of `stages_to_json`."""
    return {stage: Agreement.from_json(agreement) for stage, agreement in content.items()}


def write_report(folder: Path, report: EvaluationReport) -> None:
    """Write `evaluation.json` into a run folder."""
    write_json(folder / REPORT_FILE, report.to_json())


def read_report(folder: Path) -> EvaluationReport:
    """What `write_report` wrote. Raises OSError if it is missing."""
    return EvaluationReport.from_json(json.loads((folder / REPORT_FILE).read_text()))


def _case_from_json(content: Mapping[str, Any]) -> tuple[EvaluationPhantom, StageAgreements]:
    own = ("liver", "seed", "edition")
    phantom = EvaluationPhantom(*(content[name] for name in own))
    return phantom, stages_from_json({name: value for name, value in content.items() if name not in own})


def _summary_to_json(summary: Mapping[str, AgreementSummary]) -> JsonObject:
    return {stage: row.to_json() for stage, row in summary.items()}


def _summary_from_json(content: Mapping[str, Any]) -> dict[str, AgreementSummary]:
    return {stage: AgreementSummary.from_json(row) for stage, row in content.items()}
