"""Results that were sent and replaced since: they are named in a rejection note, or a person must delete them (C8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.states import CaseState, DeliveryEvent, DeliveryState
from dicom_node.catalog.tables import Case, Delivery, ResultObject, Series, Stack
from dicom_node.catalog.transitions import advance_delivery
from dicom_node.values.results import ObjectKind, WrittenObject

_ENDED = (CaseState.DELIVERING, CaseState.DELIVERED, CaseState.HELD)
_NOT_THERE = (DeliveryState.WAITING, DeliveryState.REFUSED)


@dataclass(frozen=True)
class ReplacedResult:
    """What one destination has of a superseded case, now that it has the newer result too.

    delivery_ids: of its objects. paths: of their files, relative to the spool.
    """

    case_id: str
    attempt: int
    destination: str
    delivery_ids: tuple[int, ...]
    paths: tuple[str, ...]


def replaced_results(view: View) -> list[ReplacedResult]:
    """Of every superseded case, by destination, what was sent and of which nothing was said yet; oldest first."""
    rows = view.session.scalars(
        select(Delivery)
        .join(Delivery.object)
        .join(ResultObject.case)
        .where(Case.state == CaseState.SUPERSEDED, Delivery.state == DeliveryState.SENT)
        .where(ResultObject.kind != ObjectKind.REJECTION_NOTE)
        .order_by(Case.created_at, Case.id, Delivery.id)
    )
    by_place: dict[tuple[str, str], list[Delivery]] = {}
    for row in rows:
        by_place.setdefault((row.object.case_id, row.destination), []).append(row)
    return [
        ReplacedResult(
            case_id,
            sent[0].object.case.attempt,
            destination,
            tuple(one.id for one in sent),
            tuple(one.object.path for one in sent),
        )
        for (case_id, destination), sent in by_place.items()
        if _newer_is_there(view.session, sent[0].object.case, destination)
    ]


def record_rejection_note(
    tx: Transaction, result: ReplacedResult, note: WrittenObject, path: str, objects: int
) -> None:
    """The note lies in the spool and was proven: it waits for its destination, as any object does.

    path: relative to the spool. objects: how many it names.
    """
    now = audit.utc_now()
    item = ResultObject(
        case_id=result.case_id,
        attempt=result.attempt,
        kind=note.kind,
        sop_class_uid=note.sop_class_uid,
        sop_instance_uid=note.sop_instance_uid,
        series_instance_uid=note.series_instance_uid,
        path=path,
        digest=note.digest,
        proof={"rejected_objects": objects},
        created_at=now,
    )
    delivery = Delivery(object=item, destination=result.destination, attempts=0, next_attempt_at=now)
    advance_delivery(tx, delivery, DeliveryEvent.CREATED)
    tx.session.add_all([item, delivery])
    said = f"named in rejection note {note.sop_instance_uid}"
    _advance_sent(tx, result.delivery_ids, DeliveryEvent.REJECTION_NOTE_MADE, said)


def record_left_behind(tx: Transaction, result: ReplacedResult) -> None:
    """Nothing withdraws it: the audit names the series that a person must delete at the destination."""
    for delivery in _deliveries(tx.session, result.delivery_ids):
        _leave_behind(tx, delivery)


def record_note_not_taken(tx: Transaction, delivery_id: int) -> None:
    """The destination refused or does not accept a rejection note: a person must delete what the note named."""
    note = tx.session.get_one(Delivery, delivery_id)
    named = tx.session.scalars(
        select(Delivery)
        .join(Delivery.object)
        .where(ResultObject.case_id == note.object.case_id, Delivery.destination == note.destination)
        .where(Delivery.state == DeliveryState.RETRACTED)
        .order_by(Delivery.id)
    )
    for delivery in named.all():
        _leave_behind(tx, delivery)


def _leave_behind(tx: Transaction, delivery: Delivery) -> None:
    uid = delivery.object.series_instance_uid
    what = f"series {uid}" if uid else f"the series of object {delivery.object.sop_instance_uid}"
    advance_delivery(tx, delivery, DeliveryEvent.LEFT_BEHIND, said=f"a person must delete {what}")


def _newer_is_there(session: Session, case: Case, destination: str) -> bool:
    """Whether the result that is current now is at the destination, as far as that is to get it.

    Until then the older one is all that a viewer finds there.
    """
    series = case.stack.series
    current = session.scalars(
        select(Case)
        .join(Case.stack)
        .join(Stack.series)
        .where(Series.study_instance_uid == series.study_instance_uid, Case.current, Case.state.in_(_ENDED))
        .order_by(Series.id != series.id, Case.created_at.desc())
    ).first()
    if current is None:
        return False
    states = session.scalars(
        select(Delivery.state)
        .join(Delivery.object)
        .where(ResultObject.case_id == current.id, ResultObject.attempt == current.attempt)
        .where(Delivery.destination == destination)
    ).all()
    if states and all(state == DeliveryState.NOT_ACCEPTED for state in states):
        return False
    return not any(state in _NOT_THERE for state in states) and (bool(states) or current.state != CaseState.DELIVERING)


def _deliveries(session: Session, ids: Sequence[int]) -> Sequence[Delivery]:
    return session.scalars(select(Delivery).where(Delivery.id.in_(ids)).order_by(Delivery.id)).all()


def _advance_sent(tx: Transaction, ids: Sequence[int], event: DeliveryEvent, said: str) -> None:
    for delivery in _deliveries(tx.session, ids):
        advance_delivery(tx, delivery, event, said=said)
