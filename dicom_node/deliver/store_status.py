"""What a destination's answer means for the outbox (PS3.4 B.2.3, PS3.7 annex C; C8)."""

from __future__ import annotations

from dicom_node.catalog.deliveries import AttemptRecord
from dicom_node.catalog.states import DeliveryEvent

STATUS_MEANINGS: tuple[tuple[int, int, DeliveryEvent, str], ...] = (
    (0x0000, 0x0000, DeliveryEvent.DELIVERED, "stored"),
    (0x0001, 0x0001, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning"),
    (0x0107, 0x0107, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning about attributes"),
    # UIDs are derived from the inputs (C8): what lies there under this UID is this object.
    (0x0111, 0x0111, DeliveryEvent.DELIVERED_WITH_WARNING, "already there"),
    (0x0116, 0x0116, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning about a value"),
    (0x0117, 0x0117, DeliveryEvent.REFUSED, "invalid SOP instance"),
    (0x0118, 0x0118, DeliveryEvent.REFUSED, "no such SOP class"),
    (0x0119, 0x0119, DeliveryEvent.REFUSED, "class and instance conflict"),
    (0x0122, 0x0122, DeliveryEvent.REFUSED, "SOP class not supported"),
    (0x0124, 0x0124, DeliveryEvent.REFUSED, "not authorised"),
    (0x0211, 0x0212, DeliveryEvent.REFUSED, "the request is not understood"),
    (0xA700, 0xA7FF, DeliveryEvent.TRY_AGAIN, "out of resources"),
    (0xA900, 0xA9FF, DeliveryEvent.REFUSED, "data set does not match its SOP class"),
    (0xB000, 0xBFFF, DeliveryEvent.DELIVERED_WITH_WARNING, "stored with a warning"),
    (0xC000, 0xCFFF, DeliveryEvent.REFUSED, "cannot understand the object"),
    # Processing failures, and codes that nobody knows: perhaps better later.
    (0x0000, 0xFFFF, DeliveryEvent.TRY_AGAIN, "failed"),
)
"""PS3.4 table B.2-1 and PS3.7 annex C: first and last status, event, words; the first row that fits decides."""


def result_of_status(status: int) -> AttemptRecord:
    """What a C-STORE status (0...0xFFFF) means for the object that was offered."""
    event, words = next((event, words) for low, high, event, words in STATUS_MEANINGS if low <= status <= high)
    said = words if event is DeliveryEvent.DELIVERED else f"{words} (0x{status:04X})"
    return AttemptRecord(event, said, status)
