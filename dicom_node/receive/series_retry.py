"""A refused series is decided again, after a setting was changed that its refusal named."""

from __future__ import annotations

from sqlalchemy import select

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import SeriesEvent, SeriesState
from dicom_node.catalog.tables import Series
from dicom_node.catalog.transitions import ForbiddenTransition, advance_series
from dicom_node.reasons import NO_SUCH_SERIES, SERIES_NOT_RETRIABLE, NodeError


def retry_series(catalog: Catalog, series_instance_uid: str, *, process: str) -> None:
    """Begin the next revision of a refused series with the images it has; it is decided as if they had come now.

    Raises NodeError (NO_SUCH_SERIES), ForbiddenTransition where it was not refused.
    """
    with catalog.write() as session:
        series = session.scalar(select(Series).where(Series.series_instance_uid == series_instance_uid))
        if series is None:
            raise NodeError(NO_SUCH_SERIES, name=series_instance_uid)
        if series.state != SeriesState.REFUSED:
            raise ForbiddenTransition(SERIES_NOT_RETRIABLE, name=series_instance_uid, state=series.state)
        advance_series(session, series, SeriesEvent.RETRIED, process=process, revision=series.revision + 1)
        series.revision += 1
        series.first_received_at = series.last_received_at = audit.utc_now()
