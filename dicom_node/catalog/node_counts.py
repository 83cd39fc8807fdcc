"""The numbers that say how the node does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dicom_node.catalog.database import View
from dicom_node.catalog.states import CaseState, DeliveryState
from dicom_node.catalog.tables import Case, Delivery, ResultObject, Series


@dataclass(frozen=True, slots=True)
class StateCounts:
    """How many there are in each state, by its name; states without any are left out."""

    series: Mapping[str, int]
    cases: Mapping[str, int]
    deliveries: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StuckDelivery:
    """A delivery that waits for too long or was tried too often. since: when its object was made, UTC."""

    destination: str
    since: datetime
    last_error: str | None


def state_counts(view: View) -> StateCounts:
    """Series, cases and deliveries by state."""
    return StateCounts(
        _counts(view.session, Series.state), _counts(view.session, Case.state), _counts(view.session, Delivery.state)
    )


def cases_in(view: View, states: tuple[CaseState, ...]) -> tuple[str, ...]:
    """Ids of the cases in any of the states."""
    return tuple(view.session.scalars(select(Case.id).where(Case.state.in_(states)).order_by(Case.id)))


def stuck_deliveries(view: View, *, min_attempts: int, made_before: datetime) -> list[StuckDelivery]:
    """Waiting deliveries that were tried so often, or whose object is so old; the oldest first."""
    rows = view.session.execute(
        select(Delivery.destination, ResultObject.created_at, Delivery.last_error)
        .join(ResultObject)
        .where(
            Delivery.state == DeliveryState.WAITING,
            (Delivery.attempts >= min_attempts) | (ResultObject.created_at < made_before),
        )
        .order_by(ResultObject.created_at)
    )
    return [StuckDelivery(*row) for row in rows]


def _counts(session: Session, column: InstrumentedAttribute[StrEnum]) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).group_by(column).order_by(column))
    return {str(state): count for state, count in rows}
