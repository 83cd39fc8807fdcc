"""What one round of work writes about its case, as long as its lease holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from dicom_node.catalog import audit
from dicom_node.catalog.comparisons import note_contents
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.leases import end_lease, held_case
from dicom_node.catalog.predecessors import revision_of
from dicom_node.catalog.series import stored_instance
from dicom_node.catalog.states import CaseEvent, CaseState
from dicom_node.catalog.tables import Case, ResultObject
from dicom_node.catalog.transitions import advance_case
from dicom_node.values.lease import Lease
from dicom_node.values.received import Completeness, StoredInstance
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.results import CaseResults, ObjectKind, Proof, Revision, WrittenObject
from dissm_engine.findings import Verdict
from dissm_engine.json_value import JsonValue


@dataclass(frozen=True)
class CaseSource:
    """What the catalogue knows of a case's images.

    instances: in the order of the slices. created_at: of the case, UTC. incomplete: the sender broke off, or was still
    sending when the series was not waited for any longer (C3). revision: which answer it is, by what was sent before.
    """

    instances: tuple[StoredInstance, ...]
    created_at: datetime
    incomplete: bool
    revision: Revision


@dataclass(frozen=True)
class DelineationRecord:
    """What is written down as soon as a case is delineated.

    verdict: the stricter one of the engine's and the node's own doubts. input_digest: SHA-256 (hex) of what the images
    hold. content_digests: the same of each image, by its id. rejected: why nothing of it may leave.
    """

    volume_ml: float
    verdict: Verdict
    incomplete: bool
    results: CaseResults
    input_digest: str
    content_digests: tuple[tuple[int, str], ...]
    rejected: RecordedReason | None = None


@dataclass(frozen=True, slots=True)
class ProvenObject:
    """An object in the spool of a case that is proven. path: relative to the spool."""

    case_id: str
    kind: ObjectKind
    path: str


def case_source(view: View, lease: Lease, *, process_all: bool) -> CaseSource:
    """The images of a leased case. process_all: every stack has its own answer. Raises LeaseLost."""
    case = held_case(view, lease)
    return CaseSource(
        instances=tuple(stored_instance(image.instance) for image in case.stack.images),
        created_at=case.created_at,
        incomplete=case.stack.series.completeness == Completeness.INCOMPLETE,
        revision=revision_of(view.session, case, process_all=process_all),
    )


def note_delineation(tx: Transaction, lease: Lease, found: DelineationRecord) -> None:
    """The case is DELINEATED, and HELD at once where its result is rejected. Raises LeaseLost."""
    case = held_case(tx, lease)
    results = found.results
    note_contents(tx, found.content_digests)
    case.bundle_digest, case.phase, case.verdict = results.bundle_digest, results.phase.phase, found.verdict
    case.volume_ml = found.volume_ml
    case.results = dict(results.to_json())
    advance_case(
        tx,
        case,
        CaseEvent.FIELD_READY,
        volume_ml=round(found.volume_ml, 1),
        verdict=found.verdict.value,
        estimated_dsc=results.estimated_dsc,
        reasons=list(results.reasons),
        phase=results.phase.phase.value,
        incomplete=found.incomplete,
        bundle_digest=results.bundle_digest,
        input_digest=found.input_digest,
        arithmetic=results.arithmetic,
        seconds=dict(results.seconds),
    )
    if found.rejected is not None:
        end_lease(case)
        advance_case(tx, case, CaseEvent.RESULT_REJECTED, reason=found.rejected)


def note_proven(
    tx: Transaction,
    lease: Lease,
    spool: Path,
    written: Sequence[WrittenObject],
    proof: Proof,
    empty_in_source: Sequence[str],
    invalid_in_source: Sequence[str],
) -> CaseState:
    """The case's objects lie in the spool and were proven. Raises LeaseLost.

    empty_in_source: required attributes that the source has no value for. invalid_in_source: copied attributes whose
    value in the source is against the standard.
    """
    case = held_case(tx, lease)
    end_lease(case)
    numbers = proof.to_json()
    for item in written:
        tx.session.add(
            ResultObject(
                case_id=lease.case_id,
                attempt=lease.attempt,
                kind=item.kind,
                sop_class_uid=item.sop_class_uid,
                sop_instance_uid=item.sop_instance_uid,
                series_instance_uid=item.series_instance_uid,
                path=str(item.path.relative_to(spool)),
                digest=item.digest,
                proof=dict(numbers),
                created_at=audit.utc_now(),
            )
        )
    objects: dict[str, JsonValue] = {
        _name_among(item, written): {"sop_instance_uid": item.sop_instance_uid, "digest": item.digest}
        for item in written
    }
    advance_case(
        tx,
        case,
        CaseEvent.OBJECTS_PROVEN,
        proof=numbers,
        objects=objects,
        empty_in_source=list(empty_in_source),
        invalid_in_source=list(invalid_in_source),
    )
    return case.state


def _name_among(item: WrittenObject, written: Sequence[WrittenObject]) -> str:
    """The object's kind; numbered where the case has several of it."""
    of_kind = [other.path for other in written if other.kind is item.kind]
    return item.kind.value if len(of_kind) == 1 else f"{item.kind}-{of_kind.index(item.path) + 1}"


def end_case(tx: Transaction, lease: Lease, event: CaseEvent, reason: RecordedReason) -> CaseState:
    """The case ends without a result, for its reason. Raises LeaseLost."""
    case = held_case(tx, lease)
    end_lease(case)
    advance_case(tx, case, event, reason=reason)
    return case.state


def proven_objects(view: View) -> list[ProvenObject]:
    """The objects of the latest attempt of every case whose result is current and goes nowhere."""
    rows = view.session.execute(
        select(Case.id, ResultObject.kind, ResultObject.path)
        .join(ResultObject, ResultObject.case_id == Case.id)
        .where(Case.state == CaseState.PROVEN, Case.current, ResultObject.attempt == Case.attempt)
    )
    return [ProvenObject(*row) for row in rows]
