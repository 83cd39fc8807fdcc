"""What an administrator asks of cases and series; each is one transaction, whose audit rows name who asked.

Raises everywhere: NodeError(NOT_FOUND, NO_SUCH_SERIES) for what is not there, ForbiddenTransition where its state does
not allow it; nothing is changed then.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from dicom_node.catalog.database import Transaction
from dicom_node.catalog.deliveries import WantedObjects, offer_again
from dicom_node.catalog.leases import end_lease
from dicom_node.catalog.series import find_receiving_series
from dicom_node.catalog.states import CASE_TRANSITIONS, CaseEvent, CaseState, SeriesEvent, SeriesState
from dicom_node.catalog.tables import Case, Series
from dicom_node.catalog.transitions import ForbiddenTransition, advance_case, advance_series
from dicom_node.reasons import (
    NO_SUCH_SERIES,
    NOT_CANCELLABLE,
    NOT_FOUND,
    NOT_QUEUED,
    NOT_RECEIVING,
    NOT_RESENDABLE,
    NOTHING_TO_RESEND,
    NodeError,
)
from dicom_node.values.received import Completeness
from dicom_node.values.recorded_reason import RecordedReason
from dissm_engine.json_value import JsonValue


def cancel_case(tx: Transaction, case_id: str) -> None:
    """End a case that is queued or worked on. Its worker, if it has one, hears of it when it next asks for its case."""
    case = _case(tx, case_id)
    if (case.state, CaseEvent.CANCELLED) not in CASE_TRANSITIONS:
        raise ForbiddenTransition(NOT_CANCELLABLE, case=case_id, state=case.state)
    end_lease(case)
    advance_case(tx, case, CaseEvent.CANCELLED)


def put_first(tx: Transaction, case_id: str) -> None:
    """A queued case is taken before all that are queued now."""
    case = _case(tx, case_id)
    if case.state != CaseState.QUEUED:
        raise ForbiddenTransition(NOT_QUEUED, case=case_id, state=case.state)
    others = select(func.max(Case.priority)).where(Case.state == CaseState.QUEUED, Case.id != case_id)
    case.priority = max(case.priority, (tx.session.scalar(others) or 0) + 1)
    # Why it is queued again, where it is, stays as it was.
    reason = RecordedReason(case.reason_code, case.facts) if case.reason_code else None
    advance_case(tx, case, CaseEvent.PUT_FIRST, reason=reason, priority=case.priority)


def resend_case(tx: Transaction, case_id: str, wanted: Sequence[WantedObjects]) -> int:
    """Offer the proven objects of a case again, as they lie in the spool; nothing is delineated or written anew.

    Args:
        tx: The transaction.
        case_id: A case whose result is its study's answer: DELIVERED, DELIVERING, or HELD because a destination
            refused.
        wanted: The destinations to send to, and what each wants. A destination that the case was never meant for gets
            what it wants, too.

    Returns:
        How many deliveries wait now. What waited already is due at once.
    """
    case = _case(tx, case_id)
    if (case.state, CaseEvent.RESEND_ASKED) not in CASE_TRANSITIONS or not case.current:
        raise ForbiddenTransition(NOT_RESENDABLE, case=case_id, state=case.state)
    waiting = offer_again(tx, case, wanted)
    if not waiting:
        names = ", ".join(each.destination for each in wanted) or "no destination"
        raise NodeError(NOTHING_TO_RESEND, case=case_id, destinations=names)
    destinations: list[JsonValue] = [each.destination for each in wanted]
    advance_case(tx, case, CaseEvent.RESEND_ASKED, destinations=destinations, deliveries=waiting)
    return waiting


def process_now(tx: Transaction, uid: str) -> list[str]:
    """Do not wait any longer for a series, or for any series of a study. The UIDs of the series that waited.

    uid: of a series or study. What comes of it later reopens it, as any late image does.
    """
    series = _series_named(tx, uid)
    waiting = [one for one in series if one.state in {SeriesState.RECEIVING, SeriesState.SETTLED}]
    if not waiting:
        raise ForbiddenTransition(NOT_RECEIVING, name=uid, state=series[0].state)
    for one in waiting:
        one.process_now = True
        found = find_receiving_series(tx, one.id)
        if found is not None:
            one.completeness = Completeness.INCOMPLETE if found.still_sent else Completeness.ASSUMED
        said = one.completeness.value if one.completeness else None
        event = SeriesEvent.PROCESSED_NOW
        advance_series(tx, one, event, completeness=said, images=one.image_count, revision=one.revision)
    return [one.series_instance_uid for one in waiting]


def _case(tx: Transaction, case_id: str) -> Case:
    case = tx.session.get(Case, case_id)
    if case is None:
        raise NodeError(NOT_FOUND, kind="case", name=case_id)
    return case


def _series_named(tx: Transaction, uid: str) -> Sequence[Series]:
    named = (Series.series_instance_uid == uid) | (Series.study_instance_uid == uid)
    found = tx.session.scalars(select(Series).where(named).order_by(Series.id)).all()
    if not found:
        raise NodeError(NO_SUCH_SERIES, name=uid)
    return found
