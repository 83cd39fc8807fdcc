"""What the listener takes in: who sent it, what it says it is, where its bytes lie, how its series ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class AssociationEnd(StrEnum):
    """How an association ended. LOST: with its connection, or with the process that had it."""

    RELEASED = "released"
    ABORTED = "aborted"
    LOST = "lost"


class Completeness(StrEnum):
    """Whether a settled series is whole (C3). VERIFIED: its sender's own count was asked for."""

    VERIFIED = "verified"
    ASSUMED = "assumed"
    INCOMPLETE = "incomplete"


class InstanceUse(StrEnum):
    """What a stored instance is good for. At most one instance of a SOP Instance UID is in use.

    WAITING becomes DUPLICATE or QUARANTINED by the comparison of contents; each of them may become IN_USE where the
    one in use was refused for its bytes and the same bytes come again, and the refused one is then QUARANTINED.
    """

    IN_USE = "in use"
    WAITING = "waiting"
    """Other bytes under a known SOP Instance UID: kept aside, and their content is not compared yet."""
    DUPLICATE = "duplicate"
    """The same content as the one in use, stored otherwise."""
    QUARANTINED = "quarantined"
    """Another content than the one in use, or one that cannot be compared: kept, never used."""


class StoreOutcome(StrEnum):
    """What became of an instance."""

    STORED = "stored"
    KNOWN = "known"
    """The same bytes were here already."""
    SET_ASIDE = "set aside"
    """Other bytes under a known SOP Instance UID: the first stays, unless it was refused for its bytes; whether they
    hold another content is found out later."""


@dataclass(frozen=True, slots=True)
class InstanceIdentity:
    """UIDs of one instance, each of them digits and dots only."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    patient_digest: str | None = None
    """Keyed digests of what a person looks it up by (`LookupKey`); empty where it has none, None without a key."""
    accession_digest: str | None = None


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A file that lies durably in the spool. path: relative to the spool. digest: SHA-256 (hex) of its bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who asked for an association. refused_contexts: SOP classes that were asked for and not accepted."""

    calling_ae: str
    called_ae: str
    address: str
    refused_contexts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AssociationSummary:
    """What an association left at its end.

    discarded: objects taken and dropped. refused: reason codes of images that were refused, each with its number.
    """

    ended: AssociationEnd
    discarded: int
    refused: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ReceivingSeries:
    """A series that is still being received, as the decision about its completeness needs it. Times are UTC.

    still_sent: an open association brought its latest image to this series. last_ended: how the association ended that
    brought its latest image; None while that is open, or where it came without one.
    """

    id: int
    calling_ae: str
    first_received_at: datetime
    last_received_at: datetime
    still_sent: bool
    last_ended: AssociationEnd | None


@dataclass(frozen=True, slots=True)
class RejectionNote:
    """A Key Object Selection by which a source withdraws images (IHE IOCM, PS3.16 CID 7011).

    code: of its title, such as 113001. images: pairs of SeriesInstanceUID and SOPInstanceUID.
    """

    sop_instance_uid: str
    code: str
    images: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An image in the spool.

    path: relative to the spool. digest: SHA-256 (hex) of the file. content_digest: of what it holds, whatever transfer
    syntax it is stored in; None where nobody needed it yet. rejected_by: the code of the rejection note that withdrew
    it; None for all others.
    """

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    path: str
    digest: str
    size: int
    use: InstanceUse
    content_digest: str | None = None
    rejected_by: str | None = None
