"""What an evaluation on CTs with manual masks found: a row for each case, the summary, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dissm_engine.atomic_file import write_json, write_text
from dissm_engine.findings import Verdict
from dissm_engine.json_value import JsonObject
from training.evaluate.engine_statement import EngineStatement
from training.evaluate.evaluation_report import JudgedBundle
from training.evaluate.metrics import Agreement
from training.evaluate.trust_assessment import FAILED_DSC, POOR_DSC, TrustAssessment, assess_trust

CASES_FILE = "cases.json"
CASES_TABLE = "cases.csv"
_COLUMNS = (
    *("name", "dsc", "assd_mm", "hd95_mm", "true_ml", "found_ml", "verdict", "estimated_dsc", "seconds", "problem"),
)


@dataclass(frozen=True, slots=True)
class JudgedCase:
    """One case and how well its organ was found.

    Attributes:
        name: Of the case.
        true_ml: Volume of the manual mask; None where the case could not be read.
        dsc: Of the two masks on the CT's own grid, 0 to 1; 0 where the engine found nothing, None where the case could
            not be read.
        assd_mm, hd95_mm: Distances of the two surfaces, see `Agreement`; None where there are not two.
        statement: What the engine says of its result; None where there is none.
        problem: Why there is no result, code and sentence; empty where there is one.
    """

    name: str
    true_ml: float | None
    dsc: float | None
    assd_mm: float | None
    hd95_mm: float | None
    statement: EngineStatement | None
    problem: str = ""

    @staticmethod
    def measured(name: str, true_ml: float, agreement: Agreement, statement: EngineStatement) -> JudgedCase:
        """A case with a result."""
        return JudgedCase(name, true_ml, agreement.dsc, agreement.assd_mm, agreement.hd95_mm, statement)

    @staticmethod
    def not_found(name: str, true_ml: float, problem: str) -> JudgedCase:
        """A case in which the engine found no organ, though there is one."""
        return JudgedCase(name, true_ml, 0.0, None, None, None, problem)

    @staticmethod
    def unreadable(name: str, problem: str) -> JudgedCase:
        """A case that could not be given to the engine."""
        return JudgedCase(name, None, None, None, None, None, problem)

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return {**asdict(self), "statement": self.statement.to_json() if self.statement else None}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> JudgedCase:
        """The inverse of `to_json`. Raises KeyError or TypeError if the content is something else."""
        statement = content["statement"]
        return JudgedCase(**{**content, "statement": EngineStatement.from_json(statement) if statement else None})


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """Over all cases.

    Attributes:
        cases: How many there are.
        unreadable: Of them, those that could not be given to the engine; they count nowhere else.
        not_found: Those in which the engine found nothing; their DSC counts as 0, their distances do not count.
        mean_dsc, worst_dsc: None without a readable case.
        mean_assd_mm, worst_assd_mm, mean_hd95_mm, worst_hd95_mm: None without a result.
        verdicts: How many results have each verdict.
        accepted_under_093: Names of the results that are accepted though their DSC is under 0.93.
        accepted_under_090: The same under 0.90.
    """

    cases: int
    unreadable: int
    not_found: int
    mean_dsc: float | None
    worst_dsc: float | None
    mean_assd_mm: float | None
    worst_assd_mm: float | None
    mean_hd95_mm: float | None
    worst_hd95_mm: float | None
    verdicts: Mapping[Verdict, int]
    accepted_under_093: tuple[str, ...]
    accepted_under_090: tuple[str, ...]

    @staticmethod
    def of(cases: Sequence[JudgedCase]) -> CaseSummary:
        """The summary of any number of cases."""
        dsc = [case.dsc for case in cases if case.dsc is not None]
        assd = [case.assd_mm for case in cases if case.assd_mm is not None]
        hd95 = [case.hd95_mm for case in cases if case.hd95_mm is not None]
        verdicts = [case.statement.verdict for case in cases if case.statement]
        return CaseSummary(
            cases=len(cases),
            unreadable=sum(case.dsc is None for case in cases),
            not_found=sum(case.dsc is not None and case.statement is None for case in cases),
            mean_dsc=_mean(dsc),
            worst_dsc=min(dsc, default=None),
            mean_assd_mm=_mean(assd),
            worst_assd_mm=max(assd, default=None),
            mean_hd95_mm=_mean(hd95),
            worst_hd95_mm=max(hd95, default=None),
            verdicts={verdict: verdicts.count(verdict) for verdict in Verdict},
            accepted_under_093=_accepted_under(POOR_DSC, cases),
            accepted_under_090=_accepted_under(FAILED_DSC, cases),
        )

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return {**asdict(self), "verdicts": {str(verdict): count for verdict, count in self.verdicts.items()}}


@dataclass(frozen=True, slots=True)
class CaseReport:
    """What an evaluation on cases found.

    Attributes:
        bundle: Which bundle was judged.
        labels: The numbers that made up the organ; none: every number above 0.
        cases: In the order of their names.
    """

    bundle: JudgedBundle
    labels: tuple[int, ...]
    cases: tuple[JudgedCase, ...]

    @property
    def summary(self) -> CaseSummary:
        """Over all cases."""
        return CaseSummary.of(self.cases)

    @property
    def trust(self) -> TrustAssessment | None:
        """The engine's trust against the truth; None without a result."""
        true, estimated, verdicts = self.trust_values
        return assess_trust(true, estimated, verdicts) if true else None

    @property
    def trust_values(self) -> tuple[list[float], list[float], list[Verdict]]:
        """True DSC, estimated DSC and verdict of every result."""
        results = [(c.dsc, c.statement) for c in self.cases if c.statement is not None and c.dsc is not None]
        return (
            [dsc for dsc, _ in results],
            [said.estimated_dsc for _, said in results],
            [said.verdict for _, said in results],
        )

    def worst(self, count: int) -> list[JudgedCase]:
        """The cases with the lowest DSC, the lowest first; without those that could not be read."""
        return sorted((case for case in self.cases if case.dsc is not None), key=lambda case: case.dsc or 0.0)[:count]

    def to_json(self) -> JsonObject:
        """The content of `cases.json`."""
        trust = self.trust
        return {
            "bundle": asdict(self.bundle),
            "labels": list(self.labels),
            "summary": self.summary.to_json(),
            "trust": trust.to_json() if trust else None,
            "cases": [case.to_json() for case in self.cases],
        }

    def to_csv(self) -> str:
        """A line for each case; empty where there is no value."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(_COLUMNS)
        for case in self.cases:
            said = case.statement
            of_engine = (said.found_ml, said.verdict, said.estimated_dsc, said.seconds) if said else (None,) * 4
            found_ml, verdict, estimated, seconds = of_engine
            measured = (case.dsc, case.assd_mm, case.hd95_mm, case.true_ml, found_ml)
            lines.writerow((case.name, *measured, verdict, estimated, seconds, case.problem))
        return text.getvalue()


def write_case_report(folder: Path, report: CaseReport) -> None:
    """Write `cases.json` and `cases.csv` into a folder."""
    write_json(folder / CASES_FILE, report.to_json())
    write_text(folder / CASES_TABLE, report.to_csv())


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _accepted_under(limit: float, cases: Sequence[JudgedCase]) -> tuple[str, ...]:
    return tuple(
        case.name
        for case in cases
        if case.statement and case.dsc is not None and case.dsc < limit and case.statement.verdict is Verdict.ACCEPT
    )
