"""One case from its stack in the spool to proven objects. The worker and `dissm-node process` both run this."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from dicom_node.admit.phase_gate import gate_phase
from dicom_node.assemble.image_content import stack_digest
from dicom_node.assemble.volume import read_volume
from dicom_node.catalog.case_results import (
    CaseSource,
    DelineationRecord,
    case_source,
    end_case,
    note_delineation,
    note_proven,
)
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.leases import LeaseLost
from dicom_node.catalog.states import CaseEvent, CaseState
from dicom_node.dicom.header_reading import PARSE_ERRORS
from dicom_node.reasons import (
    LOSSY_SOURCE,
    NO_LIVER,
    RESULT_REJECTED,
    SERIES_INCOMPLETE,
    SPOOL_DAMAGED,
    UNEXPECTED_ERROR,
    NodeError,
    RefusalError,
    kind_and_place,
)
from dicom_node.results.proof import prove
from dicom_node.results.proof_request import ProofRequest
from dicom_node.results.source_values import empty_type_2, invalid_values
from dicom_node.results.write import write_results
from dicom_node.settings import Settings
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.lease import Lease
from dicom_node.values.phase import PhaseVerdict
from dicom_node.values.received import StoredInstance
from dicom_node.values.recorded_reason import RecordedReason
from dicom_node.values.results import CaseResults, Proof, WrittenObject
from dissm_engine.delineation import Delineation
from dissm_engine.errors import NO_ORGAN, NO_SURFACE, DelineationCancelled, DelineationError, DissmError
from dissm_engine.findings import Verdict
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

    recorder: the catalogue, as the process that works. cancellation: ends the work when it is requested.
    """

    recorder: Recorder
    settings: Settings
    engine: Engine
    lease: Lease
    progress: Progress
    cancellation: Cancellation


def process_case(work: CaseWork) -> CaseState:
    """Delineate the leased case, write its objects, prove them, and say how it ended.

    Every way it may end by reason (refused, failed, held, proven) is a state and an audit row. Raises LeaseLost
    when the case was taken away meanwhile, and DelineationCancelled when its cancellation was requested; errors
    without a reason escape.
    """
    try:
        source = _source(work)
        stack = _read_stack(work, source)
        delineation = _delineate(work, stack)
        phase = gate_phase(stack.headers, delineation.tissue_hu, work.settings.admit)
        doubts = _doubts(source, stack, phase)
        if not _note_delineation(work, source, stack, delineation, phase):
            return CaseState.HELD
        written = write_results(
            stack,
            delineation,
            work.settings.results,
            _results_folder(work),
            input_digest=stack_digest(stack.content_digests),
            created_at=source.created_at,
            mark=Verdict.REVIEW if doubts else None,
            doubts=doubts,
            phase=phase,
            kinds=work.settings.objects_made,
            revision=source.revision,
        )
        request = _proof_request(stack, delineation, written, doubts, phase)
        return _note_proven(work, stack, written, prove(request))
    except (LeaseLost, DelineationCancelled):
        raise
    except RefusalError as refusal:
        return _end(work, CaseEvent.NOT_ELIGIBLE, RecordedReason.of(refusal))
    except DissmError as problem:
        return _end(work, CaseEvent.BROKEN, RecordedReason.of(problem))


def fail_case(work: CaseWork, problem: Exception) -> CaseState:
    """End the case for an error that nobody foresaw.

    Its kind and the line it came from are recorded, never its text, which may hold what came from a header.
    Raises LeaseLost.
    """
    reason = RecordedReason(UNEXPECTED_ERROR.code, {"problem": kind_and_place(problem)})
    return _end(work, CaseEvent.BROKEN, reason)


def _source(work: CaseWork) -> CaseSource:
    with work.recorder.read() as view:
        return case_source(view, work.lease, process_all=work.settings.admit.process_all)


def _read_stack(work: CaseWork, source: CaseSource) -> CtStack:
    work.cancellation.raise_if_requested()
    work.progress("read", 0.0)
    spool = work.settings.node.spool
    for instance in source.instances:
        _check_bytes(spool / instance.path, instance)
    tilted = work.settings.assemble.gantry_tilt == "resample"
    return read_volume([spool / instance.path for instance in source.instances], allow_gantry_tilt=tilted)


def _check_bytes(file: Path, instance: StoredInstance) -> None:
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
        found = work.engine.delineate(stack.volume, work.progress, work.cancellation)
    except DelineationError as problem:
        if problem.reason in (NO_SURFACE, NO_ORGAN):
            raise RefusalError(NO_LIVER, evidence=problem.reason.say(**problem.facts)) from problem
        raise
    numbers = _image_numbers(stack)
    return found if numbers is None else replace(found, findings=found.findings.with_image_numbers(numbers))


def _image_numbers(stack: CtStack) -> tuple[int, ...] | None:
    """InstanceNumber of every slice, as viewers show it; None unless every slice has one of its own."""
    try:
        numbers = tuple(int(header.InstanceNumber) for header in stack.headers)
    except PARSE_ERRORS:
        return None
    return numbers if len(set(numbers)) == len(numbers) else None


def _note_delineation(
    work: CaseWork, source: CaseSource, stack: CtStack, found: Delineation, phase: PhaseVerdict
) -> bool:
    """Write down what the engine found; False when its result must not leave."""
    rejected = None
    if found.findings.verdict is Verdict.REJECT and not work.settings.results.send_rejected:
        said = "; ".join(found.findings.reasons) or "no finding is named"
        rejected = RecordedReason(RESULT_REJECTED.code, {"findings": said})
    doubts = _doubts(source, stack, phase)
    record = DelineationRecord(
        volume_ml=found.volume_ml,
        verdict=_stricter(found.findings.verdict, doubts=bool(doubts)),
        incomplete=source.incomplete,
        results=CaseResults.of(found, phase, doubts),
        input_digest=stack_digest(stack.content_digests),
        content_digests=_content_digests(source, stack),
        rejected=rejected,
    )
    with work.recorder.write() as tx:
        note_delineation(tx, work.lease, record)
    return rejected is None


def _content_digests(source: CaseSource, stack: CtStack) -> tuple[tuple[int, str], ...]:
    """By the id of the image; the stack's order is its own."""
    ids = {instance.sop_instance_uid: instance.id for instance in source.instances}
    uids = (str(header.SOPInstanceUID) for header in stack.headers)
    return tuple((ids[uid], digest) for uid, digest in zip(uids, stack.content_digests, strict=True))


def _doubts(source: CaseSource, stack: CtStack, phase: PhaseVerdict) -> tuple[str, ...]:
    """A series that may lack images or detail, and a phase that the engine was not made for, need a look: why."""
    doubts = []
    if source.incomplete:
        doubts.append(f"{SERIES_INCOMPLETE.say()}; {SERIES_INCOMPLETE.cure}")
    if any(_was_lossy(header) for header in stack.headers):
        doubts.append(f"{LOSSY_SOURCE.say()}; {LOSSY_SOURCE.cure}")
    if phase.needs_review:
        doubts.append(f"the contrast phase is {phase.phase}, the engine was made for the venous one")
    return tuple(doubts)


def _was_lossy(header: Dataset) -> bool:
    """LossyImageCompression stays 01 whatever the pixels are stored in afterwards (PS3.3 C.7.6.1.1.5)."""
    try:
        return str(header.get("LossyImageCompression") or "").strip() == "01"
    except PARSE_ERRORS:
        return False


def _stricter(engine: Verdict, *, doubts: bool) -> Verdict:
    """What the node doubts is looked at, however sure the engine is of itself."""
    return Verdict.REVIEW if engine is Verdict.ACCEPT and doubts else engine


def _results_folder(work: CaseWork) -> Path:
    folder = work.settings.node.spool / "results" / work.lease.case_id / str(work.lease.attempt)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _proof_request(
    stack: CtStack,
    found: Delineation,
    written: tuple[WrittenObject, ...],
    doubts: tuple[str, ...],
    phase: PhaseVerdict,
) -> ProofRequest:
    """What the objects have to show: reasons only where a person should look."""
    mark = _stricter(found.findings.verdict, doubts=bool(doubts))
    reasons = () if mark is Verdict.ACCEPT else (*found.findings.reasons, *doubts)
    return ProofRequest(stack, found, ProofRequest.files_of(written), mark, reasons, phase.phase)


def _note_proven(work: CaseWork, stack: CtStack, written: tuple[WrittenObject, ...], proof: Proof) -> CaseState:
    # Results are copied from the first header.
    empty, invalid = empty_type_2(stack.headers[0]), invalid_values(stack.headers[0])
    spool = work.settings.node.spool
    with work.recorder.write() as tx:
        return note_proven(tx, work.lease, spool, written, proof, empty, invalid)


def _end(work: CaseWork, event: CaseEvent, reason: RecordedReason) -> CaseState:
    with work.recorder.write() as tx:
        return end_case(tx, work.lease, event, reason)
