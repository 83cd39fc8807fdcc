"""What the catalogue tells of a series or a case: records of one line, and whole histories. Times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dicom_node.catalog.states import CaseState, DeliveryState, SeriesState
from dicom_node.values.evidence import Evidence
from dicom_node.values.facts import Facts
from dicom_node.values.phase import Phase
from dicom_node.values.received import Completeness
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.results import CaseResults, ObjectKind
from dissm_engine.findings import Verdict
from dissm_engine.json_value import JsonValue


@dataclass(frozen=True)
class AuditEntry:
    """One row of the audit log; enough to recompute its hash elsewhere. at: UTC, ISO 8601, as hashed."""

    id: int
    at: str
    process: str
    subject_kind: str
    subject: str
    event: str
    from_state: str | None
    to_state: str | None
    reason_code: str | None
    facts: Facts
    previous_hash: str
    hash: str

    def to_json(self) -> Facts:
        """As `dissm-node audit export` writes it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class CaseRecord:
    """One case. stage, stage_done: what its worker is doing now, and the share of it that is done."""

    id: str
    state: CaseState
    reason: RecordedReason | None
    attempt: int
    stage: str | None
    stage_done: float
    phase: Phase | None
    verdict: Verdict | None
    volume_ml: float | None
    created_at: datetime
    changed_at: datetime
    series_instance_uid: str

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "case": self.id,
            "state": self.state.value,
            **_reason_as_json(self.reason),
            "attempt": self.attempt,
            "stage": self.stage,
            "stage_done": round(self.stage_done, 3),
            "phase": self.phase.value if self.phase else None,
            "verdict": self.verdict.value if self.verdict else None,
            "volume_ml": None if self.volume_ml is None else round(self.volume_ml, 1),
            "created_at": time_as_text(self.created_at),
            "changed_at": time_as_text(self.changed_at),
            "series_instance_uid": self.series_instance_uid,
        }


@dataclass(frozen=True)
class SeriesRecord:
    """One series. instances: images in use; quarantined: those kept aside."""

    series_instance_uid: str
    study_instance_uid: str
    state: SeriesState
    reason_code: str | None
    revision: int
    completeness: Completeness | None
    calling_ae: str
    instances: int
    quarantined: int
    first_received_at: datetime
    last_received_at: datetime

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "series_instance_uid": self.series_instance_uid,
            "study_instance_uid": self.study_instance_uid,
            "state": self.state.value,
            "reason_code": self.reason_code,
            "revision": self.revision,
            "completeness": self.completeness.value if self.completeness else None,
            "calling_ae": self.calling_ae,
            "instances": self.instances,
            "quarantined": self.quarantined,
            "first_received_at": time_as_text(self.first_received_at),
            "last_received_at": time_as_text(self.last_received_at),
        }


@dataclass(frozen=True)
class StackRecord:
    """One stack of a series and the decision about it. admitted: None as long as nothing is decided."""

    id: int
    label: str
    revision: int
    images: int
    admitted: bool | None
    reason: RecordedReason | None
    evidence: tuple[Evidence, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "stack": self.id,
            "label": self.label,
            "revision": self.revision,
            "images": self.images,
            "admitted": self.admitted,
            **_reason_as_json(self.reason),
            "evidence": [line.to_json() for line in self.evidence],
        }


@dataclass(frozen=True)
class DeliveryRecord:
    """One object on its way to one destination."""

    destination: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: datetime
    sent_at: datetime | None

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "destination": self.destination,
            "state": self.state.value,
            "attempts": self.attempts,
            "last_status": self.last_status,
            "last_error": self.last_error,
            "next_attempt_at": time_as_text(self.next_attempt_at),
            "sent_at": time_as_text(self.sent_at),
        }


@dataclass(frozen=True)
class ObjectRecord:
    """One DICOM object of a case. proof: the numbers measured before it might leave."""

    kind: ObjectKind
    attempt: int
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    digest: str
    proof: Facts
    deliveries: tuple[DeliveryRecord, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "kind": self.kind.value,
            "attempt": self.attempt,
            "sop_class_uid": self.sop_class_uid,
            "sop_instance_uid": self.sop_instance_uid,
            "path": self.path,
            "digest": self.digest,
            "proof": self.proof,
            "deliveries": [delivery.to_json() for delivery in self.deliveries],
        }


@dataclass(frozen=True)
class CaseHistory:
    """Everything about one case: series, stack, findings, objects, deliveries, audit.

    results: None as long as nothing was delineated.
    """

    case: CaseRecord
    bundle_digest: str | None
    results: CaseResults | None
    series: SeriesRecord
    stack: StackRecord
    objects: tuple[ObjectRecord, ...]
    audit: tuple[AuditEntry, ...]

    @property
    def sent_in_vain(self) -> tuple[str, ...]:
        """Where the images of the case are invalid: each object that a person must delete, and where it is."""
        if self.case.state is not CaseState.INVALID:
            return ()
        return tuple(
            f"delete at {to.destination}: {item.kind} {item.sop_instance_uid}"
            for item in self.objects
            for to in item.deliveries
            if to.sent_at is not None
        )

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            **self.case.to_json(),
            "to_delete_by_hand": list(self.sent_in_vain),
            "bundle_digest": self.bundle_digest,
            "results": self.results.to_json() if self.results else {},
            "series": self.series.to_json(),
            "stack": self.stack.to_json(),
            "objects": [item.to_json() for item in self.objects],
            "audit": [row.to_json() for row in self.audit],
        }


@dataclass(frozen=True)
class StackHistory:
    """One stack and the cases that were made of it."""

    stack: StackRecord
    cases: tuple[CaseRecord, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {**self.stack.to_json(), "cases": [case.to_json() for case in self.cases]}


@dataclass(frozen=True)
class SeriesHistory:
    """One series, its stacks rule by rule (the newest revision first), their cases, and its audit rows."""

    series: SeriesRecord
    stacks: tuple[StackHistory, ...]
    audit: tuple[AuditEntry, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            **self.series.to_json(),
            "stacks": [stack.to_json() for stack in self.stacks],
            "audit": [row.to_json() for row in self.audit],
        }


def time_as_text(moment: datetime | None) -> str | None:
    """ISO 8601 to the second; the catalogue's times are UTC."""
    return None if moment is None else moment.isoformat(timespec="seconds") + "Z"


def _reason_as_json(reason: RecordedReason | None) -> dict[str, JsonValue]:
    return {"reason_code": reason.code if reason else None, "reason": str(reason) if reason else None}
