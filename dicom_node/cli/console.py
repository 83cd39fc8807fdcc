"""Histories and numbers as rich tables. What a machine reads is printed as JSON from the same values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dicom_node.catalog.states import DeliveryState
from dicom_node.values.case_history import (
    AuditEntry,
    CaseHistory,
    CaseRecord,
    DeliveryRecord,
    ObjectRecord,
    SeriesHistory,
    SeriesRecord,
    StackRecord,
    time_as_text,
)
from dicom_node.values.facts import Facts
from dicom_node.values.results import CaseResults
from dissm_engine.atomic_file import open_atomic
from dissm_engine.json_value import JsonValue

if TYPE_CHECKING:
    from dicom_node.catalog.verify import ChainVerdict
    from dicom_node.cli.check import Checked
    from dicom_node.processes.offline import OfflineReport
    from dicom_node.watch.status import NodeStatus

OUTPUT = Console()
ERRORS = Console(stderr=True)

_GOOD, _BAD, _BUSY = "green", "red", "yellow"
_COLOURS = {
    "DELIVERED": _GOOD,
    "PROVEN": _GOOD,
    "ADMITTED": _GOOD,
    "SENT": _GOOD,
    "yes": _GOOD,
    "ACCEPT": _GOOD,
    "FAILED": _BAD,
    "PARKED": _BAD,
    "HELD": _BAD,
    "no": _BAD,
    "REJECT": _BAD,
    "RUNNING": _BUSY,
    "DELINEATED": _BUSY,
    "DELIVERING": _BUSY,
    "unknown": _BUSY,
    "REVIEW": _BUSY,
}


def print_json(console: Console, value: JsonValue) -> None:
    """One JSON document, not wrapped and not coloured."""
    console.out(json.dumps(value, indent=2, default=str), highlight=False)


def write_json_lines(rows: Iterable[Facts], out: Path | None) -> None:
    """One JSON object a line, to a file (whole or not at all) or to standard output."""
    if out is None:
        for row in rows:
            print(json.dumps(row))
        return
    with open_atomic(out) as stream:
        stream.writelines((json.dumps(row) + "\n").encode("ascii") for row in rows)


@contextmanager
def case_progress(console: Console) -> Iterator[Callable[[Sequence[CaseRecord]], None]]:
    """A progress display; what it yields is called with one line for each case."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        bars: dict[str, TaskID] = {}

        def watch(cases: Sequence[CaseRecord]) -> None:
            for case in cases:
                if case.id not in bars:
                    bars[case.id] = progress.add_task(case.id, total=1.0)
                done = case.stage_done if case.state in {"QUEUED", "RUNNING", "DELINEATED"} else 1.0
                said = f"{case.id} {case.state} {case.stage or ''}"
                progress.update(bars[case.id], description=said, completed=done)

        yield watch


def print_checked(console: Console, checked: Checked) -> None:
    """One line of `check`."""
    mark = {True: Text("ok   ", _GOOD), False: Text("WRONG", _BAD), None: Text("note ", _BUSY)}[checked.good]
    console.print(Text.assemble(mark, " ", (checked.what, "bold"), ": ", checked.said))


def print_verdict(console: Console, verdict: ChainVerdict, anchor: Path) -> None:
    """Whether the audit log is untouched."""
    for problem in verdict.problems:
        console.print(Text(f"  {problem.what}", _BAD))
    if verdict.anchored_row is None:
        console.print(Text(f"there is no anchor {anchor}: rows removed from the end would go unseen", _BUSY))
    said = "untouched" if verdict.untouched else "NOT what was written"
    console.print(f"{verdict.rows} rows, head {verdict.head[1][:16]}, the audit log is {said}", highlight=False)


def print_offline(console: Console, report: OfflineReport, out: Path) -> None:
    """What became of the inputs of `process`."""
    for source, found in report.imports.items():
        said = found if isinstance(found, str) else _short({n: count for n, count in asdict(found).items() if count})
        console.print(Text(f"{source}: {said}"))
    for history in report.series:
        console.print(Text(f"series {history.series.series_instance_uid}: {history.series.state}", "bold"))
        for entry in history.stacks:
            console.print(Text(f"  {entry.stack.label}: {entry.stack.reason or 'admitted'}"))
    print_cases(console, report.cases)
    console.print(Text(f"audit and objects are in {out}"))


def print_cases(console: Console, cases: Sequence[CaseRecord]) -> None:
    """One line a case."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("case", "state", "phase", "verdict", "volume", "since"):
        table.add_column(column, no_wrap=True)
    for case in cases:
        working = f" {case.stage} {case.stage_done:.0%}" if case.stage else ""
        _add_row(
            table,
            case.id,
            _coloured(case.state, working),
            case.phase or "",
            _coloured(case.verdict),
            _ml(case.volume_ml),
            time_as_text(case.changed_at) or "",
        )
    console.print(table if cases else "no cases")
    for case in cases:
        if case.reason:
            _line(console, Text.assemble((case.id, "bold"), ": ", str(case.reason)))


def print_series_lines(console: Console, found: Sequence[SeriesRecord]) -> None:
    """One line a series, with the UID that `explain` takes."""
    for series in found:
        state = _coloured(series.state)
        state.pad_right(max(0, 10 - len(state)))
        _line(console, Text.assemble(state, series.series_instance_uid, f" {series.reason_code or ''}"))
    if not found:
        console.print("no series")


def print_case(console: Console, history: CaseHistory) -> None:
    """The whole history of one case."""
    case = history.case
    _print_facts(
        console,
        f"case {case.id}",
        [
            ("state", case.state),
            ("reason", case.reason),
            ("standing", history.standing),
            ("attempt", case.attempt),
            ("phase", case.phase),
            ("verdict", case.verdict),
            ("volume", _ml(case.volume_ml)),
            ("created", time_as_text(case.created_at)),
            ("changed", time_as_text(case.changed_at)),
            ("series", history.series.series_instance_uid),
            ("stack", history.stack.label),
            ("images", history.stack.images),
            ("bundle", history.bundle_digest),
        ],
    )
    for line in history.not_accepted:
        _line(console, Text(f"  {line}", _BUSY))
    for line in history.to_delete:
        _line(console, Text(f"  {line}: a newer result has replaced it", _BAD))
    if history.results is not None:
        _print_results(console, history.results)
    print_stack(console, history.stack)
    _print_objects(console, history.objects)
    print_audit(console, history.audit)


def print_series(console: Console, history: SeriesHistory) -> None:
    """Why a series was admitted or refused, rule by rule."""
    series = history.series
    _print_facts(
        console,
        "series",
        [
            ("series_instance_uid", series.series_instance_uid),
            ("state", series.state),
            ("completeness", series.completeness),
            ("revision", series.revision),
            ("instances", series.instances),
            ("quarantined", series.quarantined),
            ("calling_ae", series.calling_ae),
        ],
    )
    for entry in history.stacks:
        print_stack(console, entry.stack)
        for case in entry.cases:
            answer = "; its result is the answer for the study" if case.current else ""
            console.print(Text(f"  case {case.id}: {case.state} {case.reason or ''}".rstrip() + answer))
    if not history.stacks:
        console.print("nothing is decided yet: the series is still being received")


def print_stack(console: Console, stack: StackRecord) -> None:
    """The decision about one stack and what it rests on."""
    said = {True: "admitted", False: "refused", None: "not decided yet"}[stack.admitted]
    console.print(Text(f"\n{stack.label} (revision {stack.revision}, {stack.images} images): {said}", "bold"))
    if stack.reason:
        console.print(Text(f"  {stack.reason}"))
    table = _table("rule", "outcome", "what was seen")
    for line in stack.evidence:
        _add_row(table, line.rule, _coloured(line.outcome), line.seen)
    if stack.evidence:
        console.print(table)


def print_status(console: Console, status: NodeStatus) -> None:
    """The node at a glance."""
    console.print(Text("healthy", _GOOD) if status.healthy else Text("not healthy", _BAD))
    for problem in status.problems:
        console.print(Text(f"  {problem}", _BAD))
    table = _table("process", "pid", "running since", "last heartbeat")
    for process in status.processes:
        silent = Text(f"{process.seconds_silent:.0f} s ago", _GOOD if process.alive else _BAD)
        _add_row(table, process.name, str(process.pid), process.started_at, silent)
    if status.processes:
        console.print(table)
    for name, counts in (("series", status.series), ("cases", status.cases), ("deliveries", status.deliveries)):
        console.print(f"{name}: " + (", ".join(f"{count} {state}" for state, count in counts.items()) or "none"))
    console.print(f"free disk: {status.free_mb} MB")
    if status.for_a_person:
        console.print(Text("waiting for a person: " + ", ".join(status.for_a_person), _BUSY))


def print_audit(console: Console, rows: Iterable[AuditEntry]) -> None:
    """Audit rows, oldest first: what happened, and beneath it the facts, long ones shortened (`--json` has all)."""
    for row in rows:
        moved = f" {row.from_state or ''} > {row.to_state}" if row.to_state else ""
        # The subject last and whole: it is what `show` and `explain` ask for.
        _line(
            console,
            Text.assemble(
                (f"{row.id:>6} {row.at[:19]} ", "dim"),
                f"{row.process:<10} ",
                (row.event, "bold"),
                moved,
                (f" {row.reason_code}" if row.reason_code else "", _BAD),
                f" {row.subject_kind} {row.subject}",
            ),
        )
        if row.facts:
            console.print(Padding(Text(_short(row.facts), "dim"), (0, 0, 0, 27)))


def _print_results(console: Console, results: CaseResults) -> None:
    table = _table("finding", "value", "limits", "")
    for item in results.findings:
        limits = f"{_number(item.low)} ... {_number(item.high)}"
        mark = Text(f"remarkable {item.place}".rstrip(), _BUSY) if item.remarkable else Text("")
        _add_row(table, item.name, f"{_number(item.value)} {item.unit}", limits, mark)
    if results.findings:
        console.print(table)
    for title, numbers in (("seconds", results.seconds), ("tissue HU", results.tissue_hu)):
        console.print(f"{title}: " + ", ".join(f"{name} {_number(value)}" for name, value in numbers.items()))
    for reason in results.reasons:
        console.print(Text(f"  {reason}"))


def _print_objects(console: Console, objects: Sequence[ObjectRecord]) -> None:
    for item in objects:
        sent = [(to.destination, _delivered(to)) for to in item.deliveries]
        facts = [
            ("series", item.series_instance_uid or ""),
            ("SOP Instance UID", item.sop_instance_uid),
            ("file in the spool", item.path),
            *sent,
        ]
        _print_facts(console, f"{item.kind} of attempt {item.attempt}", facts)
    if objects:
        console.print(Text("proof: " + _short(objects[-1].proof)))


def _delivered(to: DeliveryRecord) -> str:
    if to.state is DeliveryState.NOT_ACCEPTED:
        return to.last_error or to.state
    return f"{to.state} after {to.attempts} {to.last_error or ''}".rstrip()


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    """What came from elsewhere is no markup: a rule may be called "[/x]"."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _line(console: Console, line: Text) -> None:
    """One line, however narrow the terminal: a UID that is broken in two cannot be pasted."""
    console.print(line, soft_wrap=True)


def _print_facts(console: Console, title: str, pairs: Sequence[tuple[str, object]]) -> None:
    _line(console, Text(title, "bold"))
    texts = [(name, "" if value is None else str(value)) for name, value in pairs]
    shown = [(name, text) for name, text in texts if text]
    width = max((len(name) for name, _ in shown), default=0)
    for name, text in shown:
        _line(console, Text.assemble((f"  {name:<{width}}  ", "dim"), _coloured(text)))


def _coloured(value: object, more: str = "") -> Text:
    text = "" if value is None else str(value)
    return Text(text + more, _COLOURS.get(text, ""))


def _ml(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} ml"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _short(facts: object) -> str:
    if isinstance(facts, Mapping):
        said = (
            f"{name} ({_short(fact)})" if isinstance(fact, Mapping) else f"{name} {_short(fact)}"
            for name, fact in facts.items()
        )
        return ", ".join(said)
    return _shortened(str(facts))


def _shortened(text: str) -> str:
    """UIDs and digests by their end and their beginning; sentences stay whole."""
    return text if len(text) <= 24 or " " in text else f"{text[:8]}...{text[-8:]}"
