"""The only place that moves a series or a case; the audit row shares the transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.states import CASE_TRANSITIONS, SERIES_TRANSITIONS, CaseEvent, SeriesEvent
from dicom_node.catalog.tables import Case, Series
from dicom_node.reasons import FORBIDDEN_TRANSITION, NodeError
from dissm_engine.errors import Reason


class ForbiddenTransition(NodeError):  # noqa: N818
    """The table has no such edge."""


def advance_case(
    session: Session, case: Case, event: CaseEvent, /, *, process: str, reason: Reason | None = None, **facts: Any
) -> None:
    """Move the case along its table and write the audit row in the same transaction. Raises ForbiddenTransition."""
    before = case.state
    if (before, event) not in CASE_TRANSITIONS:
        raise ForbiddenTransition(FORBIDDEN_TRANSITION, what=f"case {case.id}", state=before, event=event)
    case.state = CASE_TRANSITIONS[before, event]
    case.reason_code = reason.code if reason else None
    case.facts = facts if reason else {}
    case.changed_at = audit.utc_now()
    audit.append(
        session,
        process=process,
        subject_kind="case",
        subject=case.id,
        event=event,
        from_state=before,
        to_state=case.state,
        reason_code=case.reason_code,
        facts=facts,
    )


def advance_series(
    session: Session, series: Series, event: SeriesEvent, /, *, process: str, reason: Reason | None = None, **facts: Any
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
    series.reason_code = reason.code if reason else None
    if series.state != before:
        audit.append(
            session,
            process=process,
            subject_kind="series",
            subject=series.series_instance_uid,
            event=event,
            from_state=before,
            to_state=series.state,
            reason_code=series.reason_code,
            facts=facts,
        )
