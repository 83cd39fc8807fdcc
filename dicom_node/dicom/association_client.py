"""The client side of an association: pynetdicom's requestor, with every wait bounded in time (PS3.7, PS3.8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType

# pynetdicom makes the names of its SOP classes when it is imported: no type checker sees them.
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.dicom.implementation import name_implementation

_REJECTED_PERMANENT = 1
_SYNTAX_OR_CLASS_UNKNOWN = (3, 4)
"""PS3.8 table 9-18: abstract syntax not supported, transfer syntaxes not supported."""


@dataclass(frozen=True, slots=True)
class RemoteEntity:
    """Whom an association is asked of, and as whom. timeout_seconds: the longest wait for anything."""

    host: str
    port: int
    ae_title: str
    calling_ae_title: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a peer refused. permanent: the same would be refused again. said: in words, without patient data."""

    permanent: bool
    said: str


class ClientAssociation:
    """An association that was asked for; it may stand or not. Use as a context manager, which ends it.

    At the end of the block it is released; where the block breaks off, it is aborted.
    """

    def __init__(self, association: Association) -> None:
        self._association = association

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._association.is_established:
                self._association.release()
        finally:
            if self._association.is_established:
                self._association.abort()

    @property
    def established(self) -> bool:
        """Whether the association stands now."""
        return bool(self._association.is_established)

    @property
    def contexts_refused(self) -> bool:
        """Whether the peer refused any presentation context; with none accepted the association does not stand."""
        return bool(self._association.rejected_contexts)

    @property
    def rejection(self) -> Refusal | None:
        """The peer's A-ASSOCIATE-RJ; None where it sent none."""
        reply = self._association.acceptor.primitive
        if not self._association.is_rejected or reply is None:
            return None
        said = f"{reply.result_str.lower()}: {reply.reason_str.lower()}"
        return Refusal(reply.result == _REJECTED_PERMANENT, said)

    def accepts(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Return whether the peer accepted objects of this class in this very syntax."""
        asked = (sop_class_uid, transfer_syntax_uid)
        return any(
            (context.abstract_syntax, context.transfer_syntax[0]) == asked
            for context in self._association.accepted_contexts
        )

    def refused_context(self, sop_class_uid: str, transfer_syntax_uid: str) -> Refusal | None:
        """Return why the peer takes no objects of this class in this syntax; None where it said nothing against it."""
        for context in self._association.rejected_contexts:
            if (context.abstract_syntax, context.transfer_syntax[0]) == (sop_class_uid, transfer_syntax_uid):
                return Refusal(context.result in _SYNTAX_OR_CLASS_UNKNOWN, context.status.lower())
        return None

    def store(self, dataset: Dataset) -> int | None:
        """Offer a data set by C-STORE (PS3.7 9.1.1).

        Returns:
            The status; None where no answer came, so that the object may or may not have been stored.

        Raises:
            ConnectionError: The association does not stand (any more); nothing was sent.
        """
        if not self._association.is_established:
            raise ConnectionError("the association does not stand")
        try:
            answer = self._association.send_c_store(dataset)
        except RuntimeError as problem:
            # It was lost after the line that looked.
            raise ConnectionError("the association does not stand") from problem
        return int(answer.Status) if "Status" in answer else None

    def echo(self) -> int | None:
        """Ask by C-ECHO (PS3.7 9.1.5). Returns the status, None where no answer came."""
        answer = self._association.send_c_echo()
        return int(answer.Status) if "Status" in answer else None


def associate(peer: RemoteEntity, contexts: Iterable[tuple[str, str]]) -> ClientAssociation:
    """Ask for an association with one presentation context for each pair of SOP class and transfer syntax.

    Returns:
        The association, established or not: `established`, `rejection` and `refused_context` tell.

    Raises:
        OSError: The host cannot be resolved or reached at all.
        ValueError: A title or address is none.
    """
    entity = AE(ae_title=peer.calling_ae_title)
    for sop_class, syntax in sorted(set(contexts)):
        entity.add_requested_context(sop_class, syntax)
    return _associate(entity, peer)


def associate_for_echo(peer: RemoteEntity) -> ClientAssociation:
    """Ask for an association over which only `echo` is asked. Returns and raises what `associate` does."""
    entity = AE(ae_title=peer.calling_ae_title)
    entity.add_requested_context(Verification)
    return _associate(entity, peer)


def _associate(entity: AE, peer: RemoteEntity) -> ClientAssociation:
    name_implementation(entity)
    entity.acse_timeout = entity.dimse_timeout = peer.timeout_seconds
    entity.network_timeout = entity.connection_timeout = peer.timeout_seconds
    bounded: list[EventHandlerType] = [(evt.EVT_CONN_OPEN, _bound_every_wait)]
    return ClientAssociation(entity.associate(peer.host, peer.port, ae_title=peer.ae_title, evt_handlers=bounded))


def _bound_every_wait(event: Event) -> None:
    """Let no read or write of the connection take longer than the time-out for silence (upstream: #616, #618).

    pynetdicom takes its time-out off a connection once it stands; a peer that stops reading would then hold the sender
    for ever, in `send` and in its own abort after that.
    """
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.settimeout(event.assoc.network_timeout)
