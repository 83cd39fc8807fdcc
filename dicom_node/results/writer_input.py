"""What every writer of objects is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_node.results.mask_voxels import inside_voxels
from dicom_node.results.result_identity import ResultIdentity
from dicom_node.results.result_numbers import ResultNumbers
from dicom_node.settings import ResultSettings
from dicom_node.values.ct_stack import CtStack
from dicom_node.values.phase import Phase, PhaseVerdict
from dicom_node.values.results import ObjectKind, WrittenObject
from dissm_engine.delineation import Delineation

UNKNOWN_PHASE = PhaseVerdict(Phase.UNKNOWN, "")


@dataclass(frozen=True)
class MeasuredMask:
    """What several objects need of the mask, measured once and only where one of them does. The mask is not empty."""

    stack: CtStack
    delineation: Delineation

    @cached_property
    def points_lps(self) -> npt.NDArray[np.float64]:
        """The centres of the voxels inside, [N, 3] LPS mm."""
        return self.delineation.ct_grid.to_lps(self._voxels[:, ::-1])

    @cached_property
    def numbers(self) -> ResultNumbers:
        """The numbers that a person reads."""
        return ResultNumbers.of(self.stack, self.delineation, self._voxels, self.points_lps)

    @cached_property
    def _voxels(self) -> npt.NDArray[np.int64]:
        return inside_voxels(self.delineation.mask)


@dataclass(frozen=True)
class WriterInput:
    """One delineation and everything that its objects say.

    Attributes:
        stack: The CT.
        delineation: What the engine found in it.
        identity: UIDs, numbers and descriptions.
        settings: How objects are written.
        folder: Where they are written.
        measured: What was measured of the mask.
        phase: The contrast phase, from text and image.
        written: The objects that were written before, for those that refer to them.
    """

    stack: CtStack
    delineation: Delineation
    identity: ResultIdentity
    settings: ResultSettings
    folder: Path
    measured: MeasuredMask
    phase: PhaseVerdict = UNKNOWN_PHASE
    written: tuple[WrittenObject, ...] = ()

    def path(self, kind: ObjectKind, number: int | None = None) -> Path:
        """The file of the kind's only object, or of the one that has this number in its series."""
        return self.folder / (f"{kind}.dcm" if number is None else f"{kind}-{number:03d}.dcm")
