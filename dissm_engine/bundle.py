"""A model bundle: manifest, weights as safetensors, model card (D8). Verified before it is used."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors

from dissm_engine import preprocessing
from dissm_engine.errors import BundleError, Reason
from dissm_engine.findings import TrustModel
from dissm_engine.pose.agent import PoseAgent
from dissm_engine.refine.refiner import Refiner
from dissm_engine.shape.model import ShapeModel

MANIFEST = "manifest.json"
FORMAT = 1
_WEIGHTS = ("shape.safetensors", "pose.safetensors", "refine.safetensors")

BUNDLE_MISSING = Reason("BUNDLE_MISSING", "there is no model bundle at {path}", "set node.bundle in settings.toml")
BUNDLE_TAMPERED = Reason(
    "BUNDLE_TAMPERED", "{file} of the bundle is not what its manifest says", "restore the bundle from its source"
)
BUNDLE_BROKEN = Reason("BUNDLE_BROKEN", "the bundle {path} cannot be used: {problem}", "restore it from its source")


@dataclass(frozen=True)
class Bundle:
    """Everything a Delineator needs, as read and verified.

    digest: SHA-256 (hex) of the manifest, which holds the SHA-256 of every other file.
    outward_mm: how far the refined surface lies outside the true one in the mean; taken off the final field.
    """

    name: str
    version: str
    created: str
    digest: str
    manifest: dict[str, Any]
    shape: ShapeModel
    agent: PoseAgent
    refiner_tensors: dict[str, torch.Tensor]
    outward_mm: float
    trust: TrustModel

    @staticmethod
    def shipped() -> Path:
        """Where the bundle lies that ships with the engine."""
        return Path(str(resources.files("dissm_engine"))) / "data" / "liver"

    @staticmethod
    def load(path: Path | None = None) -> Bundle:
        """Read a bundle from a folder or zip. Raises BundleError if anything is missing, changed or does not fit."""
        where = path or Bundle.shipped()
        content, manifest = _manifest(where)
        files = _verified(manifest, where)
        tensors = {name: _tensors(files[name], name, where) for name in _WEIGHTS}
        try:
            architecture = manifest["architecture"]
            _require_own_preprocessing(manifest["preprocessing"])
            return Bundle(
                name=manifest["name"],
                version=manifest["version"],
                created=manifest["created"],
                digest=hashlib.sha256(content).hexdigest(),
                manifest=manifest,
                shape=ShapeModel.from_tensors(tensors["shape.safetensors"], architecture["shape"]),
                agent=PoseAgent.from_tensors(tensors["pose.safetensors"], architecture["pose"]),
                refiner_tensors=tensors["refine.safetensors"],
                outward_mm=float(manifest["calibration"]["outward_mm"]),
                trust=TrustModel.from_json(manifest["trust"]),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as problem:
            raise BundleError(BUNDLE_BROKEN, path=where.name, problem=problem) from problem

    @property
    def weights_digest(self) -> str:
        """SHA-256 (hex) over the SHA-256 of every weights file: the same for a bundle with another card."""
        stated = [self.manifest["files"][name]["sha256"] for name in _WEIGHTS]
        return hashlib.sha256("".join(stated).encode()).hexdigest()

    def refiner(self, device: str, half: bool) -> Refiner:
        """The refinement network on a device. Raises BundleError when the weights do not fit their description."""
        try:
            return Refiner.from_tensors(self.refiner_tensors, self.manifest["architecture"]["refine"], device, half)
        except (KeyError, TypeError, ValueError, RuntimeError) as problem:
            raise BundleError(BUNDLE_BROKEN, path=self.name, problem=problem) from problem

    def describe(self) -> dict[str, Any]:
        """What `dissm-node check` prints."""
        return {"name": self.name, "version": self.version, "created": self.created, "digest": self.digest}


def write_bundle(
    folder: Path,
    *,
    name: str,
    version: str,
    shape: ShapeModel,
    agent: PoseAgent,
    refiner: Refiner,
    outward_mm: float,
    trust: TrustModel,
    card: str,
    provenance: dict[str, Any],
    figures: dict[str, bytes],
) -> None:
    """Write a bundle folder. Weights of the image networks are kept in half precision, the shape model's in full."""
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, bytes] = {
        "shape.safetensors": bytes_from_tensors(_contiguous(shape.state_tensors())),
        "pose.safetensors": bytes_from_tensors(_contiguous(agent.state_tensors(), half=True)),
        "refine.safetensors": bytes_from_tensors(_contiguous(refiner.state_tensors(), half=True)),
        "model_card.md": card.encode(),
        **{f"figures/{figure}": content for figure, content in figures.items()},
    }
    manifest = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "organ": "liver",
        "files": {
            file: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for file, content in contents.items()
        },
        "architecture": {"shape": shape.architecture(), "pose": agent.architecture(), "refine": refiner.describe()},
        "preprocessing": preprocessing.described(),
        "calibration": {"outward_mm": outward_mm},
        "trust": trust.to_json(),
        "provenance": provenance,
    }
    for file, content in {**contents, MANIFEST: json.dumps(manifest, indent=1).encode()}.items():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(target.name + ".new")
        aside.write_bytes(content)
        aside.replace(target)


def _contiguous(tensors: dict[str, torch.Tensor], half: bool = False) -> dict[str, torch.Tensor]:
    return {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for name, value in tensors.items()
    }


def _require_own_preprocessing(stated: dict[str, Any]) -> None:
    """Raises ValueError where the networks were shown something else than this engine would show them."""
    own = preprocessing.described()
    if stated != own:
        raise ValueError(f"its networks were trained with the preprocessing {stated}, this engine has {own}")


def _manifest(where: Path) -> tuple[bytes, dict[str, Any]]:
    """The manifest as it was read and as it reads."""
    content = _read(where, MANIFEST)
    if content is None:
        raise BundleError(BUNDLE_MISSING, path=where)
    try:
        manifest: dict[str, Any] = json.loads(content)
        found = manifest.get("format")
        listed = {file: (entry["size"], entry["sha256"]) for file, entry in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"its manifest is unreadable: {problem}") from problem
    if found != FORMAT:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"format {found} is not {FORMAT}")
    missing = [name for name in _WEIGHTS if name not in listed]
    if missing:
        raise BundleError(BUNDLE_BROKEN, path=where.name, problem=f"its manifest does not list {', '.join(missing)}")
    return content, manifest


def _verified(manifest: dict[str, Any], where: Path) -> dict[str, bytes]:
    """Every file that the manifest lists, as it says."""
    files: dict[str, bytes] = {}
    for file, entry in manifest["files"].items():
        content = _read(where, file)
        if content is None or len(content) != entry["size"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise BundleError(BUNDLE_TAMPERED, file=file)
        files[file] = content
    return files


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
