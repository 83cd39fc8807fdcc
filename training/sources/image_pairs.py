"""CTs with manual masks: a folder with `images/` and `labels/` (NIfTI, NRRD, MetaImage), read one pair at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK

from dissm_engine.errors import DissmError, Reason
from dissm_engine.volume import Grid, Volume

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_CHANNEL_SUFFIX = "_0000"
"""nnU-Net's mark of an image's first channel; its labels go without."""
_MAX_CORNER_SHIFT = 0.1
"""By how much, in voxels, corners of image and label may lie apart."""

NO_IMAGE_PAIRS = Reason(
    "NO_IMAGE_PAIRS",
    "{folder} has no pairs of images and labels",
    f"give a folder with images/ and labels/ that hold files of the same names ({', '.join(IMAGE_SUFFIXES)})",
)
IMAGE_WITHOUT_PARTNER = Reason(
    "IMAGE_WITHOUT_PARTNER",
    "case {name} has no file in {missing}/",
    "add the file, or remove the other one",
)
CASE_NAMED_TWICE = Reason(
    "CASE_NAMED_TWICE",
    "case {name} has several files in {folder}/: {files}",
    "keep one of them",
)
IMAGE_UNREADABLE = Reason(
    "IMAGE_UNREADABLE",
    "{file} cannot be read: {problem}",
    "write it again with a current program; directions must be orthonormal",
)
IMAGE_NOT_3D = Reason(
    "IMAGE_NOT_3D",
    "{file} has the size {size}, with {components} numbers a voxel",
    "give a three-dimensional image with one number a voxel",
)
GRIDS_DIFFER = Reason(
    "GRIDS_DIFFER",
    "image and label of case {name} lie on different grids: image {image_grid}; label {label_grid}",
    "resample the label to the image's grid, or export both again from one program",
)
LABEL_EMPTY = Reason(
    "LABEL_EMPTY",
    "the label of case {name} has no voxel of {labels}; it holds the values {present}",
    "name the organ's numbers with --label",
)


class ImagePairError(DissmError):
    """An image and a label that cannot be read, or that do not belong together."""


@dataclass(frozen=True, slots=True)
class ImagePairFiles:
    """The files of one case.

    Attributes:
        name: The label's file name without its suffix; of a case without a label, the image's.
        images: Its files in `images/`; a case that can be read has one.
        labels: Its files in `labels/`; a case that can be read has one.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]


@dataclass(frozen=True)
class ImagePair:
    """A CT with the true mask of its organ.

    Attributes:
        name: Of the case.
        volume: The CT, LPS mm. The array's axes run as near to patient axes as the file's directions allow: k towards
            the head, j towards the back, i towards the patient's left; nothing is resampled.
        mask: bool [K, J, I] on the CT's grid.
    """

    name: str
    volume: Volume
    mask: npt.NDArray[np.bool_]

    @property
    def volume_ml(self) -> float:
        """Volume of the mask."""
        return float(self.mask.sum() * self.volume.grid.voxel_ml)


def find_image_pairs(folder: Path) -> tuple[ImagePairFiles, ...]:
    """The cases of a folder by their names, in sorted order.

    A case that lacks a file, or has two, is among them: reading it says so.

    Args:
        folder: Has `images/` and `labels/` (nnU-Net's `imagesTr` and `labelsTr` serve too). An image may have the name
            of its label with `_0000` behind it.

    Raises:
        ImagePairError: NO_IMAGE_PAIRS where neither folder holds an image.
    """
    images = _files_by_name(_subfolder(folder, "images"))
    labels = _files_by_name(_subfolder(folder, "labels"))
    for name in [name for name in images if name not in labels and name.endswith(_CHANNEL_SUFFIX)]:
        images.setdefault(name.removesuffix(_CHANNEL_SUFFIX), []).extend(images.pop(name))
    names = sorted(images.keys() | labels.keys())
    if not names:
        raise ImagePairError(NO_IMAGE_PAIRS, folder=folder)
    return tuple(ImagePairFiles(name, tuple(images.get(name, ())), tuple(labels.get(name, ()))) for name in names)


def read_image_pair(files: ImagePairFiles, labels: Sequence[int] = ()) -> ImagePair:
    """Read one case.

    Args:
        files: From `find_image_pairs`.
        labels: The numbers that make up the organ; none: every number above 0.

    Raises:
        ImagePairError: A file is missing or unreadable, is no three-dimensional image, the grids differ, or the label
            does not hold the organ.
        GeometryError: The image holds values that are not finite.
    """
    image_file = _only(files.name, "images", files.images)
    label_file = _only(files.name, "labels", files.labels)
    image, label = _read(image_file), _read(label_file)
    if not _same_grid(image, label):
        raise ImagePairError(GRIDS_DIFFER, name=files.name, image_grid=_described(image), label_grid=_described(label))
    values = SimpleITK.GetArrayFromImage(label)
    mask = np.isin(values, list(labels)) if labels else values > 0
    if not mask.any():
        wanted = ", ".join(map(str, labels)) or "a number above 0"
        present = ", ".join(f"{value:g}" for value in np.unique(values)[:8])
        raise ImagePairError(LABEL_EMPTY, name=files.name, labels=wanted, present=present)
    return ImagePair(files.name, Volume(_hounsfield(image), lps_from_voxel(image)), mask)


def lps_from_voxel(image: SimpleITK.Image) -> npt.NDArray[np.float64]:
    """float64 [4, 4], maps (i, j, k, 1) of an image to LPS mm, which is ITK's own frame."""
    affine = np.eye(4)
    direction = np.array(image.GetDirection())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    spacing = np.array(image.GetSpacing())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    affine[:3, :3] = direction.reshape(3, 3) * spacing
    affine[:3, 3] = image.GetOrigin()  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    return affine


def _subfolder(folder: Path, name: str) -> Path:
    return next((folder / each for each in (name, f"{name}Tr") if (folder / each).is_dir()), folder / name)


def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((suffix for suffix in IMAGE_SUFFIXES if file.name.lower().endswith(suffix)), None)
        if suffix and not file.name.startswith("."):
            found.setdefault(file.name[: -len(suffix)], []).append(file)
    return found


def _only(name: str, folder: str, files: tuple[Path, ...]) -> Path:
    if not files:
        raise ImagePairError(IMAGE_WITHOUT_PARTNER, name=name, missing=folder)
    if len(files) > 1:
        raise ImagePairError(CASE_NAMED_TWICE, name=name, folder=folder, files=", ".join(f.name for f in files))
    return files[0]


def _read(file: Path) -> SimpleITK.Image:
    """The image with its axes permuted and flipped until they run as nearly as can be along +L, +P, +S."""
    try:
        image = SimpleITK.ReadImage(str(file))
    except RuntimeError as problem:
        raise ImagePairError(IMAGE_UNREADABLE, file=file.name, problem=_last_line(problem)) from problem
    size = _size(image)
    components = int(image.GetNumberOfComponentsPerPixel())  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    if len(size) == 4 and size[3] == 1:
        image = image[:, :, :, 0]
    elif len(size) != 3:
        raise ImagePairError(IMAGE_NOT_3D, file=file.name, size=size, components=components)
    if components != 1:
        raise ImagePairError(IMAGE_NOT_3D, file=file.name, size=size, components=components)
    oriented: SimpleITK.Image = SimpleITK.DICOMOrient(image, "LPS")  # type: ignore[no-untyped-call]  # untyped in SimpleITK
    return oriented


def _size(image: SimpleITK.Image) -> tuple[int, ...]:
    """Voxels along (i, j, k)."""
    return tuple(image.GetSize())  # type: ignore[no-untyped-call]  # untyped in SimpleITK


def _last_line(problem: RuntimeError) -> str:
    return str(problem).strip().splitlines()[-1].strip()


def _hounsfield(image: SimpleITK.Image) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
    values = SimpleITK.GetArrayFromImage(image)
    limits = np.iinfo(np.int16)
    if values.dtype.kind in "iu" and limits.min <= values.min() and values.max() <= limits.max:
        return np.asarray(values, dtype=np.int16)
    return np.asarray(values, dtype=np.float32)


def _same_grid(image: SimpleITK.Image, label: SimpleITK.Image) -> bool:
    if _size(image) != _size(label):
        return False
    columns, rows, slices = _size(image)
    own = Grid((slices, rows, columns), lps_from_voxel(image))
    other = Grid((slices, rows, columns), lps_from_voxel(label))
    apart = own.to_voxel(other.corners_lps()) - own.to_voxel(own.corners_lps())
    return bool(np.abs(apart).max() <= _MAX_CORNER_SHIFT)


def _described(image: SimpleITK.Image) -> str:
    affine = lps_from_voxel(image)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = " ".join(f"{value:.3f}" for value in (affine[:3, :3] / spacing).ravel())
    size = "x".join(map(str, _size(image)))
    steps = "x".join(f"{value:.3f}" for value in spacing)
    origin = ", ".join(f"{value:.2f}" for value in affine[:3, 3])
    return f"{size} voxels of {steps} mm, first voxel at ({origin}) mm LPS, directions {directions}"
