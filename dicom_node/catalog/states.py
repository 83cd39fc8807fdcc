"""The states of a series, a case and a delivery, and the one table of what moves each of them (D2)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class SeriesState(StrEnum):
    """Where a series stands between its first slice and the decision about it."""

    RECEIVING = "RECEIVING"
    SETTLED = "SETTLED"
    ADMITTED = "ADMITTED"
    REFUSED = "REFUSED"


class SeriesEvent(StrEnum):
    """What happens to a series."""

    INSTANCE_STORED = "INSTANCE_STORED"
    QUIET = "QUIET"
    STACK_ADMITTED = "STACK_ADMITTED"
    NO_STACK_ADMITTED = "NO_STACK_ADMITTED"
    NOT_CHOSEN = "NOT_CHOSEN"
    CHOSEN = "CHOSEN"
    RETRIED = "RETRIED"


class CaseState(StrEnum):
    """Where a case (one admitted stack of a series) stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DELINEATED = "DELINEATED"
    PROVEN = "PROVEN"
    DELIVERING = "DELIVERING"
    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"
    PARKED = "PARKED"
    FAILED = "FAILED"
    HELD = "HELD"
    WITHDRAWN = "WITHDRAWN"
    """A better stack of its study came before it was worked on."""
    SUPERSEDED = "SUPERSEDED"


class CaseEvent(StrEnum):
    """What happens to a case."""

    CREATED = "CREATED"
    LEASED = "LEASED"
    WORKER_LOST = "WORKER_LOST"
    ATTEMPTS_EXHAUSTED = "ATTEMPTS_EXHAUSTED"
    FIELD_READY = "FIELD_READY"
    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    OBJECTS_PROVEN = "OBJECTS_PROVEN"
    RESULT_REJECTED = "RESULT_REJECTED"
    QUEUED_FOR_DELIVERY = "QUEUED_FOR_DELIVERY"
    NOTHING_TO_DELIVER = "NOTHING_TO_DELIVER"
    ALL_DELIVERED = "ALL_DELIVERED"
    DELIVERY_REFUSED = "DELIVERY_REFUSED"
    BROKEN = "BROKEN"
    RETRIED = "RETRIED"
    OVERTAKEN = "OVERTAKEN"
    """A newer revision of its series."""
    NOT_CHOSEN = "NOT_CHOSEN"
    CHOSEN = "CHOSEN"
    OUTRANKED = "OUTRANKED"
    """The result of a better stack of its study."""


class DeliveryState(StrEnum):
    """Where one object on its way to one destination stands."""

    WAITING = "WAITING"
    SENT = "SENT"
    RETRACTED = "RETRACTED"
    """Sent, replaced since, and named in a rejection note for the destination."""
    TO_DELETE = "TO_DELETE"
    """Sent, and replaced since: a person must delete it at the destination."""
    REFUSED = "REFUSED"
    NOT_ACCEPTED = "NOT_ACCEPTED"
    """The destination takes no objects of this SOP class, or none in this transfer syntax."""
    WITHDRAWN = "WITHDRAWN"


class DeliveryEvent(StrEnum):
    """What happens to a delivery; the second to the sixth are what a destination's answer means."""

    CREATED = "CREATED"
    DELIVERED = "DELIVERED"
    DELIVERED_WITH_WARNING = "DELIVERED_WITH_WARNING"
    TRY_AGAIN = "TRY_AGAIN"
    REFUSED = "REFUSED"
    NOT_ACCEPTED = "NOT_ACCEPTED"
    WITHDRAWN = "WITHDRAWN"
    REJECTION_NOTE_MADE = "REJECTION_NOTE_MADE"
    LEFT_BEHIND = "LEFT_BEHIND"


_S, _E = SeriesState, SeriesEvent
SERIES_TRANSITIONS: Mapping[tuple[SeriesState | None, SeriesEvent], SeriesState] = {
    (None, _E.INSTANCE_STORED): _S.RECEIVING,
    (_S.RECEIVING, _E.INSTANCE_STORED): _S.RECEIVING,
    (_S.RECEIVING, _E.QUIET): _S.SETTLED,
    (_S.SETTLED, _E.STACK_ADMITTED): _S.ADMITTED,
    (_S.SETTLED, _E.NO_STACK_ADMITTED): _S.REFUSED,
    # Another series of the study changed what the study's order says of this one.
    (_S.ADMITTED, _E.NOT_CHOSEN): _S.REFUSED,
    (_S.REFUSED, _E.CHOSEN): _S.ADMITTED,
    # A late slice reopens the series, whatever was decided about it.
    (_S.SETTLED, _E.INSTANCE_STORED): _S.RECEIVING,
    (_S.ADMITTED, _E.INSTANCE_STORED): _S.RECEIVING,
    (_S.REFUSED, _E.INSTANCE_STORED): _S.RECEIVING,
    # A person changed what it was refused by.
    (_S.REFUSED, _E.RETRIED): _S.RECEIVING,
}

_C, _V = CaseState, CaseEvent
CASE_TRANSITIONS: Mapping[tuple[CaseState | None, CaseEvent], CaseState] = {
    (None, _V.CREATED): _C.QUEUED,
    (_C.QUEUED, _V.LEASED): _C.RUNNING,
    (_C.RUNNING, _V.WORKER_LOST): _C.QUEUED,
    (_C.RUNNING, _V.ATTEMPTS_EXHAUSTED): _C.PARKED,
    (_C.RUNNING, _V.FIELD_READY): _C.DELINEATED,
    (_C.RUNNING, _V.NOT_ELIGIBLE): _C.REFUSED,
    (_C.RUNNING, _V.BROKEN): _C.FAILED,
    # The field itself is not kept: a worker lost after it was found starts the case again.
    (_C.DELINEATED, _V.WORKER_LOST): _C.QUEUED,
    (_C.DELINEATED, _V.ATTEMPTS_EXHAUSTED): _C.PARKED,
    (_C.DELINEATED, _V.OBJECTS_PROVEN): _C.PROVEN,
    (_C.DELINEATED, _V.RESULT_REJECTED): _C.HELD,
    (_C.DELINEATED, _V.BROKEN): _C.FAILED,
    (_C.PROVEN, _V.QUEUED_FOR_DELIVERY): _C.DELIVERING,
    (_C.PROVEN, _V.NOTHING_TO_DELIVER): _C.DELIVERED,
    (_C.DELIVERING, _V.ALL_DELIVERED): _C.DELIVERED,
    (_C.DELIVERING, _V.DELIVERY_REFUSED): _C.HELD,
    # Only where nothing was sent because nobody wanted it: what was proven then is still there.
    (_C.DELIVERED, _V.RETRIED): _C.PROVEN,
    (_C.PARKED, _V.RETRIED): _C.QUEUED,
    (_C.FAILED, _V.RETRIED): _C.QUEUED,
    (_C.HELD, _V.RETRIED): _C.QUEUED,
    (_C.REFUSED, _V.RETRIED): _C.QUEUED,
    # The study's order: a queued one is withdrawn and may come up again; a running one ends first.
    (_C.QUEUED, _V.NOT_CHOSEN): _C.WITHDRAWN,
    (_C.WITHDRAWN, _V.CHOSEN): _C.QUEUED,
    (_C.PROVEN, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.DELIVERING, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.DELIVERED, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.HELD, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.PARKED, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.FAILED, _V.OUTRANKED): _C.SUPERSEDED,
    **{(state, _V.OVERTAKEN): _C.SUPERSEDED for state in _C if state is not _C.SUPERSEDED},
}

RESULT_STATES = frozenset({_C.PROVEN, _C.DELIVERING, _C.DELIVERED, _C.HELD})
"""Where a case may be whose result is the current one."""
CHOICE_EVENTS = frozenset(
    {
        _V.WORKER_LOST,
        _V.ATTEMPTS_EXHAUSTED,
        _V.NOT_ELIGIBLE,
        _V.OBJECTS_PROVEN,
        _V.RESULT_REJECTED,
        _V.BROKEN,
        _V.RETRIED,
        _V.OVERTAKEN,
    }
)
"""After these the choice in the case's study is made anew."""

_D, _W = DeliveryState, DeliveryEvent
DELIVERY_TRANSITIONS: Mapping[tuple[DeliveryState | None, DeliveryEvent], DeliveryState] = {
    (None, _W.CREATED): _D.WAITING,
    (_D.WAITING, _W.DELIVERED): _D.SENT,
    (_D.WAITING, _W.DELIVERED_WITH_WARNING): _D.SENT,
    (_D.WAITING, _W.TRY_AGAIN): _D.WAITING,
    (_D.WAITING, _W.REFUSED): _D.REFUSED,
    (_D.WAITING, _W.NOT_ACCEPTED): _D.NOT_ACCEPTED,
    (_D.WAITING, _W.WITHDRAWN): _D.WITHDRAWN,
    # It was on its way when it was withdrawn.
    (_D.WITHDRAWN, _W.DELIVERED): _D.SENT,
    (_D.WITHDRAWN, _W.DELIVERED_WITH_WARNING): _D.SENT,
    (_D.SENT, _W.REJECTION_NOTE_MADE): _D.RETRACTED,
    (_D.SENT, _W.LEFT_BEHIND): _D.TO_DELETE,
    # The destination did not take the note.
    (_D.RETRACTED, _W.LEFT_BEHIND): _D.TO_DELETE,
}
