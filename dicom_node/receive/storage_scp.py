"""The Storage SCP (C2): takes CT images and says Success when they are durable, not before."""

from __future__ import annotations

import errno
import socket
import threading
import time
from io import BytesIO
from typing import Any

import structlog
from pydicom.uid import CTImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.pdu_primitives import A_RELEASE
from pynetdicom.transport import ThreadedAssociationServer
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.dicom.header_reading import ENHANCED_CT, LOSSLESS_SYNTAXES, UnreadableDicomError
from dicom_node.reasons import (
    CANNOT_LISTEN,
    CLASS_MISMATCH,
    DISK_ALMOST_FULL,
    NOT_AUTHORISED,
    PORT_IN_USE,
    STORE_FAILED,
    UNREADABLE_HEADER,
    NodeError,
    RefusalError,
    plain_facts,
)
from dicom_node.receive.association_policy import TEMPORARY_CONGESTION, AssociationPolicy, AssociationRefusedError
from dicom_node.receive.associations import OpenAssociations, Peer, close_left_open
from dicom_node.receive.connection_filter import ConnectionFilter, FilteredApplicationEntity
from dicom_node.receive.instance_identity import InstanceIdentity, identify
from dicom_node.receive.instance_store import MEGABYTE, InstanceStore
from dicom_node.receive.spool import Spool
from dicom_node.settings import Settings
from dissm_engine.errors import Reason

ACCEPTED_SOP_CLASSES: tuple[str, ...] = (CTImageStorage, *ENHANCED_CT)

# Statuses of C-STORE, PS3.4 B.2.3
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
CLASS_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_VERIFICATION = "1.2.840.10008.1.1"
_ASSOCIATE_SECONDS = 30.0
"""ARTIM: how long a connection may be silent before it asks for an association."""
_ABORT_SECONDS = 3.0
"""How long the end of the listener waits for aborts to be sent; then the connections are closed without a word."""

_log = structlog.get_logger()


class StorageScp:
    """Listens on `listen.address:listen.port` until stopped. Raises SettingsError for unusable address lists."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings = settings.listen
        self._catalog = catalog
        self._spool = Spool(settings.node.spool, settings.listen.sync)
        self._store = InstanceStore(catalog, self._spool, "listener", settings.listen)
        self._gate = AssociationPolicy.from_settings(settings.listen, settings.node.spool)
        self._associations = OpenAssociations(catalog)
        self._door = ConnectionFilter(self._gate, max(1, settings.listen.max_associations - 2))
        self._entity = _application_entity(settings, self._door)
        self._server: ThreadedAssociationServer | None = None
        self._stopping = threading.Event()

    @property
    def port(self) -> int:
        """The port that is listened on. Raises RuntimeError before `start`."""
        if self._server is None:
            raise RuntimeError("the listener is not started")
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen in threads of this process. Raises NodeError(PORT_IN_USE, CANNOT_LISTEN)."""
        self._spool.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spool.sweep()
        close_left_open(self._catalog)
        address = (self._settings.address, self._settings.port)
        try:
            self._server = self._entity.start_server(address, block=False, evt_handlers=self._handlers())
        except OSError as problem:
            reason = PORT_IN_USE if problem.errno == errno.EADDRINUSE else CANNOT_LISTEN
            raise NodeError(reason, port=address[1], address=address[0], problem=problem.strerror) from problem

    def stop(self) -> None:
        """Close the port, tell whoever is inside to come back, abort, close the rows.

        What was answered with Success stays. `AE.shutdown` aborts first and closes the port later: what connects in
        between would stay, and send its images to a listener whose rows are closed.
        """
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            _abort_all(self._server)
            self._server = None
        self._associations.close_all()
        self.tidy()

    def tidy(self) -> None:
        """Every few seconds: close what a full database left open, and write down who was turned away at the door."""
        self._associations.close_ended()
        for address, times in self._door.strangers().items():
            _log.warning("connections refused", reason=NOT_AUTHORISED.code, address=address, times=times)
            self._audit_refusal(NOT_AUTHORISED, {"calling_ae": "somebody", "address": address, "times": times})

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_CONN_OPEN, _guard_connection),
            (evt.EVT_PDU_RECV, self._hold_no_more_than_is_taken),
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_C_ECHO, lambda _event: SUCCESS),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_ACSE_RECV, self._on_release_asked),
            (evt.EVT_ABORTED, lambda event: self._associations.close(event.assoc, "aborted")),
            (evt.EVT_CONN_CLOSE, self._on_connection_closed),
        ]

    def _on_requested(self, event: Any) -> None:
        """Refuse before anything is negotiated; a disk that fills up refuses for now, the rest for good."""
        requestor = event.assoc.requestor
        request = requestor.primitive
        if self._stopping.is_set():
            event.assoc.acse.send_reject(*TEMPORARY_CONGESTION)
            event.assoc.kill()
            return
        try:
            self._gate.check(request.called_ae_title.strip(), request.calling_ae_title.strip(), requestor.address)
        except AssociationRefusedError as refusal:
            event.assoc.acse.send_reject(*refusal.answer)
            _log.warning("association refused", reason=refusal.reason.code, address=requestor.address)
            self._audit_refusal(refusal.reason, plain_facts(refusal))
            # pynetdicom shuts the connection down as this returns, whether or not its other thread has sent the answer
            # that was queued above; this waits until it has.
            event.assoc.kill()

    def _audit_refusal(self, reason: Reason, facts: dict[str, Any]) -> None:
        try:
            with self._catalog.write() as session:
                audit.append(
                    session,
                    process="listener",
                    subject_kind="association",
                    subject="refused",
                    event="REFUSED",
                    reason_code=reason.code,
                    facts=facts,
                )
        except SQLAlchemyError as problem:
            # A refusal stands, written or not; a listener that stops for it would refuse everybody.
            _log.error("refusal not written to the audit", reason=reason.code, problem=type(problem).__name__)

    def _on_accepted(self, event: Any) -> None:
        request = event.assoc.requestor.primitive
        refused = sorted({str(context.abstract_syntax) for context in event.assoc.rejected_contexts})
        peer = Peer(
            request.calling_ae_title.strip(),
            request.called_ae_title.strip(),
            event.assoc.requestor.address,
            tuple(refused),
        )
        self._associations.open(event.assoc, peer)

    def _hold_no_more_than_is_taken(self, event: Any) -> None:
        """Of a data set that is too large keep one byte over the limit; its sender hears at its end that it is.

        To abort would look like a passing failure, and the same image would come for ever.
        """
        # In the thread that collects the message, before it writes what this PDU brings where the last one ended.
        message = event.assoc.dimse.message
        if message is not None and message.data_set is not None:
            over = self._settings.max_instance_mb * MEGABYTE + 1
            message.data_set.seek(min(message.data_set.tell(), over))

    def _on_release_asked(self, event: Any) -> None:
        # Here and not at EVT_RELEASED: the peer may close the connection first, and that would look like a loss.
        if isinstance(event.primitive, A_RELEASE):
            self._associations.close(event.assoc, "released")

    def _on_connection_closed(self, event: Any) -> None:
        self._associations.close(event.assoc, "lost")
        if event.assoc.requestor.primitive is None:
            # A port check: connected and gone. pynetdicom would wait for its request until the time-out, and ten of
            # them would fill `max_associations` (pynetdicom #669).
            event.assoc.dul.to_user_queue.put(None)

    def _on_store(self, event: Any) -> int:
        """Answer one C-STORE. An association that this listener does not know or has closed is told to come back."""
        if self._stopping.is_set():
            return OUT_OF_RESOURCES
        try:
            peer = self._associations.peer(event.assoc)
        except KeyError:
            return OUT_OF_RESOURCES
        with peer.turn:
            if peer.ended is not None:
                # Lost while this waited for its turn: nobody hears the answer, and nobody would close a new row.
                return OUT_OF_RESOURCES
            if event.request.AffectedSOPClassUID not in ACCEPTED_SOP_CLASSES:
                peer.discarded += 1
                return SUCCESS
            status, reason_code = self._store_durably(event, peer)
            if reason_code is not None:
                peer.refused.append(reason_code)
            return status

    def _store_durably(self, event: Any, peer: Peer) -> tuple[int, str | None]:
        """The status, and the reason where it is not Success."""
        try:
            self._gate.check_disk()
            # Before the copy that is made of it here.
            self._store.check_size(_size_of(event.request.DataSet))
            content = event.encoded_dataset()
            identity = identify(content, "received")
            _check_request(event.request, identity)
            self._store.store(content, identity, peer.calling_ae, peer.row_in)
            peer.committed()
        except AssociationRefusedError:
            return OUT_OF_RESOURCES, DISK_ALMOST_FULL.code
        except UnreadableDicomError:
            return CANNOT_UNDERSTAND, UNREADABLE_HEADER.code
        except RefusalError as refusal:
            # Too large: a status that no sender takes for a passing one.
            status = CLASS_DOES_NOT_MATCH if refusal.reason is CLASS_MISMATCH else CANNOT_UNDERSTAND
            return status, refusal.reason.code
        except (OSError, SQLAlchemyError) as problem:
            _log.error("an image could not be stored", problem=type(problem).__name__)
            return OUT_OF_RESOURCES, STORE_FAILED.code
        return SUCCESS, None


def _application_entity(settings: Settings, door: ConnectionFilter) -> AE:
    listen = settings.listen
    entity = FilteredApplicationEntity(listen.ae_title, door)
    entity.maximum_associations = listen.max_associations
    entity.maximum_pdu_size = listen.max_pdu_bytes
    entity.network_timeout = listen.idle_seconds
    entity.dimse_timeout = listen.idle_seconds
    entity.acse_timeout = _ASSOCIATE_SECONDS
    entity.add_supported_context(_VERIFICATION)
    if listen.other_sop_classes == "discard":
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), context.transfer_syntax)
    for sop_class in ACCEPTED_SOP_CLASSES:
        entity.remove_supported_context(sop_class)
        entity.add_supported_context(sop_class, list(LOSSLESS_SYNTAXES))
    return entity


def _abort_all(server: ThreadedAssociationServer) -> None:
    """Abort every association of a server whose port is closed; those that do not end in time lose their connection.

    `Association.abort` would wait, one after the other, for peers that may never close their side.
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


def _size_of(data_set: BytesIO | None) -> int:
    return 0 if data_set is None else data_set.getbuffer().nbytes


def _check_request(request: Any, identity: InstanceIdentity) -> None:
    """PS3.4 B.2.2: the request names the object that the data set holds. Raises RefusalError(CLASS_MISMATCH)."""
    if request.AffectedSOPClassUID != identity.sop_class_uid:
        raise RefusalError(CLASS_MISMATCH, problem="the data set is of another SOP class than the request")
    if request.AffectedSOPInstanceUID != identity.sop_instance_uid:
        raise RefusalError(CLASS_MISMATCH, problem="the data set has another SOP Instance UID than the request")


def _guard_connection(event: Any) -> None:
    """Give a connection what pynetdicom leaves out."""
    connection: socket.socket = event.assoc.dul.socket.socket
    # Answers are small: with Nagle's algorithm each would wait for the peer's delayed acknowledgement, 40 ms.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A peer that falls silent inside a PDU would hold its thread in `recv`, and its slot with it, for ever.
    connection.settimeout(event.assoc.network_timeout)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
