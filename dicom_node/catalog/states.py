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
    PROCESSED_NOW = "PROCESSED_NOW"
    """A person did not want to wait until it is quiet."""
    SOURCE_INVALID = "SOURCE_INVALID"
    """Its images were rejected by their source, or came under another patient."""


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
    CANCELLED = "CANCELLED"
    """A person wants no result of it."""
    INVALID = "INVALID"
    """Its images were rejected by their source, or belong to another patient by now: nothing of it is sent."""
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
    CANCELLED = "CANCELLED"
    PUT_FIRST = "PUT_FIRST"
    """A person wants it worked on before all that are queued now."""
    RESEND_ASKED = "RESEND_ASKED"
    """A person wants the proven objects of a current result delivered again."""
    SOURCE_INVALID = "SOURCE_INVALID"


class DeliveryState(StrEnum):
    """Where one object on its way to one destination stands."""

    WAITING = "WAITING"
    SENT = "SENT"
    RETRACTED = "RETRACTED"
    """Sent, replaced since, and named in a rejection note for the destination."""
    TO_DELETE = "TO_DELETE"
    """Sent, and replaced since: a person must delete it at the destination."""
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"


class DeliveryEvent(StrEnum):
    """What happens to a delivery; what neither a person nor its case causes is what a destination's answer means."""

    CREATED = "CREATED"
    DELIVERED = "DELIVERED"
    DELIVERED_WITH_WARNING = "DELIVERED_WITH_WARNING"
    TRY_AGAIN = "TRY_AGAIN"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    REJECTION_NOTE_MADE = "REJECTION_NOTE_MADE"
    LEFT_BEHIND = "LEFT_BEHIND"
    RESEND_ASKED = "RESEND_ASKED"


_S, _E = SeriesState, SeriesEvent
SERIES_TRANSITIONS: Mapping[tuple[SeriesState | None, SeriesEvent], SeriesState] = {
    (None, _E.INSTANCE_STORED): _S.RECEIVING,
    (_S.RECEIVING, _E.INSTANCE_STORED): _S.RECEIVING,
    (_S.RECEIVING, _E.QUIET): _S.SETTLED,
    (_S.RECEIVING, _E.PROCESSED_NOW): _S.SETTLED,
    (_S.SETTLED, _E.PROCESSED_NOW): _S.SETTLED,
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
    (_S.ADMITTED, _E.SOURCE_INVALID): _S.REFUSED,
    # It was not chosen in its study; from now on it could not be.
    (_S.REFUSED, _E.SOURCE_INVALID): _S.REFUSED,
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
    # The study's order: a queued one is withdrawn and may come up again; a running one ends first. Superseded by a
    # better one is only what stands: what is refused, cancelled or invalid gives no answer, and stays what it is.
    (_C.QUEUED, _V.NOT_CHOSEN): _C.WITHDRAWN,
    (_C.WITHDRAWN, _V.CHOSEN): _C.QUEUED,
    (_C.PROVEN, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.DELIVERING, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.DELIVERED, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.HELD, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.PARKED, _V.OUTRANKED): _C.SUPERSEDED,
    (_C.FAILED, _V.OUTRANKED): _C.SUPERSEDED,
    # What a person asks for (`dissm-node cancel`, `priority`, `resend`). A cancelled one gives its turn in the study's
    # order to the next best, as a refused one does, until it is retried; a withdrawn one cannot be cancelled: whoever
    # wants no result of the study cancels each that comes up.
    (_C.QUEUED, _V.PUT_FIRST): _C.QUEUED,
    (_C.QUEUED, _V.CANCELLED): _C.CANCELLED,
    (_C.RUNNING, _V.CANCELLED): _C.CANCELLED,
    (_C.DELINEATED, _V.CANCELLED): _C.CANCELLED,
    (_C.CANCELLED, _V.RETRIED): _C.QUEUED,
    # The objects are there and proven: nothing is delineated again.
    (_C.DELIVERED, _V.RESEND_ASKED): _C.DELIVERING,
    (_C.HELD, _V.RESEND_ASKED): _C.DELIVERING,
    (_C.DELIVERING, _V.RESEND_ASKED): _C.DELIVERING,
    # The source of its images. Also a withdrawn one, which then never comes up again; what is superseded is answered
    # for already. INVALID is an end: the stack leaves the study's order, and should its images be good after all (the
    # series is retried), it gets a new case. No newer revision supersedes it: what was sent of it stays to be deleted.
    **{
        (state, _V.SOURCE_INVALID): _C.INVALID
        for state in _C
        if state not in {_C.INVALID, _C.SUPERSEDED, _C.CANCELLED, _C.REFUSED}
    },
    **{(state, _V.OVERTAKEN): _C.SUPERSEDED for state in _C if state not in {_C.SUPERSEDED, _C.INVALID}},
}

NO_CASE_STATES = frozenset({_C.SUPERSEDED, _C.INVALID})
"""A case in one of these is none any more for its stack: should the stack be processed, it gets a new one."""
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
        _V.CANCELLED,
        _V.SOURCE_INVALID,
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
    (_D.WAITING, _W.WITHDRAWN): _D.WITHDRAWN,
    # It was on its way when it was withdrawn.
    (_D.WITHDRAWN, _W.DELIVERED): _D.SENT,
    (_D.WITHDRAWN, _W.DELIVERED_WITH_WARNING): _D.SENT,
    (_D.SENT, _W.RESEND_ASKED): _D.WAITING,
    (_D.REFUSED, _W.RESEND_ASKED): _D.WAITING,
    (_D.WITHDRAWN, _W.RESEND_ASKED): _D.WAITING,
    # Its result was replaced. Refused or withdrawn may be a later sending of an object that is there all the same.
    **{(state, _W.REJECTION_NOTE_MADE): _D.RETRACTED for state in (_D.SENT, _D.REFUSED, _D.WITHDRAWN)},
    **{(state, _W.LEFT_BEHIND): _D.TO_DELETE for state in (_D.SENT, _D.REFUSED, _D.WITHDRAWN)},
}
