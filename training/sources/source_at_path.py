"""Where liver surfaces come from: an npz of meshes, a folder of meshes, or a folder of label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dissm_engine.errors import Reason
from training.sources.label_maps import LabelMapSource
from training.sources.meshes import MESH_SUFFIXES, MeshFolderSource, NpzSource
from training.sources.surfaces import SourceError, SurfaceSource

NO_SURFACES = Reason(
    "NO_SURFACES",
    "{path} holds neither meshes nor label maps",
    "give an .npz of meshes, a folder of .stl/.ply/.obj/.npz, or a folder with (labelsTr/)*.nii.gz",
)


def open_source(path: Path, liver_labels: Sequence[int] = (6,)) -> SurfaceSource:
    """The source that fits what lies at `path`.

    liver_labels: numbers merged into the liver where `path` holds label maps (AMOS: 6; MSD Task03: 1 and 2).
    Raises SourceError if nothing there is a surface.
    """
    if path.is_file() and path.suffix == ".npz":
        return NpzSource(path)
    for folder in (path / "labelsTr", path):
        if any(folder.glob("*.nii.gz")) or any(folder.glob("*.nii")):
            return LabelMapSource(folder, tuple(liver_labels))
    if path.is_dir() and any(file.suffix.lower() in MESH_SUFFIXES for file in path.iterdir()):
        return MeshFolderSource(path)
    raise SourceError(NO_SURFACES, path=path)
