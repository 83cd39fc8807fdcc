"""One small tree of errors; every one carries a `Reason` that is declared once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was refused or failed.

    code: stable identifier, upper case, as it stands in the audit log and in `docs/operations.md`.
    sentence: what was found, a `str.format` template over the facts given with it.
    cure: what the reader can do about it.
    """

    code: str
    sentence: str
    cure: str

    def say(self, **facts: object) -> str:
        """The sentence with its facts filled in."""
        return self.sentence.format(**facts)


class DissmError(Exception):
    """Base of every error this project raises on purpose."""

    def __init__(self, reason: Reason, **facts: object) -> None:
        self.reason = reason
        self.facts = facts
        super().__init__(f"{reason.say(**facts)}; {reason.cure}")


class GeometryError(DissmError):
    """An array, grid or mesh whose geometry cannot be used."""


class BundleError(DissmError):
    """A model bundle that is missing, broken or not what its manifest says."""


class DelineationError(DissmError):
    """The engine could not produce a surface from this volume."""


VOLUME_NOT_3D = Reason(
    "VOLUME_NOT_3D",
    "a volume must be an array [K, J, I], got shape {shape}",
    "pass slices, rows, columns",
)
VOLUME_NOT_FINITE = Reason(
    "VOLUME_NOT_FINITE",
    "the volume holds {count} values that are not finite",
    "look at the rescale slope and intercept of the source",
)
AFFINE_SINGULAR = Reason(
    "AFFINE_SINGULAR",
    "the affine from voxels to LPS millimetres is not invertible",
    "look at spacing and orientation of the source",
)
MESH_NOT_CLOSED = Reason(
    "MESH_NOT_CLOSED",
    "the surface is not closed ({edges} open edges)",
    "repair the mesh before it is used as a solid",
)
NO_ORGAN = Reason(
    "NO_ORGAN",
    "what was found is not the organ: {evidence}",
    "look at the case: there may be no liver in the field of view",
)
NO_SURFACE = Reason(
    "NO_SURFACE",
    "the final field holds no surface",
    "look at the case: there may be no liver in the field of view",
)
