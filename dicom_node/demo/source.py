"""Where the demo's CT comes from: a folder or tar of DICOM files, or a phantom made on the spot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.demo.ct_images import SyntheticStudy, write_ct_images
from dicom_node.dicom.header_reading import UnreadableDicomError, read_header
from dicom_node.reasons import IMPORT_UNREADABLE, NOTHING_TO_IMPORT, NodeError
from dicom_node.receive.importing import contents_of
from dissm_engine.pose.similarity import Pose
from dissm_engine.shape.model import ShapeModel
from dissm_phantom import Phantom, ScanProtocol, build_anatomy, scan

_LOADINGS = 8
"""As many components are drawn for the phantom's liver; the finer ones stay at the mean."""
_SLICE_MM = 3.0


@dataclass(frozen=True)
class CtSource:
    """What will be sent.

    name: how the report calls it. images: file of each SOP Instance UID. others: files that are no DICOM instance.
    truth: the phantom the images were made of, None for a real CT.
    """

    name: str
    images: dict[str, Path]
    others: int
    truth: Phantom | None = None


def given_source(given: Path, folder: Path) -> CtSource:
    """The DICOM files of a folder, at any depth, or of a tar (which is unpacked into `folder`).

    Raises NodeError if it cannot be read or holds no DICOM file.
    """
    try:
        if given.is_dir():
            files = sorted(file for file in given.rglob("*") if file.is_file())
        else:
            files = list(_unpacked(given, folder))
    except OSError as problem:
        raise NodeError(IMPORT_UNREADABLE, source=given, problem=problem) from problem
    images = _instances(files)
    if not images:
        raise NodeError(NOTHING_TO_IMPORT, source=given)
    return CtSource(given.name, images, len(files) - len(images))


def _unpacked(archive: Path, folder: Path) -> Iterator[Path]:
    """The regular files of a tar, named by our own counter: no name, link or device of the tar is ever used."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(contents_of(archive), start=1):
        path = folder / f"{number:06d}"
        path.write_bytes(content)
        yield path


def _instances(files: Sequence[Path]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for file in files:
        try:
            header = read_header(file, file.name, ["SOPInstanceUID"])
            known = header.get("SOPInstanceUID") and header.file_meta.get("MediaStorageSOPClassUID")
        except UnreadableDicomError:
            continue
        # Without its class in the meta information no sender could offer it.
        if known:
            images.setdefault(str(header.SOPInstanceUID), file)
    return images


def synthetic_source(shape: ShapeModel, seed: int, folder: Path) -> CtSource:
    """A CT of a random body around a liver drawn from the shape model; the same seed gives the same CT."""
    rng = np.random.default_rng(seed)
    loadings = np.clip(rng.standard_normal(min(_LOADINGS, len(shape.latent_space.standard_deviation))), -1.5, 1.5)
    liver = shape.mesh(loadings.astype(np.float32), Pose.at(np.zeros(3)))
    anatomy = build_anatomy(liver, seed, deform=False, whole_liver=True)
    phantom = scan(anatomy, ScanProtocol(slice_mm=_SLICE_MM), seed)
    paths = write_ct_images(phantom.volume, SyntheticStudy(seed), folder)
    return CtSource(f"a phantom (seed {seed})", _instances(paths), 0, phantom)
