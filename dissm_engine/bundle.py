"""A model bundle: manifest, weights as safetensors, model card (D8). Verified before it is used."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors

from dissm_engine.atomic_file import write_bytes
from dissm_engine.errors import BUNDLE_BROKEN, BUNDLE_MISSING, BUNDLE_TAMPERED, BundleError
from dissm_engine.json_value import JsonObject
from dissm_engine.manifest import FORMAT, FileEntry, Manifest, ModelArchitecture
from dissm_engine.pose.agent import PoseAgent
from dissm_engine.preprocessing import ENGINE_PREPROCESSING, Preprocessing
from dissm_engine.refine.refiner import Refiner
from dissm_engine.shape.model import ShapeModel
from dissm_engine.trained_model import TrainedModel

MANIFEST = "manifest.json"
_SHAPE, _POSE, _REFINE = "shape.safetensors", "pose.safetensors", "refine.safetensors"
_WEIGHTS = (_SHAPE, _POSE, _REFINE)


@dataclass(frozen=True)
class Bundle:
    """A trained model with its provenance, as read and verified.

    Attributes:
        model: What a `Delineator` computes with.
        manifest: What the bundle says of itself.
        digest: SHA-256 (hexadecimal) of the manifest, which holds the SHA-256 of every other file.

    Examples:
        >>> bundle = Bundle.load()
        >>> bundle.name
        'liver-small'
        >>> [stage.name.value for stage in bundle.model.agent.stages]
        ['translation', 'scale', 'rotation', 'non_rigid']
    """

    model: TrainedModel
    manifest: Manifest
    digest: str

    @staticmethod
    def shipped() -> Path:
        """Where the bundle lies that ships with the engine."""
        return Path(str(resources.files("dissm_engine"))) / "data" / "liver"

    @staticmethod
    def load(path: Path | None = None) -> Bundle:
        """Read a bundle.

        Args:
            path: A folder or a zip; None: the bundle that ships with the engine.

        Raises:
            BundleError: Anything is missing, was changed, or does not fit together.
        """
        where = path or Bundle.shipped()
        content, stated = _read_manifest(where)
        files = {name: _verified(where, name, entry) for name, entry in _file_entries(stated, where).items()}
        tensors = {name: _tensors(files[name], name, where) for name in _WEIGHTS}
        try:
            manifest = Manifest.from_json(stated)
            _require_own_preprocessing(manifest.preprocessing)
            model = TrainedModel(
                shape=ShapeModel.from_tensors(tensors[_SHAPE], manifest.architecture.shape),
                agent=PoseAgent.from_tensors(tensors[_POSE], manifest.architecture.agent),
                refiner=Refiner.from_tensors(tensors[_REFINE], manifest.architecture.refiner),
                surface_bias_mm=manifest.surface_bias_mm,
                trust=manifest.trust,
            )
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as problem:
            raise BundleError(BUNDLE_BROKEN, path=where.name, problem=problem) from problem
        return Bundle(model, manifest, hashlib.sha256(content).hexdigest())

    @property
    def name(self) -> str:
        """As the bundle names itself."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """As the bundle numbers itself."""
        return self.manifest.version

    @property
    def weights_digest(self) -> str:
        """SHA-256 (hexadecimal) over the SHA-256 of every weights file: the same for a bundle with another card."""
        stated = [self.manifest.files[name].sha256 for name in _WEIGHTS]
        return hashlib.sha256("".join(stated).encode()).hexdigest()


def write_bundle(
    folder: Path,
    model: TrainedModel,
    *,
    name: str,
    version: str,
    card: str,
    provenance: JsonObject,
    figures: Mapping[str, bytes],
) -> None:
    """Write a bundle. Weights of the image networks are kept in half precision, the shape model's in full.

    Args:
        folder: Is made if need be; files of an older bundle in it are replaced one by one.
        model: The trained parts; their trust model has been fitted.
        name, version: Of the bundle.
        card: The model card, Markdown.
        provenance: How the model was trained, plain JSON values.
        figures: The content of each file in `figures/`, by its name.
    """
    contents: dict[str, bytes] = {
        _SHAPE: bytes_from_tensors(_contiguous(model.shape.state_tensors())),
        _POSE: bytes_from_tensors(_contiguous(model.agent.state_tensors(), half=True)),
        _REFINE: bytes_from_tensors(_contiguous(model.refiner.state_tensors(), half=True)),
        "model_card.md": card.encode(),
        **{f"figures/{figure}": content for figure, content in figures.items()},
    }
    manifest = Manifest(
        name=name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        organ="liver",
        files={file: FileEntry(len(content), _sha256(content)) for file, content in contents.items()},
        architecture=ModelArchitecture(
            model.shape.architecture(), model.agent.architecture(), model.refiner.architecture()
        ),
        preprocessing=ENGINE_PREPROCESSING,
        surface_bias_mm=model.surface_bias_mm,
        trust=model.trust,
        provenance=provenance,
    )
    for file, content in {**contents, MANIFEST: json.dumps(manifest.to_json(), indent=1).encode()}.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, content)


def _contiguous(tensors: dict[str, torch.Tensor], half: bool = False) -> dict[str, torch.Tensor]:
    return {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for name, value in tensors.items()
    }


def _require_own_preprocessing(stated: Preprocessing) -> None:
    """Raises ValueError where the networks were shown something else than this engine would show them."""
    if stated != ENGINE_PREPROCESSING:
        raise ValueError(
            f"its networks were trained with the preprocessing {stated}, this engine has {ENGINE_PREPROCESSING}"
        )


def _read_manifest(where: Path) -> tuple[bytes, dict[str, Any]]:
    """The manifest as it was read, and its JSON object."""
    content = _read(where, MANIFEST)
    if content is None:
        raise BundleError(BUNDLE_MISSING, path=where)
    try:
        manifest: dict[str, Any] = json.loads(content)
        found = manifest.get("format")
    except (ValueError, AttributeError) as problem:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"its manifest is unreadable: {problem}") from problem
    if found != FORMAT:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"format {found} is not {FORMAT}")
    return content, manifest


def _file_entries(manifest: Mapping[str, Any], where: Path) -> dict[str, FileEntry]:
    """The files that a manifest lists, the weights among them. What else it says is read once they are verified."""
    try:
        listed = {file: FileEntry(entry["size"], entry["sha256"]) for file, entry in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError) as problem:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"its manifest is unreadable: {problem}") from problem
    missing = [name for name in _WEIGHTS if name not in listed]
    if missing:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"its manifest does not list {', '.join(missing)}")
    return listed


def _verified(where: Path, file: str, entry: FileEntry) -> bytes:
    """The content of a file of the bundle. Raises BundleError where it is not what the manifest says."""
    content = _read(where, file)
    if content is None or len(content) != entry.size or _sha256(content) != entry.sha256:
        raise BundleError(BUNDLE_TAMPERED, file=file)
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read(where: Path, file: str) -> bytes | None:
    """A file of the bundle, folder or zip; None where there is none."""
    try:
        if not where.is_file():
            path = where / file
            return path.read_bytes() if path.is_file() else None
        with zipfile.ZipFile(where) as archive:
            return archive.read(file) if file in archive.namelist() else None
    # A damaged or encrypted member comes as one of the last three.
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as problem:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=problem) from problem


def _tensors(content: bytes, name: str, where: Path) -> dict[str, torch.Tensor]:
    try:
        loaded: dict[str, torch.Tensor] = tensors_from_bytes(content)
    except SafetensorError as problem:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"{name}: {problem}") from problem
    for key, value in loaded.items():
        if not torch.isfinite(value).all():
            raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"{name}: {key} holds values that are no numbers")
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in loaded.items()}
