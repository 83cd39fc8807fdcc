"""What every prover is given: the CT, what the engine found, and what the objects have to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.reasons import OBJECT_NOT_PROVEN, SEG_NOT_ON_CT, ProofError
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.object_kinds import OBJECT_KINDS
from dicom_node.values.phase import Phase
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.delineation import Delineation
from dissm_engine.errors import Reason
from dissm_engine.findings import Verdict

COPIED_FROM_SOURCE = (
    *("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
"""Patient and study of every object are the CT's (PS3.3 C.7.1.1, C.7.2.1). The writers have a list of their own."""
UNREADABLE = (InvalidDicomError, OSError, AttributeError, KeyError, TypeError, ValueError, IndexError)
"""What reading an object that is not one may raise."""


@dataclass(frozen=True)
class ProofRequest:
    """The files of one case and what they are held against.

    Attributes:
        stack: The CT.
        delineation: What the engine found in it.
        files: Every object's file by its kind, in the order of the series.
        mark: The verdict that the objects have to show: the stricter one of the engine's and the node's.
        reasons: Why a person should look, in sentences; empty where the mark is ACCEPT.
        phase: The contrast phase that the objects have to show.
    """

    stack: CtStack
    delineation: Delineation
    files: Mapping[ObjectKind, tuple[Path, ...]]
    mark: Verdict = Verdict.ACCEPT
    reasons: tuple[str, ...] = ()
    phase: Phase = Phase.UNKNOWN

    @staticmethod
    def files_of(written: Sequence[WrittenObject]) -> dict[ObjectKind, tuple[Path, ...]]:
        """The written objects' files by kind."""
        return {
            kind: paths for kind in OBJECT_KINDS if (paths := tuple(item.path for item in written if item.kind is kind))
        }


@dataclass(frozen=True)
class ProvenMask:
    """The SEG as it was read back from the disk and found to lie on the CT: what further objects are held against.

    Attributes:
        inside: bool [K, J, I] on the CT's grid.
        seg: The SEG's data set.
    """

    inside: npt.NDArray[np.bool_]
    seg: Dataset

    @cached_property
    def voxels(self) -> npt.NDArray[np.int64]:
        """The indices [N, 3] (k, j, i) of the voxels inside, slice by slice."""
        found = []
        for k in np.flatnonzero([plane.any() for plane in self.inside]):
            j, i = np.nonzero(self.inside[k])
            found.append(np.stack([np.full(len(j), k), j, i], axis=1))
        return np.concatenate(found)


def read_object(kind: ObjectKind, path: Path, stack: CtStack) -> Dataset:
    """Read one object back; it is of its class and of the CT's patient and study. Raises ProofError."""
    try:
        dataset = dcmread(path)
        is_kind = dataset.get("SOPClassUID") == OBJECT_KINDS[kind].sop_class_uid
    except UNREADABLE as problem:
        raise ProofError(OBJECT_NOT_PROVEN, kind=kind, problem=f"unreadable ({type(problem).__name__})") from problem
    require(is_kind, kind, "it is of another SOP class")
    changed = changed_attributes(dataset, stack.headers[0], COPIED_FROM_SOURCE)
    require(not changed, kind, f"{', '.join(changed)} differ from the CT's")
    return dataset


def require(holds: bool, kind: ObjectKind, otherwise: str) -> None:
    """Raises ProofError(OBJECT_NOT_PROVEN) with `otherwise` unless it holds."""
    if not holds:
        raise ProofError(OBJECT_NOT_PROVEN, kind=kind, problem=otherwise)


def require_source_images(dataset: Dataset, stack: CtStack, reason: Reason = SEG_NOT_ON_CT) -> None:
    """Patient, study, frame of reference and the images of ReferencedSeriesSequence are the CT's. Raises ProofError.

    Facts name attributes, no values.
    """
    source = stack.headers[0]
    changed = changed_attributes(dataset, source, (*COPIED_FROM_SOURCE, "FrameOfReferenceUID"))
    if changed:
        raise ProofError(reason, problem=f"{', '.join(changed)} differ from the CT's")
    series = dataset.get("ReferencedSeriesSequence") or []
    named = {str(item.ReferencedSOPInstanceUID) for one in series for item in one.ReferencedInstanceSequence}
    same_series = [str(one.SeriesInstanceUID) for one in series] == [str(source.SeriesInstanceUID)]
    if not same_series or named != {str(header.SOPInstanceUID) for header in stack.headers}:
        raise ProofError(reason, problem="ReferencedSeriesSequence does not name the CT's images")


def changed_attributes(dataset: Dataset, source: Dataset, keywords: Sequence[str]) -> list[str]:
    """The attributes whose text is not the source's; an absent one counts as empty."""
    return [keyword for keyword in keywords if _text(dataset, keyword) != _text(source, keyword)]


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value)
