"""What `evaluation.json` says, as tables for a terminal and for the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from training.evaluate.agreement_by_stage import AgreementSummary
from training.evaluate.evaluation_report import EvaluationReport

_STAGE_HEADINGS = ("after", "DSC %", "ASSD mm", "HD95 mm")
_SHAPE_HEADINGS = ("code", "ASSD mm, mean (worst)")
_SHAPE_TITLE = "shape model on the livers kept out, pose and code fitted to the true surface"
Rows = list[tuple[str, ...]]


def tables(report: EvaluationReport) -> list[Table]:
    """For a terminal: the phantoms, the same by edition, the shape model."""
    return [_table(title, headings, rows) for title, headings, rows in _sections(report)]


def figures_as_markdown(report: EvaluationReport) -> str:
    """The same for a model card."""
    return "\n\n".join(_markdown(title, headings, rows) for title, headings, rows in _sections(report))


def _sections(report: EvaluationReport) -> list[tuple[str, Sequence[str], Rows]]:
    title = f"{report.phantoms} test phantoms, {report.frozen_phantoms} of them the frozen ones: mean (worst)"
    sections: list[tuple[str, Sequence[str], Rows]] = [(title, _STAGE_HEADINGS, _stages(report.summary))]
    if len(report.summary_by_edition) > 1:
        sections += [
            (f"those of them that were frozen with edition {edition}", _STAGE_HEADINGS, _stages(summary))
            for edition, summary in report.summary_by_edition.items()
        ]
    shapes = [(name, f"{row.mean_assd_mm:.2f} ({row.worst_assd_mm:.2f})") for name, row in report.shape_model.items()]
    return [*sections, (_SHAPE_TITLE, _SHAPE_HEADINGS, [*shapes])]


def _stages(summary: Mapping[str, AgreementSummary]) -> Rows:
    return [
        (
            stage,
            f"{100 * row.dsc:.1f} ({100 * row.dsc_worst:.1f})",
            f"{row.assd_mm:.2f} ({row.assd_mm_worst:.2f})",
            f"{row.hd95_mm:.1f} ({row.hd95_mm_worst:.1f})",
        )
        for stage, row in summary.items()
    ]


def _table(title: str, headings: Sequence[str], rows: Rows) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    return table


def _markdown(title: str, headings: Sequence[str], rows: Rows) -> str:
    lines = [f"**{title[0].upper()}{title[1:]}**", "", _line(headings), _line(["---"] * len(headings))]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
