"""Proves the audit chain untouched: every hash recomputed, no gap, no tail removed behind the anchored head (C10)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Recorder, View
from dicom_node.catalog.tables import AuditRow
from dicom_node.reasons import AUDIT_BROKEN, CatalogError
from dicom_node.values.case_history import AuditEntry
from dissm_engine.atomic_file import write_text

_MAX_PROBLEMS = 20
_SUBJECT = "audit"
_TRIGGERS = {
    "sqlite": (
        ("audit_no_update", "audit_no_delete", "audit_no_replace"),
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'",
    ),
    "postgresql": (
        ("audit_no_update", "audit_no_delete", "audit_no_truncate"),
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'audit'::regclass AND tgenabled <> 'D'",
    ),
}
"""What refuses changes (see the first migration): names in lower case, and where the database keeps them."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The chain's head at some time, kept outside the database. id 0: the chain was empty."""

    id: int
    hash: str
    at: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One place where the chain is not what was written: the row's id and what is wrong there."""

    row: int
    what: str


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """What `verify` found. head: id and hash of the last row. anchored_row: the anchor's id, None without anchor."""

    rows: int
    head: tuple[int, str]
    anchored_row: int | None
    problems: tuple[Problem, ...]

    @property
    def untouched(self) -> bool:
        """No problem found."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"untouched": self.untouched, **asdict(self)}


def verify(view: View, anchor: Anchor | None, *, must_be_anchored: bool = False) -> ChainVerdict:
    """Recompute the whole chain from its first row, and compare it with the anchored head where there is one.

    must_be_anchored: the chain is a node's own, whose anchor lies beside it: that there is none is a problem. Of a copy
    it is none, though then nobody can tell whether rows were cut off its end.
    """
    problems, count, head = _walk(view, Anchor(0, audit.GENESIS, ""))
    if anchor is not None:
        problems.extend(_against_anchor(view, anchor, head[0]))
    elif must_be_anchored and count:
        problems.append(Problem(head[0], "the anchor is gone: rows cut off the end could not be seen"))
    for lost in _rows_about_anchor(view, AuditEvent.ANCHOR_LOST):
        said = f"the anchor was gone when row {lost} was written: rows cut off before it could not be seen"
        problems.append(Problem(lost, said))
    problems.extend(Problem(head[0], f"the trigger {name} is missing") for name in _missing_triggers(view))
    return ChainVerdict(count, head, anchor.id if anchor else None, tuple(problems[:_MAX_PROBLEMS]))


def anchor_head(recorder: Recorder, file: Path) -> Anchor:
    """Remember the chain's head in `file`, after proving that it continues from the head remembered before.

    The chain itself says that it was anchored. Where it says so and the file is gone, the anchor is begun anew, so that
    the node works on, but a row about it remains that `verify` reports.
    Raises CatalogError (and leaves the file as it is) if the chain was cut or changed since.
    """
    before = read_anchor(file)
    with recorder.read() as view:
        anchored = bool(_rows_about_anchor(view, AuditEvent.ANCHORED))
    if anchored and before is None:
        _append(recorder, AuditEvent.ANCHOR_LOST)
    with recorder.read() as view:
        anchor = _moved_on(view, file, before)
    if not anchored:
        # Behind the file, not before it: killed in between, the chain must not speak of an anchor that never was.
        _append(recorder, AuditEvent.ANCHORED)
    return anchor


def check_since_anchor(view: View, file: Path) -> None:
    """Raise the CatalogError that `anchor_head` would: for whoever asks how the node does, and anchors nothing.

    view: one that has read nothing yet. A view older than the anchor would lack the anchor's row.
    """
    anchor = read_anchor(file)
    if anchor is not None:
        _proven_head(view, anchor)


def _moved_on(view: View, file: Path, before: Anchor | None) -> Anchor:
    head = _proven_head(view, before or Anchor(0, audit.GENESIS, ""))
    if before and head[0] == before.id:
        return before
    anchor = Anchor(*head, at=audit.utc_now().isoformat(timespec="microseconds") + "Z")
    _write_anchor(file, anchor)
    return anchor


def _proven_head(view: View, start: Anchor) -> tuple[int, str]:
    """The head of the chain that continues from `start`. Raises CatalogError(AUDIT_BROKEN)."""
    problems = _against_anchor(view, start, None)
    # From an anchor that is not the chain's own, every row would be read, only to be called wrong.
    walked, _, head = ([], 0, (0, "")) if problems else _walk(view, start)
    if problems or walked:
        raise CatalogError(AUDIT_BROKEN, problem=(problems or walked)[0].what)
    return head


def read_anchor(file: Path) -> Anchor | None:
    """The remembered head; None where there is no such file. Raises CatalogError if it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        return Anchor(int(content["id"]), str(content["hash"]), str(content["at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise CatalogError(AUDIT_BROKEN, problem=f"the anchor {file} cannot be read ({problem})") from problem


def _rows_about_anchor(view: View, event: AuditEvent) -> Sequence[int]:
    query = select(AuditRow.id).where(AuditRow.subject_kind == SubjectKind.NODE.value, AuditRow.subject == _SUBJECT)
    return view.session.scalars(query.where(AuditRow.event == event.value).order_by(AuditRow.id)).all()


def _append(recorder: Recorder, event: AuditEvent) -> None:
    with recorder.write() as tx:
        audit.append(tx, event, SubjectKind.NODE, _SUBJECT)


def _missing_triggers(view: View) -> list[str]:
    names, query = _TRIGGERS[view.session.get_bind().dialect.name]
    there = {str(name).lower() for name in view.session.scalars(text(query))}
    return [name for name in names if name not in there]


def _walk(view: View, start: Anchor) -> tuple[list[Problem], int, tuple[int, str]]:
    """Problems, number of rows and head of the chain behind `start`."""
    problems: list[Problem] = []
    count, expected_id, previous_hash = 0, start.id + 1, start.hash
    head = (start.id, start.hash)
    try:
        for row in audit.rows(view, after=start.id):
            problems.extend(_problems_of(row, expected_id, previous_hash))
            count, expected_id, previous_hash, head = count + 1, row.id + 1, row.hash, (row.id, row.hash)
    except ValueError as problem:
        # Facts that are no JSON any more: the driver cannot even hand the row over.
        problems.append(Problem(expected_id, f"a row at or behind {expected_id} cannot be read: {problem}"))
    return problems, count, head


def _problems_of(row: AuditEntry, expected_id: int, previous_hash: str) -> list[Problem]:
    problems = []
    if row.id != expected_id:
        problems.append(Problem(row.id, f"rows {expected_id} to {row.id - 1} are missing"))
    elif row.previous_hash != previous_hash:
        problems.append(Problem(row.id, f"row {row.id} does not continue from row {row.id - 1}"))
    if audit.link_hash(row) != row.hash:
        problems.append(Problem(row.id, f"row {row.id} was changed after it was written"))
    return problems


def _against_anchor(view: View, anchor: Anchor, last_id: int | None) -> list[Problem]:
    if anchor.id == 0:
        return []
    found = view.session.scalar(select(AuditRow.hash).where(AuditRow.id == anchor.id))
    if found == anchor.hash:
        return []
    if found is not None:
        return [Problem(anchor.id, f"row {anchor.id} is not the one that was anchored at {anchor.at}")]
    end = "" if last_id is None else f", the chain now ends at row {last_id}"
    return [Problem(anchor.id, f"row {anchor.id} was anchored at {anchor.at} and is gone{end}")]


def _write_anchor(file: Path, anchor: Anchor) -> None:
    """Durably: an anchor that a power failure takes back would miss rows that were already proven."""
    write_text(file, json.dumps({"id": anchor.id, "hash": anchor.hash, "at": anchor.at}) + "\n", mode=0o600)
