"""What the demo prints at its end: verdicts and reasons, numbers, what came back, the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from dicom_node.catalog.audit import rows
from dicom_node.catalog.database import View
from dicom_node.catalog.histories import all_series_histories, case_history
from dicom_node.catalog.verify import ChainVerdict
from dicom_node.cli.console import print_audit
from dicom_node.demo.returned import Returned
from dicom_node.values.case_history import CaseHistory, SeriesHistory

_GOOD, _BAD = "bold green", "bold red"


def histories_of(view: View) -> tuple[list[SeriesHistory], dict[str, CaseHistory]]:
    """Every series' history in the order they came, and every case's by its id."""
    series = all_series_histories(view)
    ids = [case.id for one in series for entry in one.stacks for case in entry.cases]
    return series, {case_id: case_history(view, case_id) for case_id in ids}


def print_verdicts(console: Console, series: Sequence[SeriesHistory], cases: Mapping[str, CaseHistory]) -> None:
    """Each series, each of its stacks with the decision and its reason, each case with what was found."""
    for number, one in enumerate(series, start=1):
        record = one.series
        _headline(console, f"series {number}: {record.state}", f"{record.instances} images, {record.completeness}")
        for entry in one.stacks:
            stack = entry.stack
            refused = f"refused, {stack.reason.code}" if stack.reason else "refused"
            said = "admitted" if stack.admitted else refused
            console.print(Text(f"  {stack.label}, {stack.images} images: {said}"))
            if stack.reason:
                console.print(Text(f"    {stack.reason}"))
            for case in entry.cases:
                _print_case(console, cases[case.id])


def _print_case(console: Console, history: CaseHistory) -> None:
    case, results = history.case, history.results
    verdict = f", {case.verdict}" if case.verdict else ""
    _headline(console, f"  case {case.id}: {case.state}{verdict}", "")
    if case.reason:
        console.print(Text(f"    {case.reason.code}: {case.reason}"))
    if results is None:
        return
    console.print(Text(f"    volume {case.volume_ml:.0f} ml, phase {results.phase.phase}", "bold"))
    console.print(Text("    tissue HU: " + _numbers(results.tissue_hu)))
    console.print(Text("    stage seconds: " + _numbers(results.seconds)))
    console.print(Text(f"    findings (estimated DSC {_number(results.estimated_dsc)}):"))
    for item in results.findings:
        mark = f"  <- remarkable {item.place}".rstrip() if item.remarkable else ""
        console.print(Text(f"      {item.name} {_number(item.value)} {item.unit}".rstrip() + mark))
    for reason in results.reasons:
        console.print(Text(f"    {reason}"))


def print_returned(
    console: Console, case_id: str, returned: Returned, files: dict[str, str], dsc: float | None
) -> None:
    """The objects of one case, where they lie, and whether they lie right."""
    _headline(console, f"back in the archive, case {case_id}", "")
    for kind, file in files.items():
        console.print(Text(f"  {kind:8} {file}"))
    for check in returned.checks:
        said = Text("  right  " if check.holds else "  WRONG  ", _GOOD if check.holds else _BAD)
        console.print(said.append(f"{check.name}: {check.found}", "default"))
    if dsc is not None:
        console.print(Text(f"  DSC against the phantom's truth: {dsc:.4f}", "bold"))


def print_log(console: Console, view: View, verdict: ChainVerdict) -> None:
    """The audit rows and whether their chain is whole."""
    _headline(console, "audit", "")
    print_audit(console, rows(view))
    if verdict.untouched:
        console.print(Text(f"audit verify: {verdict.rows} rows, untouched", _GOOD))
    for problem in verdict.problems:
        console.print(Text(f"audit verify: {problem.what}", _BAD))


def _headline(console: Console, title: str, more: str) -> None:
    console.print()
    console.print(Text(title, "bold").append(f"  {more}" if more else "", "dim"))


def _numbers(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
