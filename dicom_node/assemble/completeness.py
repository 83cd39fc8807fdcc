"""When is a series complete? It is quiet, and nobody is still sending it (C3)."""

from __future__ import annotations

from datetime import datetime, timedelta

from dicom_node.catalog import audit
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.series import (
    find_receiving_series,
    receiving_series,
    series_received_after,
    set_received_at,
    settle_series,
)
from dicom_node.settings import AssembleSettings
from dicom_node.values.received import AssociationEnd, Completeness, ReceivingSeries


def settle_quiet_series(recorder: Recorder, settings: AssembleSettings, *, now: datetime | None = None) -> int:
    """Settle every series that is quiet or has been coming for too long; how many were settled."""
    moment = now or audit.utc_now()
    _pull_back_from_the_future(recorder, settings, moment)
    with recorder.read() as view:
        waiting = [series.id for series in receiving_series(view) if completeness_of(series, settings, moment)]
    settled = 0
    for series_id in waiting:
        with recorder.write() as tx:
            # It may have grown, or a new association may have begun to send it.
            series = find_receiving_series(tx, series_id)
            completeness = completeness_of(series, settings, moment) if series else None
            if completeness is not None:
                settle_series(tx, series_id, completeness)
                settled += 1
    return settled


def settle_every_series(recorder: Recorder) -> int:
    """Settle what was imported as a whole: nobody sends more of it. How many series it were."""
    with recorder.write() as tx:
        series = receiving_series(tx)
        for one in series:
            settle_series(tx, one.id, Completeness.ASSUMED)
    return len(series)


def completeness_of(series: ReceivingSeries, settings: AssembleSettings, now: datetime) -> Completeness | None:
    """ASSUMED or INCOMPLETE when the series may settle, None while it may still grow.

    VERIFIED needs the sender's own count, which no destination is asked for yet.
    """
    quiet = now - series.last_received_at >= timedelta(seconds=settings.quiet_seconds_of(series.calling_ae))
    # Asked first: a series that was whole when the node stopped is whole, however long the node was down.
    if quiet and not series.still_sent:
        broke = series.last_ended not in {None, AssociationEnd.RELEASED}
        return Completeness.INCOMPLETE if broke else Completeness.ASSUMED
    too_long = now - series.first_received_at >= timedelta(seconds=settings.max_receiving_seconds)
    return Completeness.INCOMPLETE if too_long else None


def _pull_back_from_the_future(recorder: Recorder, settings: AssembleSettings, now: datetime) -> None:
    """After the clock was set back, what came just before seems to lie ahead: it counts as come now.

    Without that such a series would wait until the clock is there again. Times that lie ahead by less than the quiet
    time are left: they only lengthen it a little.
    """
    ahead = now + timedelta(seconds=settings.quiet_seconds)
    with recorder.read() as view:
        ids = series_received_after(view, ahead)
    if not ids:
        return
    with recorder.write() as tx:
        for series_id in set(ids) & set(series_received_after(tx, ahead)):
            set_received_at(tx, series_id, now)
