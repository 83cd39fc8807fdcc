"""What the engine returns. Nothing later recomputes any of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_engine.volume import Grid, SignedDistance

Progress = Callable[[str, float], None]
"""Called with the stage's name and the share of it that is done, 0...1."""


def silent(stage: str, done: float) -> None:
    """Progress that nobody watches."""


class Verdict(StrEnum):
    """How far the result may be trusted without a look."""

    ACCEPT = "ACCEPT"
    REVIEW = "REVIEW"
    REJECT = "REJECT"


@dataclass(frozen=True, slots=True)
class Finding:
    """A number with a name and the limits within which it is unremarkable."""

    name: str
    value: float
    unit: str
    low: float
    high: float

    @property
    def remarkable(self) -> bool:
        """Outside its limits."""
        return not self.low <= self.value <= self.high


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the engine noticed about its own result (D7)."""

    items: tuple[Finding, ...]
    estimated_dsc: float
    verdict: Verdict
    reasons: tuple[str, ...]

    def value(self, name: str) -> float:
        """The number called `name`. Raises KeyError when there is none."""
        for item in self.items:
            if item.name == name:
                return item.value
        raise KeyError(name)


@dataclass(frozen=True)
class Delineation:
    """A liver surface found in a CT.

    field: signed distance in mm on its own isotropic grid, negative inside.
    mask: bool [K, J, I] on `ct_grid`, exactly `field < 0` interpolated there.
    mesh: the field's zero surface, closed, LPS mm.
    pose, loadings: where the shape model came to rest (canonical to image; PCA loadings in standard deviations).
    stage_seconds: wall time of each stage. bundle_digest: SHA-256 of the model bundle that made it.
    tissue_hu: median HU of named tissues (liver, aorta, spleen, ...) where they could be measured, for the phase gate.
    """

    field: SignedDistance
    ct_grid: Grid
    mask: npt.NDArray[np.bool_]
    mesh: TriangleMesh
    pose: Pose
    loadings: npt.NDArray[np.float32]
    findings: Findings
    stage_seconds: Mapping[str, float]
    bundle_digest: str
    bundle_name: str
    bundle_version: str
    tissue_hu: Mapping[str, float]

    @property
    def volume_ml(self) -> float:
        """Volume inside the mask."""
        return float(self.mask.sum() * self.ct_grid.voxel_ml)
