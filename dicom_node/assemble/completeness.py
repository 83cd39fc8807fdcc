"""When is a series complete? It is quiet, and nobody is still sending it (C3)."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import SeriesEvent, SeriesState
from dicom_node.catalog.tables import Association, Instance, Series
from dicom_node.catalog.transitions import advance_series
from dicom_node.settings import AssembleSettings

ASSUMED = "assumed"
INCOMPLETE = "incomplete"


def settle_quiet_series(
    catalog: Catalog, settings: AssembleSettings, *, process: str, now: datetime | None = None
) -> int:
    """Settle every series that is quiet or has been coming for too long; how many were settled."""
    moment = now or audit.utc_now()
    _pull_back_from_the_future(catalog, settings, moment)
    with catalog.read() as session:
        waiting = [series.id for series in _receiving(session) if _verdict(session, series, settings, moment)]
    settled = 0
    for series_id in waiting:
        with catalog.write() as session:
            # Judged again under the write lock: an image may have come meanwhile.
            series = session.get_one(Series, series_id)
            verdict = _verdict(session, series, settings, moment)
            if series.state != SeriesState.RECEIVING or verdict is None:
                continue
            series.completeness = verdict
            images = len([one for one in series.instances if not one.quarantined])
            advance_series(
                session,
                series,
                SeriesEvent.QUIET,
                process=process,
                completeness=verdict,
                images=images,
                revision=series.revision,
            )
            settled += 1
    return settled


def _pull_back_from_the_future(catalog: Catalog, settings: AssembleSettings, now: datetime) -> None:
    """After the clock was set back, what came just before seems to lie ahead: it counts as come now.

    Without that such a series would wait until the clock is there again. Times that lie ahead by less than the quiet
    time are left: they only lengthen it a little.
    """
    ahead = now + timedelta(seconds=settings.quiet_seconds)
    future = select(Series.id).where(Series.state == SeriesState.RECEIVING, Series.last_received_at > ahead)
    with catalog.read() as session:
        ids = session.scalars(future).all()
    for series_id in ids:
        with catalog.write() as session:
            series = session.get_one(Series, series_id)
            if series.last_received_at > ahead:
                series.last_received_at = now
                series.first_received_at = min(series.first_received_at, now)


def _receiving(session: Session) -> list[Series]:
    return list(session.scalars(select(Series).where(Series.state == SeriesState.RECEIVING).order_by(Series.id)))


def _verdict(session: Session, series: Series, settings: AssembleSettings, now: datetime) -> str | None:
    """assumed or incomplete when the series may settle, None while it may still grow.

    `verified` needs the sender's own count, which no destination is asked for yet.
    """
    quiet = now - series.last_received_at >= timedelta(seconds=settings.quiet_seconds)
    # Asked first: a series that was whole when the node stopped is whole, however long the node was down.
    if quiet and not _still_sent(session, series):
        return INCOMPLETE if _last_association_broke(session, series) else ASSUMED
    too_long = now - series.first_received_at >= timedelta(seconds=settings.max_receiving_seconds)
    return INCOMPLETE if too_long else None


def _still_sent(session: Session, series: Series) -> bool:
    """Whether an open association brought its latest image to this very series."""
    bringing = select(Instance.association_id).where(Instance.series_id == series.id)
    for association in session.scalars(
        select(Association).where(Association.id.in_(bringing), Association.closed_at.is_(None))
    ):
        latest = select(Instance.series_id).where(Instance.association_id == association.id)
        if session.scalar(latest.order_by(Instance.id.desc()).limit(1)) == series.id:
            return True
    return False


def _last_association_broke(session: Session, series: Series) -> bool:
    ended = session.scalar(
        select(Association.ended)
        .join(Instance, Instance.association_id == Association.id)
        .where(Instance.series_id == series.id)
        .order_by(Instance.id.desc())
        .limit(1)
    )
    return ended not in {None, "released"}
