"""The Storage SCU: offers objects to one destination over one association (C8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicom_node.catalog.deliveries import AttemptRecord
from dicom_node.catalog.states import DeliveryEvent
from dicom_node.deliver.outgoing import OutgoingObject
from dicom_node.deliver.store_status import not_accepted, result_of_status
from dicom_node.dicom.association_client import ClientAssociation, RemoteEntity, associate
from dicom_node.settings import Destination


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
        association = associate(_remote_entity(destination), {_context(dataset) for _, dataset in objects})
    except (OSError, ValueError) as problem:
        # A host that does not resolve, a title that is none: the settings may be mended, the network may come back.
        yield from ((item, _unreachable(problem)) for item in outgoing)
        return
    with association:
        failure = _failure_to_associate(association)
        lost = False
        for item, dataset in objects:
            answer = failure or _refused_context(association, dataset, destination.name)
            if answer is None and not lost:
                answer = _store(association, dataset, destination.name)
                lost = answer.status is None
            if answer is not None:
                yield item, answer


def _unreachable(problem: OSError | ValueError) -> AttemptRecord:
    said = problem.strerror if isinstance(problem, OSError) else str(problem)
    return AttemptRecord(DeliveryEvent.TRY_AGAIN, f"no association: {said}", reached=False)


def _remote_entity(to: Destination) -> RemoteEntity:
    return RemoteEntity(to.host, to.port, to.ae_title, to.calling_ae_title, to.timeout_seconds)


def _context(dataset: Dataset) -> tuple[str, str]:
    return str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID)


def _failure_to_associate(association: ClientAssociation) -> AttemptRecord | None:
    """Why nothing can be offered over this association; None where it stands or only contexts were refused."""
    if association.established or association.contexts_refused:
        return None
    rejection = association.rejection
    if rejection is None:
        return AttemptRecord(DeliveryEvent.TRY_AGAIN, "no association: nothing answers there", reached=False)
    event = DeliveryEvent.REFUSED if rejection.permanent else DeliveryEvent.TRY_AGAIN
    return AttemptRecord(event, f"association {rejection.said}", reached=False)


def _store(association: ClientAssociation, dataset: Dataset, name: str) -> AttemptRecord:
    try:
        status = association.store(dataset)
    except ConnectionError:
        return AttemptRecord(DeliveryEvent.TRY_AGAIN, "the association was lost before this object", reached=False)
    if status is None:
        # Perhaps stored, perhaps not: its UID is derived, so sending it again is harmless.
        return AttemptRecord(DeliveryEvent.TRY_AGAIN, "no answer: outcome unknown")
    result = result_of_status(status)
    return not_accepted(name, dataset, result) if result.event is DeliveryEvent.NOT_ACCEPTED else result


def _refused_context(association: ClientAssociation, dataset: Dataset, name: str) -> AttemptRecord | None:
    """Why the object is not sent: only what the destination accepted is."""
    refusal = association.refused_context(*_context(dataset))
    if refusal is None:
        if association.accepts(*_context(dataset)) or not association.established:
            return None
        return AttemptRecord(DeliveryEvent.TRY_AGAIN, "its presentation context was not answered")
    if refusal.permanent:
        return not_accepted(name, dataset, AttemptRecord(DeliveryEvent.NOT_ACCEPTED, f"{refusal.said}; not sent"))
    return AttemptRecord(DeliveryEvent.TRY_AGAIN, f"presentation context refused: {refusal.said}")
