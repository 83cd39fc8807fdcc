"""Rows of deliveries: one for each object and destination; the case follows when nothing waits (C8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.replaced import record_note_not_taken
from dicom_node.catalog.states import DELIVERY_TRANSITIONS, CaseEvent, CaseState, DeliveryEvent, DeliveryState
from dicom_node.catalog.tables import Case, Delivery, ResultObject
from dicom_node.catalog.transitions import advance_case, advance_delivery
from dicom_node.reasons import DELIVERY_REFUSED, NOTHING_ACCEPTED, NOTHING_SENT
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.results import ObjectKind
from dissm_engine.json_value import JsonValue

_MAX_TEXT = 255
_NOT_TAKEN = (DeliveryEvent.REFUSED, DeliveryEvent.NOT_ACCEPTED)


@dataclass(frozen=True, slots=True)
class WantedObjects:
    """What one destination wants of every case."""

    destination: str
    kinds: frozenset[ObjectKind]


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """An object to be offered now. path: relative to the spool. digest: of the file when it was proven."""

    delivery_id: int
    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
    """A delivery that waits. wanted: its case still wants this object delivered."""

    delivery_id: int
    destination: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """How one attempt to deliver an object ended.

    event: what the answer means. status: the C-STORE status, None where none came. reached: an association stood.
    said: the answer in words, without patient data.
    """

    event: DeliveryEvent
    said: str
    status: int | None = None
    reached: bool = True


@dataclass(frozen=True, slots=True)
class DeliveryProgress:
    """A delivery before an attempt is recorded: how often it was tried, and how often it failed over an association."""

    attempts: int
    failures: int


def proven_cases(view: View) -> list[str]:
    """Ids of the cases whose result is current and whose objects have no deliveries yet."""
    return list(view.session.scalars(select(Case.id).where(Case.state == CaseState.PROVEN, Case.current)))


def queue_for_delivery(tx: Transaction, case_id: str, wanted: Sequence[WantedObjects]) -> None:
    """Give a PROVEN case its deliveries; rows, state and audit share the transaction. Others are left alone."""
    case = tx.session.get_one(Case, case_id)
    if case.state != CaseState.PROVEN or not case.current:
        return
    objects = tx.session.scalars(_objects_of(case)).all()
    now = audit.utc_now()
    pairs = [(item, want.destination) for want in wanted for item in objects if item.kind in want.kinds]
    for item, destination in pairs:
        delivery = Delivery(object_id=item.id, destination=destination, attempts=0, next_attempt_at=now)
        advance_delivery(tx, delivery, DeliveryEvent.CREATED)
        tx.session.add(delivery)
    if pairs:
        names = sorted({destination for _, destination in pairs})
        advance_case(tx, case, CaseEvent.QUEUED_FOR_DELIVERY, destinations=names, deliveries=len(pairs))
    else:
        # Its end all the same: a node without destinations keeps its results for whoever takes them from the spool.
        kinds = ", ".join(sorted({item.kind.value for item in objects})) or "results"
        reason = RecordedReason(NOTHING_SENT.code, {"kinds": kinds})
        advance_case(tx, case, CaseEvent.NOTHING_TO_DELIVER, reason=reason)


def waiting_deliveries(view: View) -> list[WaitingDelivery]:
    """Every delivery that waits, oldest first."""
    return [WaitingDelivery(row.id, row.destination, _case_waits_for(row)) for row in view.session.scalars(_waiting())]


def due_deliveries(view: View, destination: str, now: datetime, max_count: int) -> list[DueDelivery]:
    """What may be sent now, the first of it; nothing while a destination that could not be reached is left alone.

    Oldest first, but what failed behind what did not: one object that makes the destination break the association off
    must not stand before all others again and again.
    """
    waiting = view.session.scalars(_waiting().where(Delivery.destination == destination)).all()
    if any(not row.reached and row.next_attempt_at > now for row in waiting):
        return []
    in_turn: Iterable[Delivery] = sorted(waiting, key=lambda row: (row.failures, row.id))
    due = (row for row in in_turn if row.next_attempt_at <= now and _case_waits_for(row))
    return [DueDelivery(row.id, row.object.path, row.object.digest) for row in islice(due, max_count)]


def delivery_progress(view: View, delivery_id: int) -> DeliveryProgress | None:
    """How far a delivery that waits has come; None where it does not wait any more."""
    row = view.session.get_one(Delivery, delivery_id)
    return DeliveryProgress(row.attempts, row.failures) if row.state == DeliveryState.WAITING else None


def record_attempt(
    tx: Transaction, delivery_id: int, attempt: AttemptRecord, *, failures: int, try_again_in: timedelta
) -> None:
    """One attempt into the delivery's row and the audit; the case follows when nothing waits any more.

    failures: over an association that stood, this one included. try_again_in: only for TRY_AGAIN.
    """
    delivery = tx.session.get_one(Delivery, delivery_id)
    delivery.attempts += 1
    delivery.reached, delivery.failures = attempt.reached, failures
    delivery.last_status = attempt.status
    delivered = attempt.event is DeliveryEvent.DELIVERED
    delivery.last_error = None if delivered else attempt.said[:_MAX_TEXT]
    if attempt.event is DeliveryEvent.TRY_AGAIN:
        delivery.next_attempt_at = audit.utc_now() + try_again_in
    elif attempt.event not in _NOT_TAKEN:
        delivery.sent_at = audit.utc_now()
    advance_delivery(tx, delivery, attempt.event, said=attempt.said)
    tx.session.flush()
    if delivery.object.kind is ObjectKind.REJECTION_NOTE and attempt.event in _NOT_TAKEN:
        record_note_not_taken(tx, delivery.id)
    if delivery.state != DeliveryState.WAITING and delivery.object.case.state == CaseState.DELIVERING:
        _finish_case(tx, delivery.object.case)


def record_late_answer(tx: Transaction, delivery_id: int, attempt: AttemptRecord) -> None:
    """The destination took an object that was on its way when it was withdrawn: it is there."""
    delivery = tx.session.get_one(Delivery, delivery_id)
    if (delivery.state, attempt.event) in DELIVERY_TRANSITIONS:
        delivery.attempts += 1
        delivery.last_status, delivery.sent_at = attempt.status, audit.utc_now()
        advance_delivery(tx, delivery, attempt.event, said=attempt.said)


def withdraw_delivery(tx: Transaction, delivery_id: int) -> None:
    """The case moved on: the object is not sent any more."""
    delivery = tx.session.get_one(Delivery, delivery_id)
    if delivery.state == DeliveryState.WAITING:
        said = f"case is {delivery.object.case.state}"
        advance_delivery(tx, delivery, DeliveryEvent.WITHDRAWN, said=said)


def _waiting() -> Select[Delivery]:
    return select(Delivery).where(Delivery.state == DeliveryState.WAITING).order_by(Delivery.id)


def _objects_of(case: Case) -> Select[ResultObject]:
    return (
        select(ResultObject)
        .where(ResultObject.case_id == case.id, ResultObject.attempt == case.attempt)
        .order_by(ResultObject.id)
    )


def _case_waits_for(delivery: Delivery) -> bool:
    """Whether the case still wants this object delivered: not overtaken, and of its latest attempt.

    A rejection note is wanted for as long as what it names is superseded.
    """
    case = delivery.object.case
    if delivery.object.kind is ObjectKind.REJECTION_NOTE:
        return case.state == CaseState.SUPERSEDED
    return case.state == CaseState.DELIVERING and delivery.object.attempt == case.attempt


def _finish_case(tx: Transaction, case: Case) -> None:
    """DELIVERED or HELD, each only once nothing waits any more.

    HELD when something was refused, and when a destination accepted none of the kinds that it was to get: a person must
    hear of that. A kind that was not accepted beside others that were is told in the audit and by `show`.
    """
    rows = _deliveries_of(tx.session, case)
    if any(row.state == DeliveryState.WAITING for row in rows):
        return
    refused = next((row for row in rows if row.state == DeliveryState.REFUSED), None)
    held = refused or _first_without_any(rows)
    if held is not None:
        code = (DELIVERY_REFUSED if refused else NOTHING_ACCEPTED).code
        facts = {"destination": held.destination, "problem": held.last_error}
        advance_case(tx, case, CaseEvent.DELIVERY_REFUSED, reason=RecordedReason(code, facts))
        return
    not_accepted: list[JsonValue] = [row.last_error for row in rows if row.state == DeliveryState.NOT_ACCEPTED]
    sent = len(rows) - len(not_accepted)
    if not_accepted:
        advance_case(tx, case, CaseEvent.ALL_DELIVERED, deliveries=sent, not_accepted=not_accepted)
    else:
        advance_case(tx, case, CaseEvent.ALL_DELIVERED, deliveries=sent)


def _first_without_any(rows: Sequence[Delivery]) -> Delivery | None:
    """A delivery to a destination that accepted nothing of the case; None where each one has something of it."""
    served = {row.destination for row in rows if row.state != DeliveryState.NOT_ACCEPTED}
    return next((row for row in rows if row.destination not in served), None)


def _deliveries_of(session: Session, case: Case) -> Sequence[Delivery]:
    latest = (ResultObject.case_id == case.id, ResultObject.attempt == case.attempt)
    return session.scalars(select(Delivery).join(ResultObject).where(*latest)).all()
