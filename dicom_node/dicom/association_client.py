"""What every association that the node asks for itself needs, and pynetdicom leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def bounded_in_time(seconds: float) -> Callable[[Any], None]:
    """A handler of EVT_CONN_OPEN: no read or write of the connection takes longer.

    pynetdicom takes its time-out off a connection once it stands; a peer that stops reading would then hold the sender
    for ever, in `send` and in its own abort after that.
    """

    def bound(event: Any) -> None:
        event.assoc.dul.socket.socket.settimeout(seconds)

    return bound
