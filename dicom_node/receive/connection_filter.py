"""Who may hold a connection at all: judged as it is accepted, before it costs a thread and a slot (C2, C10)."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import Any

import structlog
from pynetdicom import AE
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.receive.association_policy import AssociationPolicy

_MAX_ADDRESSES = 100
_log = structlog.get_logger()


class ConnectionFilter:
    """Lets connections in. most_silent: how many of one address may be waited for, so that others find a slot.

    Only the accepting thread asks; what it counts is written down by another, because nothing may hold it up.
    """

    def __init__(self, gate: AssociationPolicy, most_silent: int) -> None:
        self._gate, self._most_silent = gate, most_silent
        self._strangers: Counter[str] = Counter()
        self._lock = threading.Lock()

    def lets_in(self, address: str, silent: int) -> bool:
        """Whether the address is listed and has less than `most_silent` connections that asked for nothing yet."""
        if not self._gate.admits(address):
            with self._lock:
                if address in self._strangers or len(self._strangers) < _MAX_ADDRESSES:
                    self._strangers[address] += 1
            return False
        if silent >= self._most_silent:
            _log.warning("connection refused: too many of its address are silent", address=address, silent=silent)
            return False
        return True

    def strangers(self) -> Counter[str]:
        """How often unlisted addresses tried since the last call."""
        with self._lock:
            seen, self._strangers = self._strangers, Counter()
        return seen


class FilteredApplicationEntity(AE):
    """An application entity whose server has a door."""

    def __init__(self, ae_title: str, door: ConnectionFilter) -> None:
        super().__init__(ae_title)
        self._door = door

    def make_server(self, *arguments: Any, **named: Any) -> Any:
        """As AE does, with the door in the server."""
        return super().make_server(*arguments, **{**named, "server_class": partial(_FilteredServer, self._door)})


class _FilteredServer(ThreadedAssociationServer):
    def __init__(self, door: ConnectionFilter, *arguments: Any, **named: Any) -> None:
        self._door = door
        super().__init__(*arguments, **named)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        address = str(client_address[0])
        waited_for = [each.requestor for each in self.active_associations if each.requestor.primitive is None]
        return self._door.lets_in(address, sum(each.address == address for each in waited_for))
