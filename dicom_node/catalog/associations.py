"""Rows of the associations that brought something, and what the audit says of them (C2)."""

from __future__ import annotations

import os

from sqlalchemy import select

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Transaction
from dicom_node.catalog.tables import Association
from dicom_node.values.received import AssociationEnd, AssociationSummary, PeerIdentity
from dicom_node.values.recorded_reason import RecordedReason
from dissm_engine.json_value import JsonValue


def open_association(tx: Transaction, peer: PeerIdentity) -> int:
    """A new row for the association; its id."""
    row = Association(
        calling_ae=peer.calling_ae,
        called_ae=peer.called_ae,
        address=peer.address,
        opened_at=audit.utc_now(),
        stored=0,
        process_id=os.getpid(),
    )
    tx.session.add(row)
    tx.session.flush()
    _audit(tx, row, AuditEvent.ASSOCIATION_OPENED, peer, {"contexts_refused": list(peer.refused_contexts)})
    return row.id


def close_association(tx: Transaction, association_id: int, peer: PeerIdentity, summary: AssociationSummary) -> None:
    """Close the row, and write down what the association left."""
    row = tx.session.get_one(Association, association_id)
    row.closed_at, row.ended = audit.utc_now(), summary.ended
    facts: dict[str, JsonValue] = {
        "ended": summary.ended.value,
        "stored": row.stored,
        "discarded": summary.discarded,
        "refused": dict(summary.refused),
    }
    _audit(tx, row, AuditEvent.ASSOCIATION_CLOSED, peer, facts)


def close_left_open(tx: Transaction) -> int:
    """Close what a killed listener left open, so that its series can settle; how many associations it were."""
    rows = tx.session.scalars(select(Association).where(Association.closed_at.is_(None))).all()
    for row in rows:
        row.closed_at, row.ended = audit.utc_now(), AssociationEnd.LOST
        facts: dict[str, JsonValue] = {"ended": AssociationEnd.LOST.value, "stored": row.stored}
        audit.append(tx, AuditEvent.ASSOCIATION_CLOSED, SubjectKind.ASSOCIATION, str(row.id), facts=facts)
    return len(rows)


def record_refusal(tx: Transaction, reason: RecordedReason) -> None:
    """Somebody was not let in."""
    audit.append(
        tx,
        AuditEvent.ASSOCIATION_REFUSED,
        SubjectKind.ASSOCIATION,
        "refused",
        reason_code=reason.code,
        facts=reason.facts,
    )


def _audit(
    tx: Transaction, row: Association, event: AuditEvent, peer: PeerIdentity, facts: dict[str, JsonValue]
) -> None:
    named: dict[str, JsonValue] = {"calling_ae": peer.calling_ae, "address": peer.address, **facts}
    audit.append(tx, event, SubjectKind.ASSOCIATION, str(row.id), facts=named)
