"""How long a study waits before one of its series is chosen (C4)."""

from __future__ import annotations

from datetime import datetime, timedelta

from dicom_node.catalog.decisions import StudyArrival
from dicom_node.settings import AssembleSettings


def study_may_be_decided(arrival: StudyArrival, settings: AssembleSettings | None, now: datetime) -> bool:
    """Whether nothing of the study is being received, and nothing came for its quiet time; or it waited long enough.

    The quiet time is the longest of those of its senders. What waits for `max_receiving_seconds` waits no longer: the
    answer may change afterwards, but there is one. Nor does a study wait of which a person wanted a series processed
    now. settings: None where nothing is waited for but series on their way.
    """
    if arrival.process_now:
        return True
    if settings is None:
        return not arrival.incoming
    if now - arrival.waits_since >= timedelta(seconds=settings.max_receiving_seconds):
        return True
    quiet = max(settings.study_quiet_seconds_of(title) for title in arrival.calling_aes)
    # A time that lies ahead (the clock was set back) counts as long ago.
    silent = abs(now - arrival.last_received_at)
    return not arrival.incoming and silent >= timedelta(seconds=quiet)
