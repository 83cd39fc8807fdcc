"""The audit chain: each row is hashed together with its predecessor (C10)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

from sqlalchemy import select

from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.states import CaseEvent, DeliveryEvent, SeriesEvent
from dicom_node.catalog.tables import AuditRow
from dicom_node.values.case_history import AuditEntry
from dicom_node.values.facts import Facts

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


class SubjectKind(StrEnum):
    """What an audit row is about; `subject` then names it."""

    NODE = "node"
    ASSOCIATION = "association"
    SERIES = "series"
    CASE = "case"
    DELIVERY = "delivery"


class AuditEvent(StrEnum):
    """What is written down apart from the moves of a series, a case or a delivery, which have events of their own."""

    NODE_STARTED = "NODE_STARTED"
    NODE_STOPPED = "NODE_STOPPED"
    SETTINGS_RELOADED = "SETTINGS_RELOADED"
    """Its facts name the changed keys, never their values."""
    RELOAD_REFUSED = "RELOAD_REFUSED"
    """The settings file cannot be used: the node works on with what it had."""
    PROCESS_ENDED = "PROCESS_ENDED"
    """A process ended unasked, as the supervisor saw it; its facts name the `child`."""
    PROCESS_FAILED = "PROCESS_FAILED"
    """An error ended a process, as it said itself."""
    IMPORTED = "IMPORTED"
    ANCHORED = "ANCHORED"
    """The chain's head was remembered outside the database for the first time."""
    ANCHOR_LOST = "ANCHOR_LOST"
    """It had been remembered, and the file was gone."""
    ASSOCIATION_OPENED = "OPENED"
    ASSOCIATION_CLOSED = "CLOSED"
    ASSOCIATION_REFUSED = "REFUSED"
    IMAGE_SET_ASIDE = "SET_ASIDE"
    """It came again in other bytes; its content is compared next."""
    IMAGE_IS_DUPLICATE = "DUPLICATE"
    """The comparison found the content that is in use already."""
    IMAGE_QUARANTINED = "QUARANTINED"
    OTHER_PATIENT = "OTHER_PATIENT"
    """An image of the series came under another PatientID than those before; whose, is not written down."""
    REJECTION_NOTE = "REJECTION_NOTE"
    """A source withdrew images."""
    IMAGE_REPLACED = "REPLACED"
    STACK_ADMITTED = "STACK_ADMITTED"
    STACK_REFUSED = "STACK_REFUSED"
    RESULT_CURRENT = "RESULT_CURRENT"
    """From now on the case's result is the answer for its study."""


Event: TypeAlias = AuditEvent | SeriesEvent | CaseEvent | DeliveryEvent


def utc_now() -> datetime:
    """The catalogue's clock: UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


def append(
    tx: Transaction,
    event: Event,
    subject_kind: SubjectKind,
    subject: str,
    *,
    from_state: str | None = None,
    to_state: str | None = None,
    reason_code: str | None = None,
    facts: Facts | None = None,
) -> None:
    """Add one row to the chain inside the caller's transaction, under the name of the transaction's process.

    The transaction holds the write lock, so that no two writers read the same head. Raises TypeError or ValueError
    when the facts are not plain, finite JSON.
    """
    head = tx.session.execute(select(AuditRow.id, AuditRow.hash).order_by(AuditRow.id.desc()).limit(1)).first()
    row = AuditRow(
        id=(head.id if head else 0) + 1,
        at=utc_now().isoformat(timespec="microseconds") + "Z",
        process=tx.process,
        subject_kind=subject_kind.value,
        subject=subject,
        event=event.value,
        from_state=from_state and str(from_state),
        to_state=to_state and str(to_state),
        reason_code=reason_code,
        # Hashed as they will be read back: keys as text, tuples as lists.
        facts=json.loads(_canonical(facts or {})),
        previous_hash=head.hash if head else GENESIS,
    )
    row.hash = link_hash(row)
    tx.session.add(row)
    tx.session.flush()


def link_hash(row: AuditRow | AuditEntry) -> str:
    """SHA-256 over the canonical JSON of a row and the previous hash."""
    return hashlib.sha256(_canonical({name: getattr(row, name) for name in COLUMNS}).encode("ascii")).hexdigest()


def rows(
    view: View, *, subject_kind: SubjectKind | None = None, subject: str | None = None, after: int = 0
) -> Iterator[AuditEntry]:
    """The chain in its order, all of it or what concerns one subject, beginning behind row `after`.

    It is read as it is walked. Raises ValueError where facts are no JSON any more.
    """
    query = select(AuditRow).where(AuditRow.id > after).order_by(AuditRow.id)
    if subject_kind is not None:
        query = query.where(AuditRow.subject_kind == subject_kind.value)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    for row in view.session.scalars(query.execution_options(yield_per=1000)):
        yield entry_of(row)
        view.session.expunge(row)


def last_rows(view: View, count: int) -> list[AuditEntry]:
    """The newest `count` rows, oldest of them first."""
    newest = view.session.scalars(select(AuditRow).order_by(AuditRow.id.desc()).limit(count))
    return [entry_of(row) for row in newest][::-1]


def entry_of(row: AuditRow) -> AuditEntry:
    """The row as a value."""
    return AuditEntry(**{name: getattr(row, name) for name in (*COLUMNS, "hash")})


def _canonical(content: Facts) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
