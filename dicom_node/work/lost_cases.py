"""Whose worker is gone? Its case is queued again, or parked after too many attempts."""

from __future__ import annotations

from dicom_node.catalog import audit
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.leases import requeue_cases
from dicom_node.values.lease import HeldCase
from dicom_node.work.process_identity import process_identity_from


def requeue_lost_cases(recorder: Recorder, max_attempts: int) -> int:
    """Queue again, or park after `max_attempts`, the cases whose worker is gone or silent; how many it were."""
    return requeue_cases(recorder, max_attempts, is_lost)


def is_lost(case: HeldCase) -> bool:
    """Of a process of this place, whether it is gone; of all others, whether their lease ran out.

    The clock is not asked where there is something better: set forward, it would take the case of a living worker. One
    that lives and hangs gives its case back by itself (`LeaseRenewer`).
    """
    if case.owner is None or case.until is None:
        return True
    owner = process_identity_from(case.owner)
    return owner.is_gone if owner.is_here else case.until < audit.utc_now()
