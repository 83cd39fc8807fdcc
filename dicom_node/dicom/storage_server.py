"""The server side of an association: pynetdicom's acceptor, with what it leaves out (PS3.7 C-STORE and C-ECHO, PS3.8).

This module alone knows pynetdicom's server. It hands plain values to a `StorageHandler` and takes plain answers back.
What works round a gap of pynetdicom stands in a function of its own, which names the upstream issue; a test in
`tests/dicom` fails when the gap is closed, so that the function can go.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, NamedTuple, Protocol, cast
from weakref import WeakKeyDictionary

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import A_RELEASE

# pynetdicom makes the names of its SOP classes when it is imported: no type checker sees them.
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.dicom.implementation import name_implementation
from dicom_node.values.received import AssociationEnd

SUCCESS = 0x0000
"""The status of C-STORE and C-ECHO that says that all is well (PS3.7 annex C)."""

_MAX_COMMENT = 64
"""Characters of an LO (PS3.5 6.2)."""
_ABORT_SECONDS = 3.0
"""How long the end of the server waits for aborts to be sent; then the connections are closed without a word."""


class Rejection(NamedTuple):
    """The answer of an A-ASSOCIATE-RJ: result, source and diagnostic (PS3.8 9.3.4)."""

    result: int
    source: int
    diagnostic: int


class Connection:
    """The connection of one peer, for as long as it lasts and somebody holds it. Equal to nothing but itself."""


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """Who asks for an association. Titles are without their padding; address: the peer's IP address."""

    called_ae: str
    calling_ae: str
    address: str


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """One C-STORE. size: the bytes of its data set; one more than the server's limit where that many came or more.

    read: makes the DICOM file (PS3.10) of the data set, a copy: its size should be looked at before.
    """

    sop_class_uid: str
    sop_instance_uid: str
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """The answer to a C-STORE. status: of PS3.4 B.2.3.

    comment: why it was refused, without patient data; what of it is ASCII and fits is sent as ErrorComment (0000,0902),
    which may have 64 characters. Empty: none is sent.
    """

    status: int
    comment: str = ""


class StorageHandler(Protocol):
    """What a storage server asks and tells. It is called from a thread for each connection."""

    def lets_in(self, address: str, silent: int) -> bool:
        """Whether a new connection may stay. Called by the thread that accepts: it must not wait for anything.

        silent: how many connections of this address have asked for no association yet.
        """

    def on_requested(self, request: AssociationRequest, reject: Callable[[Rejection], None]) -> None:
        """Called before anything is negotiated. `reject` sends the answer and returns at once."""

    def on_accepted(
        self, connection: Connection, request: AssociationRequest, refused_sop_classes: tuple[str, ...]
    ) -> None:
        """Called when an association stands; refused_sop_classes: sorted UIDs without an accepted context."""

    def on_store(self, connection: Connection, request: StoreRequest) -> StoreAnswer:
        """Answer a C-STORE."""

    def on_ended(self, connection: Connection, ended: AssociationEnd) -> None:
        """Called when a connection is over, perhaps several times: what is said first is right."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a storage server listens.

    sop_classes, transfer_syntaxes: every pair of them is accepted. other_sop_classes: accept all other storage classes
    of pynetdicom too, in its default syntaxes. idle_seconds: an association, or a PDU, that is silent for so long is
    closed. associate_seconds: the ARTIM time-out of PS3.8, before an association is asked for.
    """

    ae_title: str
    address: str
    port: int
    sop_classes: Sequence[str]
    transfer_syntaxes: Sequence[str]
    other_sop_classes: bool
    max_associations: int
    max_pdu_bytes: int
    max_data_set_bytes: int
    idle_seconds: float
    associate_seconds: float = 30.0


class StorageServer:
    """A Storage SCP that listens in threads of this process between `start` and `stop`."""

    def __init__(self, options: ServerOptions, handler: StorageHandler) -> None:
        self._options, self._handler = options, handler
        self._server: ThreadedAssociationServer | None = None
        self._connections: WeakKeyDictionary[Association, Connection] = WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port that is listened on. Raises RuntimeError while nothing is listened on."""
        if self._server is None:
            raise RuntimeError("the server is not started")
        return int(self._server.server_address[1])

    @property
    def connection_count(self) -> int:
        """How many connections are open, those included that asked for no association yet."""
        return len(self._server.active_associations) if self._server is not None else 0

    def start(self) -> None:
        """Begin to listen. Raises OSError where the address or port cannot be had."""
        entity = _FilteredEntity(self._options.ae_title, self._handler.lets_in)
        _configure(entity, self._options)
        address = (self._options.address, self._options.port)
        self._server = entity.start_server(address, block=False, evt_handlers=self._events())

    def stop(self) -> None:
        """Close the port, then abort whoever is inside; returns after some seconds at the latest.

        `AE.shutdown` aborts first and closes the port later (upstream issue: none found): what connects in between
        would stay, and go on sending its images.
        """
        if self._server is not None:
            self._server.shutdown()
            _abort_all(self._server)
            self._server = None

    def _events(self) -> list[EventHandlerType]:
        return [
            (evt.EVT_CONN_OPEN, _prepare_connection),
            (evt.EVT_PDU_RECV, self._on_pdu),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_ACSE_RECV, self._on_release_asked),
            (evt.EVT_ABORTED, self._on_aborted),
            (evt.EVT_CONN_CLOSE, self._on_connection_closed),
        ]

    def _connection(self, association: Association) -> Connection:
        with self._lock:
            return self._connections.setdefault(association, Connection())

    def _on_pdu(self, event: Event) -> None:
        _hold_no_more_than(event.assoc, self._options.max_data_set_bytes + 1)

    def _on_requested(self, event: Event) -> None:
        rejected = False

        def reject(answer: Rejection) -> None:
            nonlocal rejected
            rejected = True
            event.assoc.acse.send_reject(*answer)

        self._handler.on_requested(_request_of(event.assoc), reject)
        if rejected:
            _wait_until_rejection_is_sent(event.assoc)

    def _on_accepted(self, event: Event) -> None:
        refused = sorted({str(context.abstract_syntax) for context in event.assoc.rejected_contexts})
        self._handler.on_accepted(self._connection(event.assoc), _request_of(event.assoc), tuple(refused))

    def _on_store(self, event: Event) -> Dataset:
        request = cast(C_STORE, event.request)
        asked = StoreRequest(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            _size_of(request.DataSet),
            event.encoded_dataset,
        )
        answer = self._handler.on_store(self._connection(event.assoc), asked)
        said = Dataset()
        said.Status = answer.status
        comment = answer.comment.encode("ascii", "replace").decode().replace("\\", "/")[:_MAX_COMMENT]
        if comment:
            said.ErrorComment = comment
        return said

    def _on_release_asked(self, event: Event) -> None:
        # Here and not at EVT_RELEASED: the peer may close the connection first, and that would look like a loss.
        primitive: object = getattr(event, "primitive", None)
        if isinstance(primitive, A_RELEASE):
            self._handler.on_ended(self._connection(event.assoc), AssociationEnd.RELEASED)

    def _on_aborted(self, event: Event) -> None:
        self._handler.on_ended(self._connection(event.assoc), AssociationEnd.ABORTED)

    def _on_connection_closed(self, event: Event) -> None:
        self._handler.on_ended(self._connection(event.assoc), AssociationEnd.LOST)
        _end_wait_for_request(event.assoc)


class _FilteredEntity(AE):
    """An application entity whose server asks, before a connection costs a thread and a slot, whether it may stay."""

    def __init__(self, ae_title: str, lets_in: Callable[[str, int], bool]) -> None:
        super().__init__(ae_title)
        self._lets_in = lets_in

    def make_server(self, *arguments: Any, **named: Any) -> Any:
        """As AE does, with the filter in the server."""
        return super().make_server(*arguments, **{**named, "server_class": partial(_FilteredServer, self._lets_in)})


class _FilteredServer(ThreadedAssociationServer):
    """pynetdicom counts a connection that never asks for an association as an association (upstream: none found)."""

    def __init__(self, lets_in: Callable[[str, int], bool], *arguments: Any, **named: Any) -> None:
        self._lets_in = lets_in
        super().__init__(*arguments, **named)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        address = str(client_address[0])
        silent = [each.requestor for each in self.active_associations if each.requestor.primitive is None]
        return self._lets_in(address, sum(each.address == address for each in silent))


def _configure(entity: AE, options: ServerOptions) -> None:
    name_implementation(entity)
    entity.maximum_associations = options.max_associations
    entity.maximum_pdu_size = options.max_pdu_bytes
    entity.network_timeout = entity.dimse_timeout = options.idle_seconds
    entity.acse_timeout = options.associate_seconds
    entity.add_supported_context(Verification)
    if options.other_sop_classes:
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), context.transfer_syntax)
    for sop_class in options.sop_classes:
        entity.remove_supported_context(sop_class)
        entity.add_supported_context(sop_class, list(options.transfer_syntaxes))


def _request_of(association: Association) -> AssociationRequest:
    requestor = association.requestor
    asked = requestor.primitive
    called, calling = (asked.called_ae_title, asked.calling_ae_title) if asked is not None else ("", "")
    return AssociationRequest((called or "").strip(), (calling or "").strip(), str(requestor.address))


def _size_of(data_set: BytesIO | None) -> int:
    return 0 if data_set is None else data_set.getbuffer().nbytes


def _prepare_connection(event: Event) -> None:
    """Set what pynetdicom leaves at the system's defaults (upstream: #565 for time-outs; none found for the others)."""
    connection = _socket_of(event.assoc)
    if connection is None:
        return
    # Answers are small: with Nagle's algorithm each would wait for the peer's delayed acknowledgement, 40 ms.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that falls silent inside a PDU would hold its thread in `recv`, and its slot with it, for ever.
    connection.settimeout(event.assoc.network_timeout)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _socket_of(association: Association) -> socket.socket | None:
    wrapped = association.dul.socket
    return wrapped.socket if wrapped is not None else None


def _hold_no_more_than(association: Association, max_bytes: int) -> None:
    """Of a data set that is being received keep its first bytes only (upstream: #517 asks for such a limit).

    Its sender hears at its end that it is too large: to abort would look like a passing failure, and the same image
    would come for ever. Called in the thread that collects the message, before it writes what a PDU brings to where
    the last one ended.
    """
    message = association.dimse.message
    if message is not None and message.data_set is not None:
        message.data_set.seek(min(message.data_set.tell(), max_bytes))


def _wait_until_rejection_is_sent(association: Association) -> None:
    """Wait for the thread that sends (upstream: #408 is about rejecting here; none found about the answer being lost).

    pynetdicom shuts the connection down as the handler of EVT_REQUESTED returns, whether or not its other thread has
    sent the rejection that was queued.
    """
    association.kill()


def _end_wait_for_request(association: Association) -> None:
    """End the thread of a connection that closed before it asked for an association, such as a port check's (#669).

    pynetdicom would wait for the request until the time-out, and ten of them would fill `max_associations`.
    """
    if association.requestor.primitive is None:
        association.dul.to_user_queue.put(None)


def _abort_all(server: ThreadedAssociationServer) -> None:
    """Abort every association of a server whose port is closed; those that do not end in time lose their connection.

    `AE.shutdown` aborts one after the other, and each abort waits for a peer that is silent inside a PDU (upstream:
    #912; #194 and #979 were mended).
    """
    deadline = time.monotonic() + _ABORT_SECONDS
    asked: set[int] = set()
    while (left := server.active_associations) and time.monotonic() < deadline:
        for association in left:
            if id(association) not in asked:
                asked.add(id(association))
                association.abort(block=False)
        time.sleep(0.05)
    for association in left:
        connection = association.dul.socket
        if connection is not None:
            connection.close()
