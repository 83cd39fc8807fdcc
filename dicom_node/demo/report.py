"""What the demo prints at its end: verdicts and reasons, numbers, what came back, the audit."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog.audit import row_as_json, rows
from dicom_node.catalog.tables import Series
from dicom_node.catalog.verify import ChainVerdict
from dicom_node.cli.console import print_audit
from dicom_node.demo.returned import Returned
from dicom_node.watch.case_history import Story, case_story, series_story

_GOOD, _BAD = "bold green", "bold red"


def stories_of(session: Session) -> tuple[list[Story], dict[str, Story]]:
    """Every series' story in the order they came, and every case's by its id."""
    uids = session.scalars(select(Series.series_instance_uid).order_by(Series.id)).all()
    series = [series_story(session, uid) for uid in uids]
    cases = {
        case["case"]: case_story(session, case["case"])
        for one in series
        for stack in one["stacks"]
        for case in stack["cases"]
    }
    return series, cases


def print_verdicts(console: Console, series: list[Story], cases: dict[str, Story]) -> None:
    """Each series, each of its stacks with the decision and its reason, each case with what was found."""
    for number, one in enumerate(series, start=1):
        _headline(console, f"series {number}: {one['state']}", f"{one['instances']} images, {one['completeness']}")
        for stack in one["stacks"]:
            said = "admitted" if stack["admitted"] else f"refused, {stack['reason_code']}"
            console.print(Text(f"  {stack['label']}, {stack['images']} images: {said}"))
            if stack["reason"]:
                console.print(Text(f"    {stack['reason']}"))
            for case in stack["cases"]:
                _print_case(console, cases[case["case"]])


def _print_case(console: Console, case: Story) -> None:
    verdict = f", {case['verdict']}" if case["verdict"] else ""
    _headline(console, f"  case {case['case']}: {case['state']}{verdict}", "")
    if case["reason"]:
        console.print(Text(f"    {case['reason_code']}: {case['reason']}"))
    results = case["results"]
    if not results:
        return
    findings, phase = results["findings"], results["phase"]
    console.print(Text(f"    volume {case['volume_ml']:.0f} ml, phase {phase['phase']}", "bold"))
    console.print(Text("    tissue HU: " + _numbers(results["tissue_hu"])))
    console.print(Text("    stage seconds: " + _numbers(results["seconds"])))
    console.print(Text(f"    findings (estimated DSC {findings['estimated_dsc']:.2f}):"))
    for item in findings["items"]:
        mark = "  <- remarkable" if item["remarkable"] else ""
        console.print(Text(f"      {item['name']} {_number(item['value'])} {item['unit']}".rstrip() + mark))


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


def print_log(console: Console, session: Session, verdict: ChainVerdict) -> None:
    """The audit rows and whether their chain is whole."""
    _headline(console, "audit", "")
    print_audit(console, [row_as_json(row) for row in rows(session)])
    if verdict.untouched:
        console.print(Text(f"audit verify: {verdict.rows} rows, untouched", _GOOD))
    for problem in verdict.problems:
        console.print(Text(f"audit verify: {problem.what}", _BAD))


def _headline(console: Console, title: str, more: str) -> None:
    console.print()
    console.print(Text(title, "bold").append(f"  {more}" if more else "", "dim"))


def _numbers(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
