"""The audit chain: each row is hashed together with its predecessor (C10)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog.tables import AuditRow

GENESIS = "0" * 64
COLUMNS = (
    "id",
    "at",
    "process",
    "subject_kind",
    "subject",
    "event",
    "from_state",
    "to_state",
    "reason_code",
    "facts",
    "previous_hash",
)
"""What a row's hash is taken over."""


def utc_now() -> datetime:
    """The catalogue's clock: UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def append(
    session: Session,
    *,
    process: str,
    subject_kind: str,
    subject: str,
    event: str,
    from_state: str | None = None,
    to_state: str | None = None,
    reason_code: str | None = None,
    facts: dict[str, Any] | None = None,
) -> AuditRow:
    """Add one row to the chain inside the caller's transaction.

    The caller's transaction must be one of `Catalog.write`, which holds the write lock, so that no two writers read
    the same head. Raises TypeError or ValueError when the facts are not plain, finite JSON.
    """
    head = session.execute(select(AuditRow.id, AuditRow.hash).order_by(AuditRow.id.desc()).limit(1)).first()
    row = AuditRow(
        id=(head.id if head else 0) + 1,
        at=utc_now().isoformat(timespec="microseconds") + "Z",
        process=process,
        subject_kind=subject_kind,
        subject=subject,
        event=str(event),
        from_state=from_state and str(from_state),
        to_state=to_state and str(to_state),
        reason_code=reason_code,
        # Hashed as they will be read back: keys as text, tuples as lists.
        facts=json.loads(_canonical(facts or {})),
        previous_hash=head.hash if head else GENESIS,
    )
    row.hash = link_hash(row)
    session.add(row)
    session.flush()
    return row


def link_hash(row: AuditRow) -> str:
    """SHA-256 over the canonical JSON of a row and the previous hash."""
    return hashlib.sha256(_canonical({name: getattr(row, name) for name in COLUMNS}).encode("ascii")).hexdigest()


def rows(
    session: Session, *, subject_kind: str | None = None, subject: str | None = None, after: int = 0
) -> Iterator[AuditRow]:
    """The chain in its order, all of it or what concerns one subject, beginning behind row `after`."""
    query = select(AuditRow).where(AuditRow.id > after).order_by(AuditRow.id)
    if subject_kind is not None:
        query = query.where(AuditRow.subject_kind == subject_kind)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    yield from session.scalars(query.execution_options(yield_per=1000))


def last_rows(session: Session, count: int) -> list[AuditRow]:
    """The newest `count` rows, oldest of them first."""
    return list(session.scalars(select(AuditRow).order_by(AuditRow.id.desc()).limit(count)))[::-1]


def row_as_json(row: AuditRow) -> dict[str, Any]:
    """A row with its hash, as `dissm-node audit export` writes it: enough to recompute the chain elsewhere."""
    return {name: getattr(row, name) for name in (*COLUMNS, "hash")}


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
