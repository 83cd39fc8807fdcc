"""The open associations of this listener, and their rows: made with the first image, closed with the association."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from weakref import WeakSet

import structlog

from dicom_node.catalog.associations import close_association, open_association
from dicom_node.catalog.database import Recorder, Transaction
from dicom_node.dicom.storage_server import Connection
from dicom_node.reasons import CatalogUnavailableError
from dicom_node.values.received import AssociationEnd, AssociationSummary, PeerIdentity

_log = structlog.get_logger()


@dataclass
class Peer:
    """One accepted association. row_id: None until it brought something; checks by C-ECHO leave no row."""

    identity: PeerIdentity
    row_id: int | None = None
    discarded: int = 0
    refused: list[str] = field(default_factory=list)
    """Reason codes of instances that were refused."""
    ended: AssociationEnd | None = None
    """Set when the connection is over; nothing is stored for it after that."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while an instance is stored and while the row is closed: a connection may be lost while its first image is
    on its way, and the row which that image makes has to be closed too."""
    _made_id: int | None = None

    def committed(self) -> None:
        """The transaction that used `row_in` is durable. Before that, the row's id may go to somebody else's row."""
        self.row_id = self._made_id if self.row_id is None else self.row_id

    def row_in(self, tx: Transaction) -> int:
        """The id of the association's row, made if there is none yet."""
        if self.row_id is not None:
            return self.row_id
        self._made_id = open_association(tx, self.identity)
        return self._made_id

    def close_in(self, tx: Transaction, ended: AssociationEnd) -> None:
        """Close the row, if the association left anything to tell."""
        if self.row_id is None and not (self.discarded or self.refused or self.identity.refused_contexts):
            return
        codes = tuple(sorted(Counter(self.refused).items()))
        close_association(tx, self.row_in(tx), self.identity, AssociationSummary(ended, self.discarded, codes))


class OpenAssociations:
    """Which peer speaks on which connection. Handlers of several threads share it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._peers: dict[Connection, Peer] = {}
        self._gone: WeakSet[Connection] = WeakSet()
        """Connections that are over, as long as somebody holds them."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are open, or not closed in the catalogue yet."""
        with self._lock:
            return len(self._peers)

    def open(self, connection: Connection, peer: Peer) -> None:
        """Add an accepted association, unless its connection was lost while it was being accepted."""
        with self._lock:
            if connection not in self._gone:
                self._peers[connection] = peer

    def peer(self, connection: Connection) -> Peer:
        """Raises KeyError for a connection that was never opened or is closed."""
        with self._lock:
            return self._peers[connection]

    def close(self, connection: Connection, ended: AssociationEnd) -> None:
        """Close the association once, as it ended first; later calls for the same connection do nothing.

        Waits for an instance that is being stored. What the database does not take is left for `close_ended`.
        """
        with self._lock:
            self._gone.add(connection)
            peer = self._peers.get(connection)
        if peer is None:
            return
        with peer.turn:
            if peer.ended is None:
                peer.ended = ended
                self._close_row(connection, peer, peer.ended)

    def close_ended(self) -> None:
        """Try again to close what ended while the database could not be written: its series waits for that."""
        with self._lock:
            left = [(connection, peer) for connection, peer in self._peers.items() if peer.ended is not None]
        for connection, peer in left:
            with peer.turn:
                if peer.ended is not None:
                    self._close_row(connection, peer, peer.ended)

    def close_all(self) -> None:
        """At the end of the listener."""
        with self._lock:
            connections = list(self._peers)
        for connection in connections:
            self.close(connection, AssociationEnd.LOST)

    def _close_row(self, connection: Connection, peer: Peer, ended: AssociationEnd) -> None:
        """With the peer's turn held. The peer is forgotten only when its row is durably closed."""
        with self._lock:
            if connection not in self._peers:
                return
        try:
            with self._recorder.write() as tx:
                peer.close_in(tx, ended)
        except CatalogUnavailableError as problem:
            _log.warning("association not closed yet", problem=str(problem))
            return
        with self._lock:
            del self._peers[connection]
