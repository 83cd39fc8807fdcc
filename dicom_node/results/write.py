"""Everything that is made of one delineation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from dicom_node.results.captures.capture_writer import write_captures
from dicom_node.results.result_identity import ResultIdentity
from dicom_node.results.rtstruct_writer import write_rtstruct
from dicom_node.results.seg import write_seg
from dicom_node.results.sr_writer import write_sr
from dicom_node.results.stl_writer import write_stl
from dicom_node.results.surface.writer import write_surface
from dicom_node.results.writer_input import UNKNOWN_PHASE, MeasuredMask, WriterInput
from dicom_node.settings import ResultSettings
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.phase import PhaseVerdict
from dicom_node.values.results import ObjectKind, Revision, WrittenObject
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Verdict

__all__ = ["WRITERS", "WrittenObject", "write_results"]

WRITERS: Mapping[ObjectKind, Callable[[WriterInput], tuple[WrittenObject, ...]]] = {
    ObjectKind.SEG: write_seg,
    ObjectKind.SURFACE: write_surface,
    ObjectKind.CAPTURE: write_captures,
    ObjectKind.SR: write_sr,
    ObjectKind.RTSTRUCT: write_rtstruct,
    ObjectKind.STL: write_stl,
}
"""Who writes each kind. A writer leaves whole, durable files in the folder it is given."""


def write_results(
    stack: CtStack,
    delineation: Delineation,
    settings: ResultSettings,
    folder: Path,
    *,
    input_digest: str,
    created_at: datetime,
    mark: Verdict | None = None,
    doubts: tuple[str, ...] = (),
    phase: PhaseVerdict = UNKNOWN_PHASE,
    kinds: Sequence[ObjectKind] | None = None,
    revision: Revision | None = None,
) -> tuple[WrittenObject, ...]:
    """Write the objects; `prove` them before they leave.

    Args:
        stack: The CT.
        delineation: What the engine found in it.
        settings: How objects are written.
        folder: Where; made where it is missing.
        input_digest: SHA-256 (hex) of what the stack's images hold.
        created_at: The audit's time of the case (UTC); the same arguments write the same bytes.
        mark: REVIEW where the node is less sure than the engine.
        doubts: Why, in sentences; they stand in the objects beside the engine's own reasons.
        phase: The contrast phase, from text and image.
        kinds: What is written, the SEG among it; None: what the settings say.
        revision: None for the first answer of its study.

    Returns:
        What was written, in the order of writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = ResultIdentity.of(delineation, input_digest, settings, created_at, mark, doubts, revision)
    given = WriterInput(stack, delineation, identity, settings, folder, MeasuredMask(stack, delineation), phase)
    for kind in settings.objects_made() if kinds is None else kinds:
        given = replace(given, written=(*given.written, *WRITERS[kind](given)))
    return given.written
