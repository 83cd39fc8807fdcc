"""Everything that is made of one delineation."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from dicom_node.results.result_identity import ResultIdentity
from dicom_node.results.seg import write_seg
from dicom_node.results.surface.writer import write_surface
from dicom_node.settings import ResultSettings
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.results import ObjectKind, Revision, WrittenObject
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Verdict

__all__ = ["WrittenObject", "write_results"]


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
    revision: Revision | None = None,
) -> tuple[WrittenObject, ...]:
    """Write the SEG and, where the settings ask for it, the Surface Segmentation; `prove` them before they leave.

    input_digest: the catalogue's digest of the stack's images. created_at: the audit's time of the case (UTC); the
    same arguments write the same bytes. mark: REVIEW where the node is less sure than the engine. doubts: why, in
    sentences; they stand in the objects beside the engine's own reasons. revision: None for the first answer of its
    study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identity = ResultIdentity.of(delineation, input_digest, settings, created_at, mark, doubts, revision)
    written = [write_seg(stack, delineation, identity, settings, folder / f"{ObjectKind.SEG}.dcm")]
    if settings.surface:
        written.append(write_surface(stack, delineation, identity, folder / f"{ObjectKind.SURFACE}.dcm"))
    return tuple(written)
