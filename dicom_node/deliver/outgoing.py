"""An object on its way to a destination, whichever way it goes there."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset, dcmread


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
