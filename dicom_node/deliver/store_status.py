"""What a destination's answer means for the outbox (PS3.4 B.2.3, PS3.7 annex C, PS3.18 10.5.3; C8)."""

from __future__ import annotations

from dataclasses import replace

from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.catalog.deliveries import AttemptRecord
from dicom_node.catalog.states import DeliveryEvent
from dicom_node.dicom.web_client import WebAnswer

# PS3.4 table B.2-1 and PS3.7 annex C: (first, last status) -> event, words. The first row that fits decides.
_MEANINGS: tuple[tuple[int, int, DeliveryEvent, str], ...] = (
    (0x0000, 0x0000, DeliveryEvent.DELIVERED, "stored"),
    (0x0001, 0x0001, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning"),
    (0x0107, 0x0107, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning about attributes"),
    # UIDs are derived from the inputs (C8): what lies there under this UID is this object.
    (0x0111, 0x0111, DeliveryEvent.DELIVERED_WITH_WARNING, "already there"),
    (0x0116, 0x0116, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning about a value"),
    (0x0117, 0x0117, DeliveryEvent.REFUSED, "invalid SOP instance"),
    (0x0118, 0x0118, DeliveryEvent.NOT_ACCEPTED, "no such SOP class"),
    (0x0119, 0x0119, DeliveryEvent.REFUSED, "class and instance conflict"),
    (0x0122, 0x0122, DeliveryEvent.NOT_ACCEPTED, "SOP class not supported"),
    (0x0124, 0x0124, DeliveryEvent.REFUSED, "not authorised"),
    (0x0211, 0x0212, DeliveryEvent.REFUSED, "the request is not understood"),
    (0xA700, 0xA7FF, DeliveryEvent.TRY_AGAIN, "out of resources"),
    (0xA900, 0xA9FF, DeliveryEvent.REFUSED, "data set does not match its SOP class"),
    (0xB000, 0xBFFF, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning"),
    (0xC000, 0xCFFF, DeliveryEvent.REFUSED, "cannot understand the object"),
    # Processing failures, and codes that nobody knows: perhaps better later.
    (0x0000, 0xFFFF, DeliveryEvent.TRY_AGAIN, "failed"),
)


def result_of_status(status: int) -> AttemptRecord:
    """What a C-STORE status (0...0xFFFF) means for the object that was offered."""
    event, words = next((event, words) for low, high, event, words in _MEANINGS if low <= status <= high)
    said = words if event is DeliveryEvent.DELIVERED else f"{words} (0x{status:04X})"
    return AttemptRecord(event, said, status)


_SYNTAX_NOT_SUPPORTED = 0xC122
"""A failure reason of STOW-RS alone (PS3.18 table I.2-2)."""

# PS3.18 table 10.5.3-1 and RFC 9110, for answers that list nothing about the object: (first, last HTTP status) ->
# event, whether the service itself was reached, words. The first row that fits decides.
_HTTP_MEANINGS: tuple[tuple[int, int, DeliveryEvent, bool, str], ...] = (
    # A portal's or proxy's page, or an empty one: nobody said that it was stored.
    (200, 299, DeliveryEvent.TRY_AGAIN, True, "the answer does not name the object: outcome unknown"),
    # The settings may be mended, the token renewed, the service behind a gateway started.
    (300, 399, DeliveryEvent.TRY_AGAIN, False, "sent elsewhere: correct the url"),
    (401, 401, DeliveryEvent.TRY_AGAIN, False, "not authorised: look at the token or password"),
    (404, 404, DeliveryEvent.TRY_AGAIN, False, "no such service: correct the url"),
    (407, 407, DeliveryEvent.TRY_AGAIN, False, "a proxy wants to know who we are"),
    (429, 429, DeliveryEvent.TRY_AGAIN, False, "too many requests"),
    (502, 504, DeliveryEvent.TRY_AGAIN, False, "not available"),
    (408, 408, DeliveryEvent.TRY_AGAIN, True, "the request took too long"),
    (425, 425, DeliveryEvent.TRY_AGAIN, True, "too early"),
    (403, 403, DeliveryEvent.REFUSED, True, "not permitted"),
    (409, 409, DeliveryEvent.REFUSED, True, "in conflict with what is there"),
    (413, 413, DeliveryEvent.REFUSED, True, "the object is too large"),
    (415, 415, DeliveryEvent.NOT_ACCEPTED, True, "media type or transfer syntax not supported"),
    (501, 501, DeliveryEvent.REFUSED, True, "does not store"),
    (505, 505, DeliveryEvent.REFUSED, True, "another version of HTTP"),
    (400, 499, DeliveryEvent.REFUSED, True, "the request is refused"),
    (0, 999, DeliveryEvent.TRY_AGAIN, True, "failed"),
)


def result_of_web_answer(answer: WebAnswer) -> AttemptRecord:
    """What the answer to STOW-RS means for the object that was posted.

    What it lists about the object counts first: its failure reasons and warnings are the statuses of C-STORE, and mean
    the same. Else the HTTP status decides. Only what is listed as stored is delivered.
    """
    if answer.failure is not None:
        if answer.failure == _SYNTAX_NOT_SUPPORTED:
            return AttemptRecord(DeliveryEvent.NOT_ACCEPTED, "transfer syntax not supported (0xC122)", answer.failure)
        result = result_of_status(answer.failure)
        failed = result.event not in (DeliveryEvent.DELIVERED, DeliveryEvent.DELIVERED_WITH_WARNING)
        # "Already there" (0x0111) may come as a failure; any other success among failures is nobody's answer.
        return result if failed or answer.failure == 0x0111 else replace(result, event=DeliveryEvent.TRY_AGAIN)
    if answer.stored and 200 <= answer.http_status <= 299:
        if answer.warning is None:
            return result_of_status(0x0000)
        said = f"stored with a warning (0x{answer.warning:04X})"
        return AttemptRecord(DeliveryEvent.DELIVERED_WITH_WARNING, said, answer.warning)
    event, reached, words = next(
        (event, reached, words)
        for low, high, event, reached, words in _HTTP_MEANINGS
        if low <= answer.http_status <= high
    )
    return AttemptRecord(event, f"{words} (HTTP {answer.http_status})", reached=reached)


def not_accepted(destination: str, dataset: Dataset, why: AttemptRecord) -> AttemptRecord:
    """The same answer, said as `show` says it: who does not accept what."""
    return replace(why, said=f"{destination} does not accept {UID(dataset.SOPClassUID).name}: {why.said}")
