"""The Storage SCP (C2): takes CT images and says Success when they are durable, not before."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import structlog
from pydicom.uid import CTImageStorage

from dicom_node.catalog.associations import close_left_open, record_refusal
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.invalid_sources import record_rejection
from dicom_node.catalog.lookup_key import LookupKey
from dicom_node.dicom.header_reading import ENHANCED_CT, LOSSLESS_SYNTAXES, UnreadableDicomError
from dicom_node.dicom.storage_server import (
    SUCCESS,
    AssociationRequest,
    Connection,
    Rejection,
    ServerOptions,
    StorageServer,
    StoreAnswer,
    StoreRequest,
)
from dicom_node.reasons import (
    CANNOT_LISTEN,
    CLASS_MISMATCH,
    NOT_A_REJECTION_NOTE,
    NOT_AUTHORISED,
    PORT_IN_USE,
    STORE_FAILED,
    CatalogUnavailableError,
    NodeError,
    RefusalError,
)
from dicom_node.receive.association_policy import TEMPORARY_CONGESTION, AssociationPolicy, AssociationRefusedError
from dicom_node.receive.connection_filter import ConnectionFilter
from dicom_node.receive.incoming_rejection import KEY_OBJECT_SELECTION, read_rejection_note
from dicom_node.receive.instance_identity import identify
from dicom_node.receive.instance_store import MEGABYTE, InstanceStore
from dicom_node.receive.open_associations import OpenAssociations, Peer
from dicom_node.receive.spool import Spool
from dicom_node.settings import ListenSettings, Settings
from dicom_node.values.facts import Facts
from dicom_node.values.received import AssociationEnd, InstanceIdentity, PeerIdentity
from dicom_node.values.recorded_reason import RecordedReason

ACCEPTED_SOP_CLASSES: tuple[str, ...] = (CTImageStorage, *ENHANCED_CT, KEY_OBJECT_SELECTION)

# Statuses of C-STORE, PS3.4 B.2.3
OUT_OF_RESOURCES = 0xA700
CLASS_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
_COME_BACK = StoreAnswer(OUT_OF_RESOURCES, "the node takes no images on this association: send again")

_log = structlog.get_logger()


class StorageScp:
    """Listens on `listen.address:listen.port` until stopped. Raises SettingsError for unusable address lists."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings = settings.listen
        self._recorder = recorder
        self._spool = Spool(settings.node.spool, settings.listen.sync)
        self._lookup_key = LookupKey.of(settings.node.data_folder)
        self._store = InstanceStore(recorder, self._spool, settings.listen)
        self._policy = AssociationPolicy.from_settings(settings.listen, settings.node.spool)
        self._associations = OpenAssociations(recorder)
        self._filter = ConnectionFilter(self._policy, max(1, settings.listen.max_associations - 2))
        self._server = StorageServer(_server_options(settings.listen), self)
        self._stopping = threading.Event()

    @property
    def port(self) -> int:
        """The port that is listened on. Raises RuntimeError before `start`."""
        return self._server.port

    @property
    def connection_count(self) -> int:
        """How many connections are open, those included that asked for no association yet."""
        return self._server.connection_count

    def start(self) -> None:
        """Begin to listen in threads of this process. Raises NodeError(PORT_IN_USE, CANNOT_LISTEN)."""
        self._spool.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spool.sweep()
        with self._recorder.write() as tx:
            close_left_open(tx)
        try:
            self._server.start()
        except OSError as problem:
            reason = PORT_IN_USE if problem.errno == errno.EADDRINUSE else CANNOT_LISTEN
            address, port = self._settings.address, self._settings.port
            raise NodeError(reason, port=port, address=address, problem=problem.strerror) from problem

    def stop(self) -> None:
        """Close the port, tell whoever is inside to come back, abort, close the rows. What was stored stays."""
        self._stopping.set()
        self._server.stop()
        self._associations.close_all()
        self.tidy()

    def tidy(self) -> None:
        """Every few seconds: close what a full database left open; write down whom the connection filter refused."""
        self._associations.close_ended()
        for address, times in self._filter.strangers().items():
            _log.warning("connections refused", reason=NOT_AUTHORISED.code, address=address, times=times)
            problem = self._policy.address_problem(address)
            facts: Facts = {"calling_ae": "somebody", "address": address, "problem": problem, "times": times}
            self._audit_refusal(RecordedReason(NOT_AUTHORISED.code, facts))

    def lets_in(self, address: str, silent: int) -> bool:
        """Whether a new connection may stay (StorageHandler)."""
        return self._filter.lets_in(address, silent)

    def on_requested(self, request: AssociationRequest, reject: Callable[[Rejection], None]) -> None:
        """Refuse before anything is negotiated; a disk that fills up refuses for now, everything else for good."""
        if self._stopping.is_set():
            reject(TEMPORARY_CONGESTION)
            return
        try:
            self._policy.check(request)
        except AssociationRefusedError as refusal:
            # The answer first: its row may have to wait for the database.
            reject(refusal.answer)
            _log.warning("association refused", reason=refusal.reason.code, address=request.address)
            self._audit_refusal(RecordedReason.of(refusal))

    def _audit_refusal(self, reason: RecordedReason) -> None:
        try:
            with self._recorder.write() as tx:
                record_refusal(tx, reason)
        except CatalogUnavailableError as problem:
            # A refusal stands, written or not; a listener that stops for it would refuse everybody.
            _log.error("refusal not written to the audit", reason=reason.code, problem=str(problem))

    def on_accepted(
        self, connection: Connection, request: AssociationRequest, refused_sop_classes: tuple[str, ...]
    ) -> None:
        """Remember who speaks on this connection (StorageHandler)."""
        identity = PeerIdentity(request.calling_ae, request.called_ae, request.address, refused_sop_classes)
        self._associations.open(connection, Peer(identity))

    def on_ended(self, connection: Connection, ended: AssociationEnd) -> None:
        """Close the association's row (StorageHandler)."""
        self._associations.close(connection, ended)

    def on_store(self, connection: Connection, request: StoreRequest) -> StoreAnswer:
        """Answer one C-STORE. An association that this listener does not know or has closed is told to come back."""
        if self._stopping.is_set():
            return _COME_BACK
        try:
            peer = self._associations.peer(connection)
        except KeyError:
            return _COME_BACK
        with peer.turn:
            if peer.ended is not None:
                # Lost while this waited for its turn: nobody hears the answer, and nobody would close a new row.
                return _COME_BACK
            if request.sop_class_uid not in ACCEPTED_SOP_CLASSES:
                peer.discarded += 1
                return StoreAnswer(SUCCESS)
            refusal = self._store_durably(request, peer)
            if refusal is None:
                return StoreAnswer(SUCCESS)
            status, problem = refusal
            peer.refused.append(problem.reason.code)
            # The reasons hold no patient data: what is wrong is said in words of ours, never by a value that was sent.
            return StoreAnswer(status, f"{problem.reason.code}: {problem.reason.say(**problem.facts)}")

    def _store_durably(self, request: StoreRequest, peer: Peer) -> tuple[int, NodeError] | None:
        """The status and why; None for Success."""
        try:
            self._policy.check_disk()
            # Before the copy that is made of it here.
            self._store.check_size(request.size)
            content = request.read()
            identity = identify(content, "received", self._lookup_key)
            _check_request(request, identity)
            if identity.sop_class_uid == KEY_OBJECT_SELECTION:
                self._take_key_objects(content, peer)
                return None
            self._store.store(content, identity, peer.identity.calling_ae, peer.row_in)
            peer.committed()
        except AssociationRefusedError as refusal:
            return OUT_OF_RESOURCES, refusal
        except UnreadableDicomError as problem:
            return CANNOT_UNDERSTAND, problem
        except RefusalError as refusal:
            # Too large: a status that no sender takes for a passing one.
            status = CLASS_DOES_NOT_MATCH if refusal.reason is CLASS_MISMATCH else CANNOT_UNDERSTAND
            return status, refusal
        except (OSError, CatalogUnavailableError) as problem:
            _log.error("an image could not be stored", problem=type(problem).__name__)
            return OUT_OF_RESOURCES, NodeError(STORE_FAILED, problem=type(problem).__name__)
        return None

    def _take_key_objects(self, content: bytes, peer: Peer) -> None:
        """Withdraw durably what a rejection note names; other key objects are discarded or refused, as set.

        Raises RefusalError, UnreadableDicomError, OSError, CatalogUnavailableError.
        """
        note = read_rejection_note(content)
        if note is None:
            if self._settings.other_sop_classes == "refuse":
                raise RefusalError(NOT_A_REJECTION_NOTE, problem="its title withdraws nothing")
            peer.discarded += 1
            return
        file = self._spool.keep(content)
        with self._recorder.write() as tx:
            peer.row_in(tx)
            record_rejection(tx, note, file.digest)
        peer.committed()


def _server_options(listen: ListenSettings) -> ServerOptions:
    return ServerOptions(
        ae_title=listen.ae_title,
        address=listen.address,
        port=listen.port,
        sop_classes=ACCEPTED_SOP_CLASSES,
        transfer_syntaxes=LOSSLESS_SYNTAXES,
        other_sop_classes=listen.other_sop_classes == "discard",
        max_associations=listen.max_associations,
        max_pdu_bytes=listen.max_pdu_bytes,
        max_data_set_bytes=listen.max_instance_mb * MEGABYTE,
        idle_seconds=listen.idle_seconds,
    )


def _check_request(request: StoreRequest, identity: InstanceIdentity) -> None:
    """PS3.4 B.2.2: the request names the object that the data set holds. Raises RefusalError(CLASS_MISMATCH)."""
    if request.sop_class_uid != identity.sop_class_uid:
        raise RefusalError(CLASS_MISMATCH, problem="the data set is of another SOP class than the request")
    if request.sop_instance_uid != identity.sop_instance_uid:
        raise RefusalError(CLASS_MISMATCH, problem="the data set has another SOP Instance UID than the request")
