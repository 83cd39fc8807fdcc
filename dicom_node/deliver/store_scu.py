"""The Storage SCU: offers objects to one destination over one association (C8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicom_node.catalog.outbox import AttemptRecord
from dicom_node.catalog.states import DeliveryEvent
from dicom_node.deliver.store_status import result_of_status
from dicom_node.dicom.association_client import bounded_in_time
from dicom_node.settings import Destination

_REJECTED_PERMANENT = 1
_SYNTAX_OR_CLASS_UNKNOWN = (3, 4)
"""PS3.8 table 9-18: abstract syntax not supported, transfer syntaxes not supported."""


@dataclass(frozen=True)
class OutgoingObject:
    """One object on its way to one destination.

    delivery_id: its row in the outbox. content: the Part 10 file, as it was proven.
    """

    delivery_id: int
    content: bytes

    def dataset(self) -> Dataset:
        """The object with its file meta information, pixels undecoded."""
        return dcmread(BytesIO(self.content))


def send(
    destination: Destination, outgoing: Sequence[OutgoingObject]
) -> Iterator[tuple[OutgoingObject, AttemptRecord]]:
    """Offer the outgoing in turn; yields every answer as it comes.

    One presentation context for each pair of SOP class and transfer syntax that the objects have, so that the
    destination cannot choose a syntax they are not in. Without an association that is the answer to all of them.
    An association that is lost ends the sending: outgoing behind the one it was lost at get no answer, since they are
    not what it was lost by, and are for another association.
    """
    objects = [(item, item.dataset()) for item in outgoing]
    try:
        association = _associate(destination, [dataset for _, dataset in objects])
    except (OSError, ValueError) as problem:
        # A host that does not resolve, a title that is none: the settings may be mended, the network may come back.
        yield from ((item, _unreachable(problem)) for item in outgoing)
        return
    with _closing(association):
        failure = _failure_to_associate(association)
        lost = False
        for item, dataset in objects:
            answer = failure or _refused_context(association, dataset)
            if answer is None and not lost:
                answer = _store(association, dataset)
                lost = answer.status is None
            if answer is not None:
                yield item, answer


def _unreachable(problem: OSError | ValueError) -> AttemptRecord:
    said = problem.strerror if isinstance(problem, OSError) else str(problem)
    return AttemptRecord(DeliveryEvent.TRY_AGAIN, f"no association: {said}", reached=False)


def _associate(destination: Destination, datasets: Sequence[Dataset]) -> Association:
    """An association, established or not. Raises OSError and ValueError where it cannot even be asked for."""
    entity = AE(ae_title=destination.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = destination.timeout_seconds
    entity.network_timeout = entity.connection_timeout = destination.timeout_seconds
    for sop_class, syntax in sorted({_context(dataset) for dataset in datasets}):
        entity.add_requested_context(sop_class, syntax)
    return entity.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, bounded_in_time(destination.timeout_seconds))],
    )


@contextmanager
def _closing(association: Association) -> Iterator[Association]:
    """Releases it (or aborts, when the block breaks off) at the end."""
    try:
        yield association
        if association.is_established:
            association.release()
    finally:
        if association.is_established:
            association.abort()


def _context(dataset: Dataset) -> tuple[str, str]:
    return str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID)


def _failure_to_associate(association: Association) -> AttemptRecord | None:
    """Why nothing can be offered over this association; None where it stands or only contexts were refused."""
    if association.is_established or association.rejected_contexts:
        return None
    reply = association.acceptor.primitive
    if association.is_rejected and reply is not None:
        said = f"association {reply.result_str.lower()}: {reply.reason_str.lower()}"
        permanent = reply.result == _REJECTED_PERMANENT
        return AttemptRecord(DeliveryEvent.REFUSED if permanent else DeliveryEvent.TRY_AGAIN, said, reached=False)
    return AttemptRecord(DeliveryEvent.TRY_AGAIN, "no association: nothing answers there", reached=False)


def _store(association: Association, dataset: Dataset) -> AttemptRecord:
    if not association.is_established:
        return AttemptRecord(DeliveryEvent.TRY_AGAIN, "the association was lost before this object", reached=False)
    try:
        status = association.send_c_store(dataset)
    except RuntimeError:
        # Lost since the line above.
        return AttemptRecord(DeliveryEvent.TRY_AGAIN, "the association was lost before this object", reached=False)
    if "Status" not in status:
        # Perhaps stored, perhaps not: its UID is derived, so sending it again is harmless.
        return AttemptRecord(DeliveryEvent.TRY_AGAIN, "no answer: outcome unknown")
    return result_of_status(int(status.Status))


def _refused_context(association: Association, dataset: Dataset) -> AttemptRecord | None:
    wanted = _context(dataset)
    for context in association.rejected_contexts:
        if (context.abstract_syntax, context.transfer_syntax[0]) == wanted:
            permanent = context.result in _SYNTAX_OR_CLASS_UNKNOWN
            said = f"presentation context refused: {context.status.lower()}"
            return AttemptRecord(DeliveryEvent.REFUSED if permanent else DeliveryEvent.TRY_AGAIN, said)
    return None
