"""What a destination's answer means for the outbox (PS3.4 B.2.3, PS3.7 annex C; C8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeliveryOutcome(StrEnum):
    """What is done next with an object that was offered to a destination."""

    DELIVERED = "DELIVERED"
    DELIVERED_WITH_WARNING = "DELIVERED_WITH_WARNING"
    TRY_AGAIN = "TRY_AGAIN"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Answer:
    """One destination's answer to one object.

    status: the C-STORE status; None where none came. said: the answer in words, without patient data.
    reached: an association stood, so that the object had its chance; False makes the whole destination wait.
    """

    outcome: DeliveryOutcome
    said: str
    status: int | None = None
    reached: bool = True


# PS3.4 table B.2-1 and PS3.7 annex C: (first, last status) -> outcome, words. The first row that fits decides.
_MEANINGS: tuple[tuple[int, int, DeliveryOutcome, str], ...] = (
    (0x0000, 0x0000, DeliveryOutcome.DELIVERED, "stored"),
    (0x0001, 0x0001, DeliveryOutcome.DELIVERED_WITH_WARNING, "stored with a warning"),
    (0x0107, 0x0107, DeliveryOutcome.DELIVERED_WITH_WARNING, "stored with a warning about attributes"),
    # UIDs are derived from the inputs (C8): what lies there under this UID is this object.
    (0x0111, 0x0111, DeliveryOutcome.DELIVERED_WITH_WARNING, "already there"),
    (0x0116, 0x0116, DeliveryOutcome.DELIVERED_WITH_WARNING, "stored with a warning about a value"),
    (0x0117, 0x0117, DeliveryOutcome.REFUSED, "invalid SOP instance"),
    (0x0118, 0x0118, DeliveryOutcome.REFUSED, "no such SOP class"),
    (0x0119, 0x0119, DeliveryOutcome.REFUSED, "class and instance conflict"),
    (0x0122, 0x0122, DeliveryOutcome.REFUSED, "SOP class not supported"),
    (0x0124, 0x0124, DeliveryOutcome.REFUSED, "not authorised"),
    (0x0211, 0x0212, DeliveryOutcome.REFUSED, "the request is not understood"),
    (0xA700, 0xA7FF, DeliveryOutcome.TRY_AGAIN, "out of resources"),
    (0xA900, 0xA9FF, DeliveryOutcome.REFUSED, "data set does not match its SOP class"),
    (0xB000, 0xBFFF, DeliveryOutcome.DELIVERED_WITH_WARNING, "stored with a warning"),
    (0xC000, 0xCFFF, DeliveryOutcome.REFUSED, "cannot understand the object"),
    # Processing failures, and codes that nobody knows: perhaps better later.
    (0x0000, 0xFFFF, DeliveryOutcome.TRY_AGAIN, "failed"),
)


def result_of_status(status: int) -> Answer:
    """What a C-STORE status (0...0xFFFF) means for the object that was offered."""
    outcome, words = next((outcome, words) for low, high, outcome, words in _MEANINGS if low <= status <= high)
    said = words if outcome is DeliveryOutcome.DELIVERED else f"{words} (0x{status:04X})"
    return Answer(outcome, said, status)
