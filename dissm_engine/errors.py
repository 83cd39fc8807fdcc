"""One small tree of errors; each carries a `Reason`, and every reason of the project is known to one registry.

This module imports nothing but the standard library, so that a command line can read it without loading torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_REGISTRY: dict[str, Reason] = {}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something was refused or failed. Making one enters it into the registry that `all_reasons` shows.

    Attributes:
        code: Stable identifier in upper case, as it stands in the audit log and in `docs/operations.md`.
        sentence: What was found: a `str.format` template over the facts given with it.
        cure: What the reader can do about it.

    Raises:
        ValueError: Another reason has the same code.
    """

    code: str
    sentence: str
    cure: str

    def __post_init__(self) -> None:
        # A module that is run as a script and imported as well declares the same reason twice.
        if _REGISTRY.setdefault(self.code, self) != self:
            raise ValueError(f"the code {self.code} is already taken by another reason: {_REGISTRY[self.code]}")

    def say(self, **facts: object) -> str:
        """The sentence with its facts filled in.

        Examples:
            >>> NO_ORGAN.say(evidence="volume is 12 ml")
            'what was found is not the organ: volume is 12 ml'
        """
        return self.sentence.format(**facts)


def all_reasons() -> Mapping[str, Reason]:
    """Every reason declared by the modules imported so far, by code, in the order of their declaration.

    Examples:
        >>> all_reasons()["NO_SURFACE"].cure
        'look at the case: there may be no liver in the field of view'
    """
    return MappingProxyType(_REGISTRY)


class DissmError(Exception):
    """Base of every error that this project raises on purpose.

    Attributes:
        reason: Why it was raised.
        facts: What the reason's sentence is filled with.
    """

    def __init__(self, reason: Reason, **facts: object) -> None:
        self.reason = reason
        self.facts = facts
        super().__init__(f"{reason.say(**facts)}; {reason.cure}")


class GeometryError(DissmError):
    """An array, grid or mesh whose geometry cannot be used."""


class BundleError(DissmError):
    """A model bundle that is missing, broken, or not what its manifest says."""


class DelineationError(DissmError):
    """The engine could not produce a surface from this volume."""


class DelineationCancelled(DissmError):  # noqa: N818  # it is asked for, and no error of the volume or the engine
    """The delineation was ended before its result because somebody asked for it, see `dissm_engine.progress`."""


# Volumes and meshes
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

# Delineation
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
CANCELLED = Reason(
    "CANCELLED",
    "the delineation was cancelled before it was finished",
    "delineate the volume again if its result is wanted",
)

# Model bundles
BUNDLE_MISSING = Reason("BUNDLE_MISSING", "there is no model bundle at {path}", "set node.bundle in settings.toml")
BUNDLE_TAMPERED = Reason(
    "BUNDLE_TAMPERED", "{file} of the bundle is not what its manifest says", "restore the bundle from its source"
)
BUNDLE_BROKEN = Reason("BUNDLE_BROKEN", "the bundle {path} cannot be used: {problem}", "restore it from its source")
SHAPE_MODEL_BROKEN = Reason(
    "SHAPE_MODEL_BROKEN",
    "the shape model in {folder} cannot be used: {what}",
    "train the shape stage again, or restore the bundle",
)
FOREIGN_SHAPE_MODEL = Reason(
    "FOREIGN_SHAPE_MODEL",
    "the pose agent was trained with another shape model (their mean shapes differ by {difference_mm:.1f} mm)",
    "take agent and shape model from one bundle",
)
