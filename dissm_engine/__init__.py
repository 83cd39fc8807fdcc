"""The engine: finds the liver in a CT by a deep implicit statistical shape model (DISSM).

The names below are the public API. They are loaded when they are first used, so that importing this package, or
`dissm_engine.errors`, costs nothing; the first use of `Bundle` or `Delineator` loads torch.

Examples:
    >>> from dissm_engine import Bundle, Volume
    >>> Bundle.load().manifest.organ
    'liver'
    >>> import numpy as np
    >>> affine = np.diag([0.8, 0.8, 2.5, 1.0])
    >>> Volume(np.zeros((4, 3, 2), dtype=np.int16), affine).grid.spacing.tolist()
    [0.8, 0.8, 2.5]

    `Delineator(Bundle.load()).delineate(volume)` returns a `Delineation`: field, mask, mesh and findings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dissm_engine.arithmetic import Arithmetic
    from dissm_engine.bundle import Bundle
    from dissm_engine.delineation import Delineation
    from dissm_engine.delineator import Delineator
    from dissm_engine.errors import DissmError, Reason, all_reasons
    from dissm_engine.findings import Finding, Findings, Place, Side, Verdict
    from dissm_engine.mesh import TriangleMesh
    from dissm_engine.progress import Cancellation, Progress
    from dissm_engine.trained_model import TrainedModel
    from dissm_engine.volume import Grid, ScalarField, SignedDistance, Volume

__all__ = [
    "Arithmetic",
    "Bundle",
    "Cancellation",
    "Delineation",
    "Delineator",
    "DissmError",
    "Finding",
    "Findings",
    "Grid",
    "Place",
    "Progress",
    "Reason",
    "ScalarField",
    "Side",
    "SignedDistance",
    "TrainedModel",
    "TriangleMesh",
    "Verdict",
    "Volume",
    "all_reasons",
]

_MODULES = {
    "arithmetic": ("Arithmetic",),
    "bundle": ("Bundle",),
    "delineation": ("Delineation",),
    "delineator": ("Delineator",),
    "errors": ("DissmError", "Reason", "all_reasons"),
    "findings": ("Finding", "Findings", "Place", "Side", "Verdict"),
    "mesh": ("TriangleMesh",),
    "progress": ("Cancellation", "Progress"),
    "trained_model": ("TrainedModel",),
    "volume": ("Grid", "ScalarField", "SignedDistance", "Volume"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
