"""The right of one process to work on one case."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one case until it runs out. owner: `str(process_identity.this_process())`."""

    case_id: str
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True)
class HeldCase:
    """A case that some process works on. owner, until (UTC): None where the row lacks them."""

    case_id: str
    attempt: int
    owner: str | None
    until: datetime | None
