"""Proves the audit chain untouched: every hash recomputed, no gap, no tail removed behind the anchored head (C10)."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.tables import AuditRow
from dicom_node.reasons import AUDIT_BROKEN, CatalogError

_MOST_PROBLEMS = 20


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


def verify(session: Session, anchor: Anchor | None) -> ChainVerdict:
    """Recompute the whole chain from its first row, and compare it with the anchored head where there is one."""
    problems, count, head = _walk(session, Anchor(0, audit.GENESIS, ""))
    if anchor is not None:
        problems.extend(_against_anchor(session, anchor, head[0]))
    return ChainVerdict(count, head, anchor.id if anchor else None, tuple(problems[:_MOST_PROBLEMS]))


def anchor_head(session: Session, file: Path) -> Anchor:
    """Remember the chain's head in `file`, after proving that it continues from the head remembered before.

    Raises CatalogError (and leaves the file as it is) if the chain was cut or changed since.
    """
    before = read_anchor(file)
    start = before or Anchor(0, audit.GENESIS, "")
    problems = _against_anchor(session, start, None) if before else []
    walked, _, head = _walk(session, start)
    if problems + walked:
        raise CatalogError(AUDIT_BROKEN, problem=(problems + walked)[0].what)
    if before and head[0] == before.id:
        return before
    anchor = Anchor(*head, at=audit.utc_now().isoformat(timespec="microseconds") + "Z")
    _write_anchor(file, anchor)
    return anchor


def read_anchor(file: Path) -> Anchor | None:
    """The remembered head; None where there is no such file. Raises CatalogError if it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        return Anchor(int(content["id"]), str(content["hash"]), str(content["at"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise CatalogError(AUDIT_BROKEN, problem=f"the anchor {file} cannot be read ({problem})") from problem


def _walk(session: Session, start: Anchor) -> tuple[list[Problem], int, tuple[int, str]]:
    """Problems, number of rows and head of the chain behind `start`."""
    problems: list[Problem] = []
    count, expected_id, previous_hash = 0, start.id + 1, start.hash
    head = (start.id, start.hash)
    try:
        for row in audit.rows(session, after=start.id):
            problems.extend(_problems_of(row, expected_id, previous_hash))
            count, expected_id, previous_hash, head = count + 1, row.id + 1, row.hash, (row.id, row.hash)
            session.expunge(row)
    except ValueError as problem:
        # Facts that are no JSON any more: the driver cannot even hand the row over.
        problems.append(Problem(expected_id, f"a row at or behind {expected_id} cannot be read: {problem}"))
    return problems, count, head


def _problems_of(row: AuditRow, expected_id: int, previous_hash: str) -> list[Problem]:
    problems = []
    if row.id != expected_id:
        problems.append(Problem(row.id, f"rows {expected_id} to {row.id - 1} are missing"))
    elif row.previous_hash != previous_hash:
        problems.append(Problem(row.id, f"row {row.id} does not continue from row {row.id - 1}"))
    if audit.link_hash(row) != row.hash:
        problems.append(Problem(row.id, f"row {row.id} was changed after it was written"))
    return problems


def _against_anchor(session: Session, anchor: Anchor, last_id: int | None) -> list[Problem]:
    if anchor.id == 0:
        return []
    found = session.scalar(select(AuditRow.hash).where(AuditRow.id == anchor.id))
    if found == anchor.hash:
        return []
    if found is not None:
        return [Problem(anchor.id, f"row {anchor.id} is not the one that was anchored at {anchor.at}")]
    end = "" if last_id is None else f", the chain now ends at row {last_id}"
    return [Problem(anchor.id, f"row {anchor.id} was anchored at {anchor.at} and is gone{end}")]


def _write_anchor(file: Path, anchor: Anchor) -> None:
    aside = file.with_suffix(".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(json.dumps({"id": anchor.id, "hash": anchor.hash, "at": anchor.at}) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(file)
