"""The open associations of this listener, and their rows: made with the first image, closed with the association."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.tables import Association
from dicom_node.dicom.storage_server import Connection, ConnectionEnd

_log = structlog.get_logger()


@dataclass
class Peer:
    """One accepted association. row_id: None until it brought something; checks by C-ECHO leave no row."""

    calling_ae: str
    called_ae: str
    address: str
    refused_contexts: tuple[str, ...]
    row_id: int | None = None
    discarded: int = 0
    refused: list[str] = field(default_factory=list)
    """Reason codes of instances that were refused."""
    ended: ConnectionEnd | None = None
    """Set when the connection is over; nothing is stored for it after that."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while an instance is stored and while the row is closed: a connection may be lost while its first image is
    on its way, and the row which that image makes has to be closed too."""
    _made_id: int | None = None

    def committed(self) -> None:
        """The transaction that used `row_in` is durable. Before that, the row's id may go to somebody else's row."""
        self.row_id = self._made_id if self.row_id is None else self.row_id

    def row_in(self, session: Session) -> Association:
        """The association's row, made if there is none yet."""
        row = session.get(Association, self.row_id) if self.row_id is not None else None
        if row is None:
            row = Association(
                calling_ae=self.calling_ae,
                called_ae=self.called_ae,
                address=self.address,
                opened_at=audit.utc_now(),
                stored=0,
                process_id=os.getpid(),
            )
            session.add(row)
            session.flush()
            self._made_id = row.id
            self._audit(session, row, "OPENED", {"contexts_refused": list(self.refused_contexts)})
        return row

    def close_in(self, session: Session, ended: ConnectionEnd) -> None:
        """Close the row, if the association left anything to tell."""
        if self.row_id is None and not (self.discarded or self.refused or self.refused_contexts):
            return
        row = self.row_in(session)
        row.closed_at, row.ended = audit.utc_now(), ended
        codes = {code: self.refused.count(code) for code in sorted(set(self.refused))}
        told = {"ended": ended, "stored": row.stored, "discarded": self.discarded, "refused": codes}
        self._audit(session, row, "CLOSED", told)

    def _audit(self, session: Session, row: Association, event: str, facts: dict[str, Any]) -> None:
        facts = {"calling_ae": self.calling_ae, "address": self.address, **facts}
        audit.append(
            session, process="listener", subject_kind="association", subject=str(row.id), event=event, facts=facts
        )


class OpenAssociations:
    """Which peer speaks on which connection. Handlers of several threads share it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._peers: dict[Connection, Peer] = {}
        self._gone: WeakSet[Connection] = WeakSet()
        """Connections that are over, as long as somebody holds them."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are open, or not closed in the catalogue yet."""
        with self._lock:
            return len(self._peers)

    def open(self, connection: Connection, peer: Peer) -> None:
        """Remember an accepted association, unless its connection was lost while it was being accepted."""
        with self._lock:
            if connection not in self._gone:
                self._peers[connection] = peer

    def peer(self, connection: Connection) -> Peer:
        """Raises KeyError for a connection that was never opened or is closed."""
        with self._lock:
            return self._peers[connection]

    def close(self, connection: Connection, ended: ConnectionEnd) -> None:
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
            self.close(connection, "lost")

    def _close_row(self, connection: Connection, peer: Peer, ended: ConnectionEnd) -> None:
        """With the peer's turn held. The peer is forgotten only when its row is durably closed."""
        with self._lock:
            if connection not in self._peers:
                return
        try:
            with self._catalog.write() as session:
                peer.close_in(session, ended)
        except SQLAlchemyError as problem:
            _log.warning("association not closed yet", problem=type(problem).__name__)
            return
        with self._lock:
            del self._peers[connection]


def close_left_open(catalog: Catalog) -> int:
    """Close what a killed listener left open, so that its series can settle; how many associations it were."""
    with catalog.write() as session:
        rows = session.scalars(select(Association).where(Association.closed_at.is_(None))).all()
        for row in rows:
            row.closed_at, row.ended = audit.utc_now(), "lost"
            audit.append(
                session,
                process="listener",
                subject_kind="association",
                subject=str(row.id),
                event="CLOSED",
                facts={"ended": "lost", "stored": row.stored},
            )
        return len(rows)
