"""Who may hold a connection at all: judged as it is accepted, before it costs a thread and a slot (C2, C10)."""

from __future__ import annotations

import threading
from collections import Counter

import structlog

from dicom_node.receive.association_policy import AssociationPolicy

_MAX_ADDRESSES = 100
_log = structlog.get_logger()


class ConnectionFilter:
    """Lets connections in. max_silent: how many of one address may be waited for, so that others find a slot.

    Only the accepting thread asks; what it counts is written down by another, because nothing may hold it up.
    """

    def __init__(self, policy: AssociationPolicy, max_silent: int) -> None:
        self._policy, self._max_silent = policy, max_silent
        self._strangers: Counter[str] = Counter()
        self._lock = threading.Lock()

    def lets_in(self, address: str, silent: int) -> bool:
        """Whether the address is listed and has less than `max_silent` connections that asked for nothing yet."""
        if not self._policy.admits(address):
            with self._lock:
                if address in self._strangers or len(self._strangers) < _MAX_ADDRESSES:
                    self._strangers[address] += 1
            return False
        if silent >= self._max_silent:
            _log.warning("connection refused: too many of its address are silent", address=address, silent=silent)
            return False
        return True

    def strangers(self) -> Counter[str]:
        """How often unlisted addresses tried since the last call."""
        with self._lock:
            seen, self._strangers = self._strangers, Counter()
        return seen
