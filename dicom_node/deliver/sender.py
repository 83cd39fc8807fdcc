"""The Storage SCU: offers objects to one destination over one association (C8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset, dcmread
from pynetdicom import AE
from pynetdicom.association import Association

from dicom_node.deliver.answers import Answer, Outcome, answer_to_store
from dicom_node.settings import Destination

_REJECTED_PERMANENT = 1
_SYNTAX_OR_CLASS_UNKNOWN = (3, 4)
"""PS3.8 table 9-18: abstract syntax not supported, transfer syntaxes not supported."""


@dataclass(frozen=True)
class Parcel:
    """One object on its way to one destination.

    delivery_id: its row in the outbox. content: the Part 10 file, as it was proven.
    """

    delivery_id: int
    content: bytes

    def dataset(self) -> Dataset:
        """The object with its file meta information, pixels undecoded."""
        return dcmread(BytesIO(self.content))


def send(destination: Destination, parcels: Sequence[Parcel]) -> Iterator[tuple[Parcel, Answer]]:
    """Offer each parcel in turn; yields every answer as it comes, one for each parcel.

    One presentation context for each pair of SOP class and transfer syntax that the objects have, so that the
    destination cannot choose a syntax they are not in. A lost association leaves the rest to be tried again.
    """
    objects = [(parcel, parcel.dataset()) for parcel in parcels]
    with _association(destination, [dataset for _, dataset in objects]) as association:
        failure = _failure_to_associate(association)
        for parcel, dataset in objects:
            yield parcel, failure or _offer(association, dataset)


@contextmanager
def _association(destination: Destination, datasets: Sequence[Dataset]) -> Iterator[Association]:
    """An association, established or not; released (or aborted, when the block breaks off) at the end."""
    entity = AE(ae_title=destination.calling_ae_title)
    entity.acse_timeout = entity.dimse_timeout = destination.timeout_seconds
    entity.network_timeout = entity.connection_timeout = destination.timeout_seconds
    for sop_class, syntax in sorted({_context(dataset) for dataset in datasets}):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(destination.host, destination.port, ae_title=destination.ae_title)
    try:
        yield association
        if association.is_established:
            association.release()
    finally:
        if association.is_established:
            association.abort()


def _context(dataset: Dataset) -> tuple[str, str]:
    return str(dataset.SOPClassUID), str(dataset.file_meta.TransferSyntaxUID)


def _failure_to_associate(association: Association) -> Answer | None:
    """Why nothing can be offered over this association; None where it stands or only contexts were refused."""
    if association.is_established or association.rejected_contexts:
        return None
    reply = association.acceptor.primitive
    if association.is_rejected and reply is not None:
        said = f"association {reply.result_str.lower()}: {reply.reason_str.lower()}"
        permanent = reply.result == _REJECTED_PERMANENT
        return Answer(Outcome.REFUSED if permanent else Outcome.TRY_AGAIN, said, reached=False)
    return Answer(Outcome.TRY_AGAIN, "no association: nothing answers there", reached=False)


def _offer(association: Association, dataset: Dataset) -> Answer:
    refused = _refused_context(association, dataset)
    if refused:
        return refused
    if not association.is_established:
        return Answer(Outcome.TRY_AGAIN, "the association was lost before this object", reached=False)
    status = association.send_c_store(dataset)
    if "Status" not in status:
        # Perhaps stored, perhaps not: its UID is derived, so sending it again is harmless.
        return Answer(Outcome.TRY_AGAIN, "no answer: outcome unknown", reached=association.is_established)
    return answer_to_store(int(status.Status))


def _refused_context(association: Association, dataset: Dataset) -> Answer | None:
    wanted = _context(dataset)
    for context in association.rejected_contexts:
        if (context.abstract_syntax, context.transfer_syntax[0]) == wanted:
            permanent = context.result in _SYNTAX_OR_CLASS_UNKNOWN
            said = f"presentation context refused: {context.status.lower()}"
            return Answer(Outcome.REFUSED if permanent else Outcome.TRY_AGAIN, said)
    return None
