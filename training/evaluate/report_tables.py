"""What an evaluation found, as tables for a terminal and for the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from dissm_engine.pose.correction import StageName
from training.evaluate.agreement_by_stage import REFINED, AgreementSummary
from training.evaluate.case_report import CaseReport, CaseSummary, JudgedCase
from training.evaluate.evaluation_report import EvaluationReport, requirements_of
from training.evaluate.trust_assessment import (
    BAND_NAMES,
    FAILED_DSC,
    GOOD_DSC,
    POOR_DSC,
    Proportion,
    TrustAssessment,
)

_STAGE_HEADINGS = ("after", "DSC %", "ASSD mm", "HD95 mm")
_CATEGORY_HEADINGS = ("category", "DSC % before refinement", "DSC %", "ASSD mm", "HD95 mm")
_REQUIREMENT_HEADINGS = ("requirement", "limit", "found", "met")
_SHAPE_HEADINGS = ("code", "ASSD mm, mean (worst)")
_SHAPE_TITLE = "shape model on the livers kept out, pose and code fitted to the true surface"
_CASE_HEADINGS = ("case", "DSC %", "ASSD mm", "HD95 mm", "found/true ml", "verdict", "estimated %")
_LIMIT_HEADINGS = ("from %", f"of true DSC < {POOR_DSC:.2f}", f"of true DSC >= {GOOD_DSC:.2f}")
Rows = list[tuple[str, ...]]
Section = tuple[str, Sequence[str], Rows]


def tables(report: EvaluationReport) -> list[Table]:
    """For a terminal: the phantoms, the same by edition, set and category, requirements, trust, the shape model."""
    return [_table(*section) for section in _sections(report)]


def figures_as_markdown(report: EvaluationReport) -> str:
    """The same for a model card."""
    return "\n\n".join(_markdown(*section) for section in _sections(report))


def trust_as_markdown(assessment: TrustAssessment) -> str:
    """Verdicts, rule and reliability for a model card."""
    return "\n\n".join(_markdown(*section) for section in trust_sections(assessment))


def case_tables(report: CaseReport) -> list[Table]:
    """For a terminal: every case, the summary, the trust."""
    rows = [_case(case) for case in report.cases]
    sections: list[Section] = [
        (f"{len(rows)} cases with masks", _CASE_HEADINGS, rows),
        ("over all cases", ("", "mean", "worst"), _case_summary(report.summary)),
    ]
    problems: Rows = [(case.name, case.problem) for case in report.cases if case.problem]
    if problems:
        sections.append(("cases without a result", ("case", "reason"), problems))
    if report.trust:
        sections += trust_sections(report.trust)
    return [_table(*section) for section in sections]


def trust_sections(trust: TrustAssessment) -> list[Section]:
    """Verdicts by true DSC, the rule of the verdict, reliability of the estimate: title, headings and rows of each."""
    verdicts: Rows = [(str(verdict), *map(str, counts)) for verdict, counts in trust.counts.items()]
    rule: Rows = [
        (f"true DSC < {FAILED_DSC:.2f} and ACCEPT", *_proportion(trust.failed_accepted), "none"),
        (f"true DSC < {POOR_DSC:.2f} and ACCEPT", *_proportion(trust.poor_accepted), "2 % at most"),
        (f"true DSC >= {GOOD_DSC:.2f} and ACCEPT", *_proportion(trust.good_accepted), "90 % at least"),
    ]
    bins: Rows = [
        (
            f"{100 * each.low:.0f}-{100 * each.high:.0f}",
            str(each.count),
            _percent(each.mean_estimated_dsc),
            _percent(each.mean_true_dsc),
        )
        for each in trust.reliability
    ]
    limits: Rows = [
        (f"{100 * each.limit:.0f}", _proportion(each.poor_accepted)[0], _proportion(each.good_accepted)[0])
        for each in trust.limits
        if round(1000 * each.limit) % 10 == 0
    ]
    area = "" if trust.roc.area is None else f"; AUC for a true DSC < {POOR_DSC:.2f}: {trust.roc.area:.3f}"
    error = f"mean error {100 * trust.mean_absolute_error:.1f} points"
    return [
        (f"verdicts of {trust.results} results by true DSC", ("verdict", *BAND_NAMES), verdicts),
        ("rule of the verdict", ("results", "share", "95 % bounds", "wanted"), rule),
        (f"estimated DSC: {error}{area}", ("estimated %", "results", "mean estimated %", "mean true %"), bins),
        ("what a limit of the estimate alone would accept", _LIMIT_HEADINGS, limits),
    ]


def _sections(report: EvaluationReport) -> list[Section]:
    title = f"{report.phantoms} test phantoms, {report.frozen_phantoms} of them the frozen ones: mean (worst)"
    sections: list[Section] = [(title, _STAGE_HEADINGS, _stages(report.summary))]
    if len(report.summary_by_edition) > 1:
        sections += [
            (f"those of them that were frozen with edition {edition}", _STAGE_HEADINGS, _stages(summary))
            for edition, summary in report.summary_by_edition.items()
        ]
    which = "all of it" if report.final else "only those that may be looked at before the edition is finished"
    sections += [
        (f"set {name} ({which})", _STAGE_HEADINGS, _stages(summary)) for name, summary in report.summary_by_set.items()
    ]
    if report.summary_by_category:
        rows = [_category(name, summary) for name, summary in report.summary_by_category.items()]
        sections.append((f"set B by category ({which})", _CATEGORY_HEADINGS, rows))
        rows = [
            (each.name, f"{each.limit:.3f}", f"{each.found:.3f}", "yes" if each.met else "NO")
            for each in requirements_of(report)
        ]
        sections.append((f"must reach ({which})", _REQUIREMENT_HEADINGS, rows))
    if report.trust:
        sections += trust_sections(report.trust)
    shapes = [(name, f"{row.mean_assd_mm:.2f} ({row.worst_assd_mm:.2f})") for name, row in report.shape_model.items()]
    return [*sections, (_SHAPE_TITLE, _SHAPE_HEADINGS, [*shapes])]


def _stages(summary: Mapping[str, AgreementSummary]) -> Rows:
    return [(stage, *_agreement(row)) for stage, row in summary.items()]


def _category(name: str, summary: Mapping[str, AgreementSummary]) -> tuple[str, ...]:
    return (name, _agreement(summary[str(StageName.NON_RIGID)])[0], *_agreement(summary[REFINED]))


def _agreement(row: AgreementSummary) -> tuple[str, str, str]:
    return (
        f"{100 * row.dsc:.1f} ({100 * row.dsc_worst:.1f})",
        f"{row.assd_mm:.2f} ({row.assd_mm_worst:.2f})",
        f"{row.hd95_mm:.1f} ({row.hd95_mm_worst:.1f})",
    )


def _case(case: JudgedCase) -> tuple[str, ...]:
    said = case.statement
    if said is None:
        return (case.name, _percent(case.dsc), "", "", "", "no result", "")
    volumes = f"{said.found_ml:.0f}/{case.true_ml or 0:.0f}"
    distances = (_number(case.assd_mm, 2), _number(case.hd95_mm, 1))
    return (case.name, _percent(case.dsc), *distances, volumes, str(said.verdict), _percent(said.estimated_dsc))


def _case_summary(summary: CaseSummary) -> Rows:
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in summary.verdicts.items())
    return [
        ("DSC %", _percent(summary.mean_dsc), _percent(summary.worst_dsc)),
        ("ASSD mm", _number(summary.mean_assd_mm, 2), _number(summary.worst_assd_mm, 2)),
        ("HD95 mm", _number(summary.mean_hd95_mm, 1), _number(summary.worst_hd95_mm, 1)),
        ("verdicts", verdicts, ""),
        ("nothing found", str(summary.not_found), ""),
        ("not readable", str(summary.unreadable), ""),
        (f"wrongly ACCEPT, DSC < {POOR_DSC:.2f}", ", ".join(summary.accepted_under_093) or "none", ""),
        (f"wrongly ACCEPT, DSC < {FAILED_DSC:.2f}", ", ".join(summary.accepted_under_090) or "none", ""),
    ]


def _proportion(value: Proportion) -> tuple[str, str]:
    share = f"{value.count} of {value.of}"
    return share, f"{100 * value.low:.1f}-{100 * value.high:.1f} %" if value.of else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(title: str, headings: Sequence[str], rows: Rows) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(title: str, headings: Sequence[str], rows: Rows) -> str:
    lines = [f"**{title[0].upper()}{title[1:]}**", "", _line(headings), _line(["---"] * len(headings))]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
