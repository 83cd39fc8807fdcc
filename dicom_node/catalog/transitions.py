"""The only place that moves a series, a case or a delivery; the audit row shares the transaction."""

from __future__ import annotations

from dicom_node.catalog import audit
from dicom_node.catalog.audit import SubjectKind
from dicom_node.catalog.database import Transaction
from dicom_node.catalog.states import (
    CASE_TRANSITIONS,
    CHOICE_EVENTS,
    DELIVERY_TRANSITIONS,
    RESULT_STATES,
    SERIES_TRANSITIONS,
    CaseEvent,
    DeliveryEvent,
    SeriesEvent,
)
from dicom_node.catalog.tables import Case, Delivery, Series, Study
from dicom_node.reasons import FORBIDDEN_TRANSITION, NodeError
from dicom_node.values.recorded_reason import RecordedReason
from dissm_engine.json_value import JsonValue


class ForbiddenTransition(NodeError):  # noqa: N818
    """The table has no such edge."""


def advance_case(
    tx: Transaction, case: Case, event: CaseEvent, /, *, reason: RecordedReason | None = None, **facts: JsonValue
) -> None:
    """Move the case along its table and write the audit row in the same transaction.

    A new case (one that the session does not hold yet) is moved from nowhere: CREATED is its only event.
    Raises ForbiddenTransition.
    """
    before = case.state
    if (before, event) not in CASE_TRANSITIONS:
        raise ForbiddenTransition(FORBIDDEN_TRANSITION, what=f"case {case.id}", state=before, event=event)
    case.state = CASE_TRANSITIONS[before, event]
    case.reason_code = reason.code if reason else None
    case.facts = dict(reason.facts) if reason else {}
    case.changed_at = audit.utc_now()
    case.current = bool(case.current) and case.state in RESULT_STATES
    if event in CHOICE_EVENTS:
        # In this transaction: a node that dies now asks again when it is back.
        tx.session.merge(Study(study_instance_uid=case.stack.series.study_instance_uid, choice_due=True))
    audit.append(
        tx,
        event,
        SubjectKind.CASE,
        case.id,
        from_state=before,
        to_state=case.state,
        reason_code=case.reason_code,
        facts={**(reason.facts if reason else {}), **facts},
    )


def advance_series(
    tx: Transaction, series: Series, event: SeriesEvent, /, *, reason_code: str | None = None, **facts: JsonValue
) -> None:
    """Move the series along its table. Raises ForbiddenTransition.

    An instance that joins a series that is still being received changes no state and writes no row of its own:
    the association's closing row counts it.
    """
    before = series.state
    if (before, event) not in SERIES_TRANSITIONS:
        raise ForbiddenTransition(
            FORBIDDEN_TRANSITION, what=f"series {series.series_instance_uid}", state=before, event=event
        )
    series.state = SERIES_TRANSITIONS[before, event]
    series.reason_code = reason_code
    if series.state != before or event is not SeriesEvent.INSTANCE_STORED:
        audit.append(
            tx,
            event,
            SubjectKind.SERIES,
            series.series_instance_uid,
            from_state=before,
            to_state=series.state,
            reason_code=reason_code,
            facts=facts,
        )


def advance_delivery(tx: Transaction, delivery: Delivery, event: DeliveryEvent, /, *, said: str = "") -> None:
    """Move a delivery along its table. Raises ForbiddenTransition.

    The audit row's subject is the case, so that a case's history is one query. A delivery's creation has no row of its
    own: that of its case, in the same transaction, counts and names them.
    """
    before = delivery.state
    if (before, event) not in DELIVERY_TRANSITIONS:
        raise ForbiddenTransition(FORBIDDEN_TRANSITION, what=f"delivery {delivery.id}", state=before, event=event)
    delivery.state = DELIVERY_TRANSITIONS[before, event]
    if event is DeliveryEvent.CREATED:
        return
    audit.append(
        tx,
        event,
        SubjectKind.DELIVERY,
        delivery.object.case_id,
        facts={
            "destination": delivery.destination,
            "object": delivery.object.kind.value,
            "sop_instance_uid": delivery.object.sop_instance_uid,
            "attempt": delivery.attempts,
            "status": delivery.last_status,
            "said": said,
        },
    )
