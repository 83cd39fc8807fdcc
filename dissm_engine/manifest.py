"""The manifest of a model bundle: what its files are, and what the networks in them were made for (D8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dissm_engine.json_value import JsonObject
from dissm_engine.pose.architecture import AgentArchitecture
from dissm_engine.preprocessing import Preprocessing
from dissm_engine.refine.refiner import RefinerArchitecture
from dissm_engine.shape.model import ShapeArchitecture
from dissm_engine.trust import TrustModel

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of the bundle.

    Attributes:
        size: Bytes.
        sha256: Of its content, hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelArchitecture:
    """What must be known to build every part of a `TrainedModel` again from its tensors."""

    shape: ShapeArchitecture
    agent: AgentArchitecture
    refiner: RefinerArchitecture

    def to_json(self) -> dict[str, Any]:
        """The architecture as plain JSON values."""
        return {"shape": self.shape.to_json(), "pose": self.agent.to_json(), "refine": self.refiner.to_json()}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> ModelArchitecture:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError where a value is missing or wrong."""
        return ModelArchitecture(
            ShapeArchitecture.from_json(content["shape"]),
            AgentArchitecture.from_json(content["pose"]),
            RefinerArchitecture.from_json(content["refine"]),
        )


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        name, version: Of the bundle.
        created: When it was written, ISO 8601 with its time zone.
        organ: What it delineates.
        files: Every other file of the bundle by its path, with `/` between folders.
        architecture: Of the trained parts.
        preprocessing: What the networks were shown of a CT.
        surface_bias_mm: How far the refined surface lies outside the true one in the mean.
        trust: Judges the findings.
        provenance: How the bundle was trained, as the training wrote it down; the engine does not read it.
    """

    name: str
    version: str
    created: str
    organ: str
    files: Mapping[str, FileEntry]
    architecture: ModelArchitecture
    preprocessing: Preprocessing
    surface_bias_mm: float
    trust: TrustModel
    provenance: JsonObject

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values, as `manifest.json` holds them."""
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "organ": self.organ,
            "files": {path: {"size": file.size, "sha256": file.sha256} for path, file in self.files.items()},
            "architecture": self.architecture.to_json(),
            "preprocessing": self.preprocessing.to_json(),
            "calibration": {"outward_mm": self.surface_bias_mm},
            "trust": self.trust.to_json(),
            "provenance": dict(self.provenance),
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: Something is missing, or of another form.
            ValueError: The format is another one, or a value is none that this program knows.
        """
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} is not {FORMAT}")
        return Manifest(
            name=content["name"],
            version=content["version"],
            created=content["created"],
            organ=content["organ"],
            files={path: FileEntry(entry["size"], entry["sha256"]) for path, entry in content["files"].items()},
            architecture=ModelArchitecture.from_json(content["architecture"]),
            preprocessing=Preprocessing.from_json(content["preprocessing"]),
            surface_bias_mm=float(content["calibration"]["outward_mm"]),
            trust=TrustModel.from_json(content["trust"]),
            provenance=content["provenance"],
        )
