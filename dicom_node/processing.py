"""One case from its stack in the spool to proven objects. The worker and `dissm-node process` both run this."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select

from dicom_node.admit.phase import gate_phase
from dicom_node.admit.phase_text import PhaseVerdict
from dicom_node.assemble.settle import INCOMPLETE
from dicom_node.assemble.volume import read_volume
from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseEvent, CaseState
from dicom_node.catalog.tables import Instance, ResultObject
from dicom_node.catalog.transitions import advance_case
from dicom_node.ct_stack import CtStack
from dicom_node.reasons import (
    NO_LIVER,
    RESULT_REJECTED,
    SERIES_INCOMPLETE,
    SPOOL_DAMAGED,
    NodeError,
    RefusalError,
    plain_facts,
)
from dicom_node.results.identity import ObjectKind
from dicom_node.results.modules import empty_type_2
from dicom_node.results.proof import Proof, prove
from dicom_node.results.write import WrittenObject, write_results
from dicom_node.settings import Settings
from dicom_node.work.lease import Lease, LeaseLost, end_lease, held_case
from dissm_engine.delineation import Delineation, Findings, Verdict
from dissm_engine.errors import NO_ORGAN, NO_SURFACE, DelineationCancelled, DelineationError, DissmError, Reason
from dissm_engine.progress import Cancellation, Progress
from dissm_engine.volume import Volume


class Engine(Protocol):
    """Anything that delineates a CT; in service `dissm_engine.delineator.Delineator`."""

    def delineate(self, volume: Volume, progress: Progress, cancellation: Cancellation) -> Delineation:
        """Raises DissmError; DelineationCancelled once `cancellation` is requested."""
        ...


@dataclass(frozen=True)
class CaseWork:
    """What one round of work on a case needs.

    process: the name that stands in the audit rows. cancellation: ends the work when it is requested.
    """

    catalog: Catalog
    settings: Settings
    engine: Engine
    lease: Lease
    process: str
    progress: Progress
    cancellation: Cancellation


def process_case(work: CaseWork) -> CaseState:
    """Delineate the leased case, write its objects, prove them, and say how it ended.

    Every way it may end by reason (refused, failed, held, proven) is a state and an audit row. Raises LeaseLost
    when the case was taken away meanwhile, and DelineationCancelled when its cancellation was requested; errors without
    a reason escape, and the worker that meets one stops.
    """
    try:
        source = _source(work)
        stack = _read_stack(work, source)
        delineation = _delineate(work, stack)
        phase = gate_phase(stack.headers, delineation.tissue_hu, work.settings.admit)
        if not _note_delineation(work, source, delineation, phase):
            return CaseState.HELD
        written = write_results(
            stack, delineation, work.settings.results, _results_folder(work), input_digest=source.input_digest,
            created_at=source.created_at, mark=Verdict.REVIEW if _doubts(source, phase) else None,
        )  # fmt: skip
        return _note_proven(work, stack, written, _prove(stack, delineation, written))
    except (LeaseLost, DelineationCancelled):
        raise
    except RefusalError as refusal:
        return _end(work, CaseEvent.NOT_ELIGIBLE, refusal.reason, plain_facts(refusal))
    except DissmError as problem:
        return _end(work, CaseEvent.BROKEN, problem.reason, plain_facts(problem))


@dataclass(frozen=True)
class _Source:
    """What the catalogue knows of a case's images, in the order that assembling gave them."""

    instances: tuple[Instance, ...]
    input_digest: str
    created_at: datetime
    incomplete: bool
    """The sender broke off, or was still sending at the hard cap (C3)."""


def _source(work: CaseWork) -> _Source:
    with work.catalog.read() as session:
        case = held_case(session, work.lease)
        ids = list(case.stack.instance_ids)
        found = {row.id: row for row in session.scalars(select(Instance).where(Instance.id.in_(ids)))}
        incomplete = case.stack.series.completeness == INCOMPLETE
        return _Source(tuple(found[number] for number in ids), case.stack.input_digest, case.created_at, incomplete)


def _read_stack(work: CaseWork, source: _Source) -> CtStack:
    work.cancellation.raise_if_requested()
    work.progress("read", 0.0)
    spool = work.settings.node.spool
    for instance in source.instances:
        _check_bytes(spool / instance.path, instance)
    return read_volume([spool / instance.path for instance in source.instances], work.settings.assemble.gantry_tilt)


def _check_bytes(file: Path, instance: Instance) -> None:
    """What was acknowledged to the sender is what is delineated. Raises NodeError."""
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        digest = ""
    if digest != instance.digest:
        raise NodeError(SPOOL_DAMAGED, instance=instance.sop_instance_uid)


def _delineate(work: CaseWork, stack: CtStack) -> Delineation:
    try:
        return work.engine.delineate(stack.volume, work.progress, work.cancellation)
    except DelineationError as problem:
        if problem.reason in (NO_SURFACE, NO_ORGAN):
            raise RefusalError(NO_LIVER, evidence=problem.reason.say(**problem.facts)) from problem
        raise


def _note_delineation(work: CaseWork, source: _Source, found: Delineation, phase: PhaseVerdict) -> bool:
    """Write down what the engine found; False when its result must not leave."""
    rejected = found.findings.verdict is Verdict.REJECT and not work.settings.results.send_rejected
    verdict = _stricter(found.findings.verdict, doubts=_doubts(source, phase))
    facts: dict[str, Any] = {
        "volume_ml": round(found.volume_ml, 1),
        "verdict": verdict,
        "estimated_dsc": _finite(found.findings.estimated_dsc),
        "phase": phase.phase,
        "incomplete": source.incomplete,
        "bundle_digest": found.bundle_digest,
        "seconds": _numbers(found.stage_seconds),
    }
    with work.catalog.write() as session:
        case = held_case(session, work.lease)
        case.bundle_digest, case.phase, case.verdict = found.bundle_digest, phase.phase, verdict
        case.volume_ml = found.volume_ml
        case.results = _results(source, found, phase)
        advance_case(session, case, CaseEvent.FIELD_READY, process=work.process, **facts)
        if rejected:
            end_lease(case)
            advance_case(
                session, case, CaseEvent.RESULT_REJECTED, process=work.process, reason=RESULT_REJECTED,
                findings="; ".join(found.findings.reasons) or "no finding is named",
            )  # fmt: skip
    return not rejected


def _doubts(source: _Source, phase: PhaseVerdict) -> bool:
    """A phase that the engine was not made for, or a series that may lack images, needs a look."""
    return phase.needs_review or source.incomplete


def _stricter(engine: Verdict, *, doubts: bool) -> Verdict:
    """What the node doubts is looked at, however sure the engine is of itself."""
    return Verdict.REVIEW if engine is Verdict.ACCEPT and doubts else engine


def _results_folder(work: CaseWork) -> Path:
    folder = work.settings.node.spool / "results" / work.lease.case_id / str(work.lease.attempt)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _prove(stack: CtStack, found: Delineation, written: tuple[WrittenObject, ...]) -> Proof:
    paths = {item.kind: item.path for item in written}
    return prove(stack, found, paths[ObjectKind.SEG], paths.get(ObjectKind.SURFACE))


def _note_proven(work: CaseWork, stack: CtStack, written: tuple[WrittenObject, ...], proof: Proof) -> CaseState:
    numbers = proof.to_json()
    with work.catalog.write() as session:
        case = held_case(session, work.lease)
        end_lease(case)
        for item in written:
            session.add(_object_row(work, item, numbers))
        advance_case(
            session, case, CaseEvent.OBJECTS_PROVEN, process=work.process, proof=numbers,
            objects={item.kind: {"sop_instance_uid": item.sop_instance_uid, "digest": item.digest} for item in written},
            empty_in_source=empty_type_2(stack.headers[0]),
        )  # fmt: skip
        return CaseState(case.state)


def _object_row(work: CaseWork, item: WrittenObject, proof: dict[str, Any]) -> ResultObject:
    return ResultObject(
        case_id=work.lease.case_id,
        attempt=work.lease.attempt,
        kind=item.kind,
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        path=str(item.path.relative_to(work.settings.node.spool)),
        digest=item.digest,
        proof=proof,
        created_at=audit.utc_now(),
    )


def _end(work: CaseWork, event: CaseEvent, reason: Reason, facts: dict[str, Any]) -> CaseState:
    with work.catalog.write() as session:
        case = held_case(session, work.lease)
        end_lease(case)
        advance_case(session, case, event, process=work.process, reason=reason, **facts)
        return CaseState(case.state)


def _results(source: _Source, found: Delineation, phase: PhaseVerdict) -> dict[str, Any]:
    findings = findings_as_json(found.findings)
    if source.incomplete:
        findings["reasons"].append(f"{SERIES_INCOMPLETE.say()}; {SERIES_INCOMPLETE.cure}")
    return {
        "seconds": _numbers(found.stage_seconds),
        "findings": findings,
        "tissue_hu": _numbers(found.tissue_hu),
        "phase": {"phase": phase.phase, "evidence": phase.evidence},
        "bundle": {"name": found.bundle_name, "version": found.bundle_version, "digest": found.bundle_digest},
    }


def findings_as_json(findings: Findings) -> dict[str, Any]:
    """The engine's findings as the case table keeps them; limits that are infinite become null."""
    items = [
        {
            "name": item.name, "value": _finite(item.value), "unit": item.unit, "low": _finite(item.low),
            "high": _finite(item.high), "remarkable": item.remarkable,
        }
        for item in findings.items
    ]  # fmt: skip
    return {
        "verdict": findings.verdict,
        "estimated_dsc": _finite(findings.estimated_dsc),
        "reasons": list(findings.reasons),
        "items": items,
    }


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None
