"""A run that begins with the trained parts of a bundle, as when the folder of the run that made it was lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from operator import le
from pathlib import Path

from dissm_engine.bundle import Bundle
from dissm_engine.errors import Reason
from dissm_engine.json_value import JsonObject
from dissm_engine.refine.network import RefinementArchitecture
from training.errors import RunError

SHIPPED = "shipped"
"""Names the bundle that ships with the engine in the place of a path."""

START_PART_UNKNOWN = Reason(
    "START_PART_UNKNOWN",
    "a bundle has no part {part}",
    "name some of shape, pose and refine, with commas between them",
)
START_WITHOUT_SHAPE = Reason(
    "START_WITHOUT_SHAPE",
    "the part {part} of a bundle cannot be kept without its shape model, whose components it moves",
    "keep shape as well",
)
START_DIFFERS = Reason(
    "START_DIFFERS",
    "the refinement network of the bundle {bundle} has other settings than the preset: {differences}",
    "give a preset with the same settings and levels as wide or wider, or train without --from-bundle",
)


class Part(StrEnum):
    """A trained part of a bundle that a run may keep as it is."""

    SHAPE = "shape"
    POSE = "pose"
    REFINE = "refine"


@dataclass(frozen=True)
class BundleStart:
    """Which bundle a run begins with.

    Attributes:
        bundle: Read and verified. Its refinement network is where the run's refinement begins, kept or not.
        kept: Parts that the run takes over as they are and does not train.
    """

    bundle: Bundle
    kept: frozenset[Part] = frozenset()

    @staticmethod
    def read(path: str, keep: Iterable[str] = ()) -> BundleStart:
        """Read a bundle to begin with.

        Args:
            path: A folder or a zip, or `shipped`.
            keep: Names of the parts to keep; empty ones are left out.

        Raises:
            BundleError: The bundle cannot be read.
            RunError: `START_PART_UNKNOWN`, or `START_WITHOUT_SHAPE` where the pose stage is kept without the shape.
        """
        names = [name.strip() for name in keep if name.strip()]
        for name in names:
            if name not in list(Part):
                raise RunError(START_PART_UNKNOWN, part=name)
        kept = frozenset(Part(name) for name in names)
        if Part.POSE in kept and Part.SHAPE not in kept:
            raise RunError(START_WITHOUT_SHAPE, part=Part.POSE)
        return BundleStart(Bundle.load(None if path == SHIPPED else Path(path)), kept)

    def keeps(self, part: Part) -> bool:
        """Whether the run takes this part over as it is."""
        return part in self.kept

    def to_json(self) -> JsonObject:
        """The start as `run.json` and the provenance of the run's own bundle name it, with the starts before it."""
        return {
            "name": self.bundle.name,
            "version": self.bundle.version,
            "sha256": self.bundle.digest,
            "kept": sorted(self.kept),
            "started_from": self.bundle.manifest.provenance.get("started_from"),
        }

    def sentence(self) -> str:
        """The start as the model card names it."""
        kept = f"; kept as they were: {', '.join(sorted(self.kept))}" if self.kept else ""
        return (
            f"Started from the bundle {self.bundle.name} {self.bundle.version} "
            f"(SHA-256 of its manifest {self.bundle.digest[:12]}...){kept}."
        )

    def require_architecture(self, wanted: RefinementArchitecture) -> None:
        """Raises RunError(START_DIFFERS) if the refinement of this architecture cannot begin with the bundle's weights.

        It may be wider at any level (`training.refine.widening`), and differ in nothing else.
        """
        own = self.bundle.model.refiner.network.architecture
        if len(own.widths) == len(wanted.widths) and all(map(le, own.widths, wanted.widths)):
            own = replace(own, widths=wanted.widths)
        found, asked = asdict(own), asdict(wanted)
        different = [f"{key} {value} instead of {asked[key]}" for key, value in found.items() if value != asked[key]]
        if different:
            raise RunError(START_DIFFERS, bundle=self.bundle.name, differences=", ".join(different))
