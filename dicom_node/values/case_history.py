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
    """One case.

    stage, stage_done: what its worker is doing now, and the share of it that is done. current: its result is the answer
    for its study (or, where every stack is processed, for its stack).
    """

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
    current: bool = False

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
            "current": self.current,
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
    """One DICOM object of a case.

    series_instance_uid: None in what releases before 0.4 made. proof: what was measured before it might leave.
    """

    kind: ObjectKind
    attempt: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str | None
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
            "series_instance_uid": self.series_instance_uid,
            "path": self.path,
            "digest": self.digest,
            "proof": self.proof,
            "deliveries": [delivery.to_json() for delivery in self.deliveries],
        }


_STANDINGS = {
    CaseState.PROVEN: "its result waits: a better series of the study is looked at first",
    CaseState.WITHDRAWN: "a better series of the study is looked at in its place",
    CaseState.SUPERSEDED: "another result is the answer for its study, or is to be",
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
    def to_delete(self) -> tuple[str, ...]:
        """What of its objects a person must delete, and where: they were replaced, and nothing withdraws them."""
        return tuple(
            f"at {to.destination} delete series {item.series_instance_uid} ({item.kind})"
            if item.series_instance_uid
            else f"at {to.destination} delete object {item.sop_instance_uid} ({item.kind})"
            for item in self.objects
            for to in item.deliveries
            if to.state is DeliveryState.TO_DELETE
        )

    @property
    def not_accepted(self) -> tuple[str, ...]:
        """What of its latest attempt a destination does not accept, so that it was not sent; each sentence once."""
        said = (
            to.last_error or f"{to.destination} does not accept {item.kind}"
            for item in self.objects
            for to in item.deliveries
            if item.attempt == self.case.attempt and to.state is DeliveryState.NOT_ACCEPTED
        )
        return tuple(dict.fromkeys(said))

    @property
    def standing(self) -> str:
        """What the case is for its study, in a sentence."""
        if self.case.current:
            return "its result is the answer for its study"
        return _STANDINGS.get(self.case.state, "it has no result for its study, or none yet")

    def to_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "standing": self.standing,
            "to_delete": list(self.to_delete),
            "not_accepted": list(self.not_accepted),
            **self.case.to_json(),
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
