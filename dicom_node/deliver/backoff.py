"""How long a destination is left alone after a failure: doubling, capped, with jitter (C8)."""

from __future__ import annotations

from datetime import timedelta

from dicom_node.settings import AnyDestination

_JITTER = 0.25
"""A wait is shortened by up to this share, so that many nodes do not come back in step."""


def backoff_after(attempts: int, destination: AnyDestination, chance: float) -> timedelta:
    """Return how long to wait after the `attempts`-th failure in a row.

    chance: 0...1, drawn by the caller; 0 gives the whole wait, 1 the shortest.
    """
    # The exponent is bounded before the power is taken: attempts may run for years.
    doubled = destination.first_retry_seconds * 2.0 ** min(attempts - 1, 40)
    return timedelta(seconds=min(doubled, destination.max_retry_seconds) * (1 - _JITTER * chance))
