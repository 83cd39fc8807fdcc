"""The outbox: proven cases become deliveries, deliveries are sent, their case follows (C8).

Everything lives in the catalogue, so a restart goes on where it stopped. What was sent but not yet recorded when a
process died is sent again: the same inputs have the same UIDs.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseEvent, CaseState, DeliveryState
from dicom_node.catalog.tables import Case, Delivery, ResultObject
from dicom_node.catalog.transitions import advance_case
from dicom_node.deliver.backoff import backoff_after
from dicom_node.deliver.store_scu import OutgoingObject, send
from dicom_node.deliver.store_status import Answer, DeliveryOutcome
from dicom_node.reasons import DELIVERY_REFUSED, NOTHING_SENT
from dicom_node.settings import Destination, Settings

_MAX_TEXT = 255
_MAX_OBJECTS_AT_ONCE = 16
"""Objects of one association: they are read into memory, and the end of the process waits for them."""


def queue_proven(catalog: Catalog, settings: Settings, process: str) -> int:
    """Give every PROVEN case its deliveries; rows, state and audit share one transaction. Returns the cases moved."""
    with catalog.read() as session:
        waiting = session.scalars(select(Case.id).where(Case.state == CaseState.PROVEN)).all()
    for case_id in waiting:
        with catalog.write() as session:
            case = session.get_one(Case, case_id)
            if case.state == CaseState.PROVEN:
                _queue_case(session, case, settings.destinations, process)
    return len(waiting)


def _queue_case(session: Session, case: Case, destinations: Sequence[Destination], process: str) -> None:
    objects = session.scalars(_objects_of(case)).all()
    now = audit.utc_now()
    outgoing = [(each, to) for to in destinations for each in objects if each.kind in to.objects]
    for each, to in outgoing:
        session.add(
            Delivery(
                object_id=each.id, destination=to.name, state=DeliveryState.WAITING, attempts=0, next_attempt_at=now
            )
        )
    if outgoing:
        names = sorted({to.name for _, to in outgoing})
        advance_case(
            session, case, CaseEvent.QUEUED_FOR_DELIVERY, process=process, destinations=names, deliveries=len(outgoing)
        )
    else:
        # Its end all the same: a node without destinations keeps its results for whoever takes them from the spool.
        kinds = ", ".join(sorted({each.kind for each in objects})) or "results"
        advance_case(session, case, CaseEvent.NOTHING_TO_DELIVER, process=process, reason=NOTHING_SENT, kinds=kinds)


def _objects_of(case: Case) -> Select[ResultObject]:
    return (
        select(ResultObject)
        .where(ResultObject.case_id == case.id, ResultObject.attempt == case.attempt)
        .order_by(ResultObject.id)
    )


def withdraw_unwanted_deliveries(catalog: Catalog, settings: Settings, process: str) -> None:
    """Close deliveries that can never be made: their case moved on, or their destination left the settings."""
    names = {each.name for each in settings.destinations}
    with catalog.read() as session:
        orphans = [row.id for row in session.scalars(_waiting()) if _is_orphan(row, names)]
    for delivery_id in orphans:
        with catalog.write() as session:
            delivery = session.get_one(Delivery, delivery_id)
            if delivery.state != DeliveryState.WAITING:
                continue
            if _case_waits_for(delivery):
                answer = Answer(DeliveryOutcome.REFUSED, "not among the destinations of settings.toml any more")
                _record(session, delivery, answer, process)
            else:
                delivery.state = DeliveryState.WITHDRAWN
                _audit(session, delivery, "WITHDRAWN", process, said=f"case is {delivery.object.case.state}")


def _is_orphan(delivery: Delivery, names: set[str]) -> bool:
    return delivery.destination not in names or not _case_waits_for(delivery)


def _case_waits_for(delivery: Delivery) -> bool:
    """Whether the case still wants this object delivered: not overtaken, and of its latest attempt."""
    case = delivery.object.case
    return case.state == CaseState.DELIVERING and delivery.object.attempt == case.attempt


def deliver_to(
    catalog: Catalog, settings: Settings, destination: Destination, process: str
) -> Counter[DeliveryOutcome]:
    """Send what is due to one destination, over one association: at most so much, and up to where that is lost.

    process: the name this process has in the audit. Returns how many objects ended how.
    """
    outcomes: Counter[DeliveryOutcome] = Counter()
    with catalog.read() as session:
        due = _due(session, destination.name, audit.utc_now())
        files = {row.id: (settings.node.spool / row.object.path, row.object.digest) for row in due}
    outgoing, broken = _load(files)
    for delivery_id, answer in broken.items():
        outcomes[_commit(catalog, delivery_id, answer, process, destination)] += 1
    if outgoing:
        for item_to_send, answer in send(destination, outgoing):
            outcomes[_commit(catalog, item_to_send.delivery_id, answer, process, destination)] += 1
    return outcomes


def _waiting() -> Select[Delivery]:
    return select(Delivery).where(Delivery.state == DeliveryState.WAITING).order_by(Delivery.id)


def _due(session: Session, destination: str, now: datetime) -> list[Delivery]:
    """What may be sent now, the first of it. While a destination that could not be reached rests, that is nothing.

    Oldest first, but what failed behind what did not: one object that makes the destination break the association off
    must not stand before all others again and again.
    """
    waiting = session.scalars(_waiting().where(Delivery.destination == destination)).all()
    if any(not row.reached and row.next_attempt_at > now for row in waiting):
        return []
    due = (row for row in sorted(waiting, key=_turn) if row.next_attempt_at <= now and _case_waits_for(row))
    return list(islice(due, _MAX_OBJECTS_AT_ONCE))


def _turn(delivery: Delivery) -> tuple[int, int]:
    return delivery.failures, delivery.id


def _load(files: Mapping[int, tuple[Path, str]]) -> tuple[list[OutgoingObject], dict[int, Answer]]:
    """Objects exactly as they were proven; one that is gone or was changed since never leaves."""
    outgoing: list[OutgoingObject] = []
    broken: dict[int, Answer] = {}
    for delivery_id, (path, digest) in files.items():
        try:
            content = path.read_bytes()
        except OSError as problem:
            broken[delivery_id] = Answer(DeliveryOutcome.REFUSED, f"its file cannot be read: {problem.strerror}")
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            broken[delivery_id] = Answer(DeliveryOutcome.REFUSED, "its file was changed after it was proven")
            continue
        outgoing.append(OutgoingObject(delivery_id, content))
    return outgoing, broken


def _commit(
    catalog: Catalog, delivery_id: int, answer: Answer, process: str, destination: Destination
) -> DeliveryOutcome:
    """Record one answer in a transaction of its own. Returns what it was recorded as."""
    with catalog.write() as session:
        delivery = session.get_one(Delivery, delivery_id)
        if delivery.state == DeliveryState.WAITING:
            return _record(session, delivery, answer, process, destination)
    return answer.outcome


def _record(
    session: Session, delivery: Delivery, answer: Answer, process: str, destination: Destination | None = None
) -> DeliveryOutcome:
    """The answer into the delivery's row and the audit; the case follows when nothing waits any more."""
    delivery.attempts += 1
    delivery.reached = answer.reached
    if answer.outcome is DeliveryOutcome.TRY_AGAIN and destination is not None:
        answer = _counted(delivery, answer, destination)
    delivery.last_status = answer.status
    delivery.last_error = None if answer.outcome is DeliveryOutcome.DELIVERED else answer.said[:_MAX_TEXT]
    if answer.outcome is DeliveryOutcome.TRY_AGAIN and destination is not None:
        delivery.next_attempt_at = audit.utc_now() + backoff_after(delivery.attempts, destination, random.random())
    elif answer.outcome is DeliveryOutcome.REFUSED:
        delivery.state = DeliveryState.REFUSED
    else:
        delivery.state, delivery.sent_at = DeliveryState.SENT, audit.utc_now()
    _audit(session, delivery, answer.outcome, process, said=answer.said)
    session.flush()
    if delivery.state != DeliveryState.WAITING and _case_waits_for(delivery):
        _settle(session, delivery.object.case, process)
    return answer.outcome


def _counted(delivery: Delivery, answer: Answer, destination: Destination) -> Answer:
    """A failure over an association that stood is counted; after so many the object is refused for good."""
    if not answer.reached:
        return answer
    delivery.failures += 1
    if delivery.failures < destination.max_failures:
        return answer
    return replace(answer, outcome=DeliveryOutcome.REFUSED, said=f"{answer.said}, {delivery.failures} times")


def _settle(session: Session, case: Case, process: str) -> None:
    """DELIVERED when all was sent; HELD when something was refused; each only once nothing waits any more."""
    rows = session.scalars(
        select(Delivery).join(ResultObject).where(ResultObject.case_id == case.id, ResultObject.attempt == case.attempt)
    ).all()
    if any(row.state == DeliveryState.WAITING for row in rows):
        return
    refused = next((row for row in rows if row.state == DeliveryState.REFUSED), None)
    if refused is None:
        advance_case(session, case, CaseEvent.ALL_DELIVERED, process=process, deliveries=len(rows))
    else:
        advance_case(
            session,
            case,
            CaseEvent.DELIVERY_REFUSED,
            process=process,
            reason=DELIVERY_REFUSED,
            destination=refused.destination,
            problem=refused.last_error,
        )


def _audit(session: Session, delivery: Delivery, event: str, process: str, *, said: str) -> None:
    """The delivery's row in the audit; its subject is the case, so that a case's story is one query."""
    audit.append(
        session,
        process=process,
        subject_kind="delivery",
        subject=delivery.object.case_id,
        event=event,
        facts={
            "destination": delivery.destination,
            "object": delivery.object.kind,
            "sop_instance_uid": delivery.object.sop_instance_uid,
            "attempt": delivery.attempts,
            "status": delivery.last_status,
            "said": said,
        },
    )
