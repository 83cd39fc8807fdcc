"""The outbox: proven cases become deliveries, deliveries are sent, their case follows (C8).

Everything lives in the catalogue, so a restart goes on where it stopped. What was sent but not yet recorded when a
process died is sent again: the same inputs have the same UIDs.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from dicom_node.catalog import audit
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.deliveries import (
    AttemptRecord,
    DueDelivery,
    WantedObjects,
    delivery_progress,
    due_deliveries,
    proven_cases,
    queue_for_delivery,
    record_attempt,
    record_late_answer,
    waiting_deliveries,
    withdraw_delivery,
)
from dicom_node.catalog.states import DeliveryEvent
from dicom_node.deliver.backoff import backoff_after
from dicom_node.deliver.outgoing import OutgoingObject
from dicom_node.deliver.store_scu import send
from dicom_node.deliver.stow_client import send_by_web
from dicom_node.settings import AnyDestination, WebDestination
from dicom_node.values.results import ObjectKind

_MAX_OBJECTS_AT_ONCE = 16
"""Objects of one association: they are read into memory, and the end of the process waits for them."""


def queue_proven(recorder: Recorder, destinations: Sequence[AnyDestination]) -> int:
    """Give every PROVEN case its deliveries. Returns how many cases it were."""
    wanted = [WantedObjects(each.name, frozenset(map(ObjectKind, each.objects))) for each in destinations]
    with recorder.read() as view:
        waiting = proven_cases(view)
    for case_id in waiting:
        with recorder.write() as tx:
            queue_for_delivery(tx, case_id, wanted)
    return len(waiting)


def withdraw_unwanted_deliveries(recorder: Recorder, destinations: Sequence[AnyDestination]) -> None:
    """Close deliveries that can never be made: their case moved on, or their destination left the settings."""
    names = {each.name for each in destinations}
    with recorder.read() as view:
        waiting = waiting_deliveries(view)
    for one in waiting:
        if not one.wanted:
            with recorder.write() as tx:
                withdraw_delivery(tx, one.delivery_id)
        elif one.destination not in names:
            said = "not among the destinations of settings.toml any more"
            _record(recorder, one.delivery_id, AttemptRecord(DeliveryEvent.REFUSED, said), None)


def deliver_to(recorder: Recorder, destination: AnyDestination, spool: Path) -> Counter[DeliveryEvent]:
    """Send what is due to one destination, over one association: at most so much, and up to where that is lost.

    Returns how many objects ended how.
    """
    ends: Counter[DeliveryEvent] = Counter()
    with recorder.read() as view:
        due = due_deliveries(view, destination.name, audit.utc_now(), _MAX_OBJECTS_AT_ONCE)
    outgoing: list[OutgoingObject] = []
    for one in due:
        loaded = _load(one, spool)
        if isinstance(loaded, OutgoingObject):
            outgoing.append(loaded)
        else:
            ends[_record(recorder, one.delivery_id, loaded, destination)] += 1
    if outgoing:
        for item, attempt in _offer(destination, outgoing):
            ends[_record(recorder, item.delivery_id, attempt, destination)] += 1
    return ends


def _offer(
    destination: AnyDestination, outgoing: Sequence[OutgoingObject]
) -> Iterator[tuple[OutgoingObject, AttemptRecord]]:
    if isinstance(destination, WebDestination):
        return send_by_web(destination, outgoing)
    return send(destination, outgoing)


def _load(due: DueDelivery, spool: Path) -> OutgoingObject | AttemptRecord:
    """The object exactly as it was proven; one that is gone or was changed since never leaves."""
    try:
        content = (spool / due.path).read_bytes()
    except OSError as problem:
        return AttemptRecord(DeliveryEvent.REFUSED, f"its file cannot be read: {problem.strerror}")
    if hashlib.sha256(content).hexdigest() != due.digest:
        return AttemptRecord(DeliveryEvent.REFUSED, "its file was changed after it was proven")
    return OutgoingObject(due.delivery_id, content)


def _record(
    recorder: Recorder, delivery_id: int, attempt: AttemptRecord, destination: AnyDestination | None
) -> DeliveryEvent:
    """Record one answer in a transaction of its own. Returns what it was recorded as.

    destination: None where the settings do not name it any more.
    """
    with recorder.write() as tx:
        progress = delivery_progress(tx, delivery_id)
        if progress is None:
            record_late_answer(tx, delivery_id, attempt)
            return attempt.event
        failures, try_again_in = progress.failures, timedelta()
        if attempt.event is DeliveryEvent.TRY_AGAIN and destination is not None:
            # Only a failure over an association that stood is counted; after so many the object is refused for good.
            failures += attempt.reached
            if attempt.reached and failures >= destination.max_failures:
                said = f"{attempt.said}, {failures} times"
                attempt = replace(attempt, event=DeliveryEvent.REFUSED, said=said)
            try_again_in = backoff_after(progress.attempts + 1, destination, random.random())
        record_attempt(tx, delivery_id, attempt, failures=failures, try_again_in=try_again_in)
    return attempt.event
