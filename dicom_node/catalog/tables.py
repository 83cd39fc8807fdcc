"""The tables of the catalogue. No patient data: UIDs, digests, paths, states, numbers.

What a person looks a study up by (accession number, patient id) stands here as keyed digests only; the key lies in a
file of its own beside the database.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from dicom_node.catalog.states import CaseState, DeliveryState, SeriesState
from dicom_node.values.phase import Phase
from dicom_node.values.received import AssociationEnd, Completeness, InstanceUse
from dicom_node.values.results import ObjectKind
from dissm_engine.findings import Verdict

Json = dict[str, Any]
"""A column of JSON, as SQLAlchemy hands it over; the modules beside this one make typed values of it."""
# Every constraint has a name, so that a later migration can change it on SQLite and on PostgreSQL.
_NAMES = {
    "ix": "%(table_name)s_%(column_0_name)s",
    "uq": "%(table_name)s_%(column_0_name)s_once",
    "fk": "%(table_name)s_%(column_0_name)s_exists",
    "pk": "%(table_name)s_key",
}


def _stored(kind: type[StrEnum]) -> Enum:
    """An enum as text of at most 16 characters: its values are checked here, not by the database."""
    return Enum(
        kind,
        native_enum=False,
        length=16,
        validate_strings=True,
        values_callable=lambda members: [member.value for member in members],
    )


class Table(DeclarativeBase):
    """Base of every table. Times are UTC, stored without a zone."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {Json: JSON, list[Any]: JSON, datetime: DateTime(timezone=False)}  # noqa: RUF012


class Association(Table):
    """One DICOM association that brought instances."""

    __tablename__ = "associations"
    id: Mapped[int] = mapped_column(primary_key=True)
    calling_ae: Mapped[str] = mapped_column(String(16))
    called_ae: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    ended: Mapped[AssociationEnd | None] = mapped_column(_stored(AssociationEnd))
    stored: Mapped[int] = mapped_column(default=0)
    process_id: Mapped[int] = mapped_column(default=0)


class Study(Table):
    """A study of which something was decided."""

    __tablename__ = "studies"
    study_instance_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    choice_due: Mapped[bool] = mapped_column(index=True)
    """A case of it ended: which of its stacks gives the answer is asked again."""


class Series(Table):
    """A series as it came from one sender."""

    __tablename__ = "series"
    id: Mapped[int] = mapped_column(primary_key=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), unique=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    state: Mapped[SeriesState] = mapped_column(_stored(SeriesState), index=True)
    revision: Mapped[int] = mapped_column(default=1)
    """Grows when a slice comes after the series had settled."""
    calling_ae: Mapped[str] = mapped_column(String(16))
    first_received_at: Mapped[datetime]
    last_received_at: Mapped[datetime] = mapped_column(index=True)
    completeness: Mapped[Completeness | None] = mapped_column(_stored(Completeness))
    reason_code: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[Json] = mapped_column(default=dict)
    image_count: Mapped[int] = mapped_column(default=0)
    """Images in use, kept up with every image: counting rows would cost more with every one that is there."""
    quarantined_count: Mapped[int] = mapped_column(default=0)
    """Images with another content under a known UID, and those that wait for the comparison; duplicates are none."""
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    """Of all its files but those of duplicates, also of those in quarantine."""
    process_now: Mapped[bool] = mapped_column(default=False)
    """A person does not want its present revision to wait for anything."""
    patient_digest: Mapped[str | None] = mapped_column(String(64), index=True)
    """Keyed digest of its PatientID; empty where it has none, None where nobody has looked yet."""
    accession_digest: Mapped[str | None] = mapped_column(String(64), index=True)
    """Keyed digest of its AccessionNumber, likewise."""
    invalid_code: Mapped[str | None] = mapped_column(String(64))
    """Why no image of it is used: it came under another patient, too. None for all others."""
    instances: Mapped[list[Instance]] = relationship(back_populates="series")
    stacks: Mapped[list[Stack]] = relationship(back_populates="series")


class Instance(Table):
    """One stored SOP instance; its bytes lie in the spool exactly as they came."""

    __tablename__ = "instances"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "digest", name="instance_once"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    association_id: Mapped[int | None] = mapped_column(ForeignKey("associations.id"), index=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 (hex) of the file in the spool."""
    path: Mapped[str] = mapped_column(String(255))
    """Relative to the spool; named by our own counter, never by a UID as sent."""
    size: Mapped[int]
    received_at: Mapped[datetime]
    use: Mapped[InstanceUse] = mapped_column(_stored(InstanceUse), index=True, default=InstanceUse.IN_USE)
    content_digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 (hex) of what it holds, whatever transfer syntax it is stored in; written by whoever decoded it first."""
    comparisons: Mapped[int] = mapped_column(default=0)
    """How often its content was begun to be compared; more than once only where a process ended meanwhile."""
    comparison_until: Mapped[datetime | None]
    """Until then it is somebody's who compares it."""
    series: Mapped[Series] = relationship(back_populates="instances")


class Stack(Table):
    """One geometrically consistent stack of a series and the decision about it."""

    __tablename__ = "stacks"
    id: Mapped[int] = mapped_column(primary_key=True)
    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), index=True)
    revision: Mapped[int]
    label: Mapped[str] = mapped_column(String(64))
    """What tells it from its siblings, for example `acquisition 2`."""
    admitted: Mapped[bool | None]
    """None: geometry accepted, eligibility not decided yet."""
    reason_code: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[Json] = mapped_column(default=dict)
    """The reason's facts: what `Reason.say` is filled with."""
    evidence: Mapped[list[Any]] = mapped_column(default=list)
    """Rule by rule: name, outcome (yes, no, unknown), what was seen. Read by `dissm-node explain`."""
    input_digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 over the sorted (SOP Instance UID, digest) pairs."""
    rank: Mapped[Json | None]
    """What the order of its study compares; None where it does not fit, or was decided by a release before 0.4."""
    series: Mapped[Series] = relationship(back_populates="stacks")
    images: Mapped[list[StackImage]] = relationship(back_populates="stack", order_by="StackImage.position")


class StackImage(Table):
    """An image of a stack. position: counts from zero along the slice normal (or as received, without a geometry)."""

    __tablename__ = "stack_images"
    stack_id: Mapped[int] = mapped_column(ForeignKey("stacks.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instances.id"), index=True)
    stack: Mapped[Stack] = relationship(back_populates="images")
    instance: Mapped[Instance] = relationship()


class RejectedImage(Table):
    """An image that its source withdrew by a rejection note (IHE IOCM); the image may come later, or never."""

    __tablename__ = "rejected_images"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "note_uid", name="rejected_once"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    code: Mapped[str] = mapped_column(String(16))
    """The note's title, such as 113001 (PS3.16 CID 7011)."""
    note_uid: Mapped[str] = mapped_column(String(64))
    """SOP Instance UID of the note."""
    received_at: Mapped[datetime]


class Case(Table):
    """One admitted stack on its way to its results."""

    __tablename__ = "cases"
    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    """Short random name; the only name of a case in logs, metrics and file names."""
    current: Mapped[bool] = mapped_column(default=False)
    """Its result is the answer for its study (or, where every stack is processed, its stack): only such are sent."""
    stack_id: Mapped[int] = mapped_column(ForeignKey("stacks.id"), index=True)
    state: Mapped[CaseState] = mapped_column(_stored(CaseState), index=True)
    reason_code: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[Json] = mapped_column(default=dict)
    attempt: Mapped[int] = mapped_column(default=0)
    """Grows with every lease, never reset: objects carry the attempt that made them."""
    attempts_forgiven: Mapped[int] = mapped_column(default=0)
    """Attempts before the last retry by a person; they do not count against `work.max_attempts`."""
    priority: Mapped[int] = mapped_column(default=0)
    """A queued case of a higher one is taken first."""
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    stage: Mapped[str | None] = mapped_column(String(32))
    """What the worker is doing now, for progress displays."""
    stage_done: Mapped[float] = mapped_column(Float, default=0.0)
    bundle_digest: Mapped[str | None] = mapped_column(String(64))
    phase: Mapped[Phase | None] = mapped_column(_stored(Phase))
    verdict: Mapped[Verdict | None] = mapped_column(_stored(Verdict))
    volume_ml: Mapped[float | None]
    results: Mapped[Json] = mapped_column(default=dict)
    """Stage seconds, findings, tissue HU, phase evidence."""
    stack: Mapped[Stack] = relationship()
    objects: Mapped[list[ResultObject]] = relationship(back_populates="case")


class ResultObject(Table):
    """One DICOM object made for a case, lying in the spool."""

    __tablename__ = "objects"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    attempt: Mapped[int]
    kind: Mapped[ObjectKind] = mapped_column(_stored(ObjectKind))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    series_instance_uid: Mapped[str | None] = mapped_column(String(64))
    """None in what releases before 0.4 made."""
    path: Mapped[str] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(64))
    proof: Mapped[Json] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    case: Mapped[Case] = relationship(back_populates="objects")


class Delivery(Table):
    """The outbox: one object for one destination."""

    __tablename__ = "deliveries"
    __table_args__ = (UniqueConstraint("object_id", "destination", name="delivery_once"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("objects.id"), index=True)
    destination: Mapped[str] = mapped_column(String(64))
    state: Mapped[DeliveryState] = mapped_column(_stored(DeliveryState), index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    reached: Mapped[bool] = mapped_column(default=True)
    """Whether the last attempt had an association; without one nothing is sent to the destination for a while."""
    failures: Mapped[int] = mapped_column(default=0)
    """Attempts over an association that stood which the destination failed or left without an answer."""
    next_attempt_at: Mapped[datetime] = mapped_column(index=True)
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(String(255))
    sent_at: Mapped[datetime | None]
    object: Mapped[ResultObject] = relationship()


class Process(Table):
    """Heartbeat of one process of the node."""

    __tablename__ = "processes"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    pid: Mapped[int]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    settings_digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 (hex) of the settings that it works with."""


class AuditRow(Table):
    """One link of the audit chain. UPDATE and DELETE are refused by triggers (C10)."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_subject", "subject_kind", "subject"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32))
    """UTC, ISO 8601 with microseconds, as hashed."""
    process: Mapped[str] = mapped_column(String(64))
    subject_kind: Mapped[str] = mapped_column(String(16))
    """node, association, series, case, object, delivery."""
    subject: Mapped[str] = mapped_column(String(64))
    event: Mapped[str] = mapped_column(String(48))
    from_state: Mapped[str | None] = mapped_column(String(16))
    to_state: Mapped[str | None] = mapped_column(String(16))
    reason_code: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[Json] = mapped_column(default=dict)
    previous_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
