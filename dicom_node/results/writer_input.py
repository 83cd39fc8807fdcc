"""What every writer of objects is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicom_node.results.result_identity import ResultIdentity
from dicom_node.settings import ResultSettings
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.phase import Phase, PhaseVerdict
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.delineation import Delineation

UNKNOWN_PHASE = PhaseVerdict(Phase.UNKNOWN, "")


@dataclass(frozen=True)
class WriterInput:
    """One delineation and everything that its objects say.

    Attributes:
        stack: The CT.
        delineation: What the engine found in it.
        identity: UIDs, numbers and descriptions.
        settings: How objects are written.
        folder: Where they are written.
        phase: The contrast phase, from text and image.
        written: The objects that were written before, for those that refer to them.
    """

    stack: CtStack
    delineation: Delineation
    identity: ResultIdentity
    settings: ResultSettings
    folder: Path
    phase: PhaseVerdict = UNKNOWN_PHASE
    written: tuple[WrittenObject, ...] = ()

    def path(self, kind: ObjectKind, number: int | None = None) -> Path:
        """The file of the kind's only object, or of the one that has this number in its series."""
        return self.folder / (f"{kind}.dcm" if number is None else f"{kind}-{number:03d}.dcm")
