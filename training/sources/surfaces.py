"""Where liver surfaces come from: an npz of meshes, a folder of meshes, or a folder of label maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dissm_engine.errors import DissmError, Reason
from dissm_engine.mesh import TriangleMesh

NO_SURFACES = Reason(
    "NO_SURFACES",
    "{path} holds neither meshes nor label maps",
    "give an .npz of meshes, a folder of .stl/.ply/.obj/.npz, or a folder with (labelsTr/)*.nii.gz",
)
LABEL_ABSENT = Reason(
    "LABEL_ABSENT",
    "label map {name} has no voxel of the liver's labels {labels}",
    "name the liver's label numbers (AMOS 6; MSD Task03 1 and 2)",
)


class SourceError(DissmError):
    """A source of surfaces that cannot be read."""


class SurfaceSource(Protocol):
    """Anything that yields named surfaces in LPS mm."""

    def load(self) -> Mapping[str, TriangleMesh]:
        """The surfaces by name, read when asked for."""
        ...


class LazySurfaces(Mapping[str, TriangleMesh]):
    """Surfaces by name, each read only when it is asked for: a label map takes seconds."""

    def __init__(self, readers: Mapping[str, Callable[[], TriangleMesh]]) -> None:
        self._readers = dict(sorted(readers.items()))

    def __getitem__(self, name: str) -> TriangleMesh:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def open_source(path: Path, liver_labels: Sequence[int] = (6,)) -> SurfaceSource:
    """The source that fits what lies at `path`.

    liver_labels: numbers merged into the liver where `path` holds label maps (AMOS: 6; MSD Task03: 1 and 2).
    Raises SourceError if nothing there is a surface.
    """
    from training.sources.label_maps import LabelMapSource
    from training.sources.meshes import MESH_SUFFIXES, MeshFolderSource, NpzSource

    if path.is_file() and path.suffix == ".npz":
        return NpzSource(path)
    for folder in (path / "labelsTr", path):
        if any(folder.glob("*.nii.gz")) or any(folder.glob("*.nii")):
            return LabelMapSource(folder, tuple(liver_labels))
    if path.is_dir() and any(file.suffix.lower() in MESH_SUFFIXES for file in path.iterdir()):
        return MeshFolderSource(path)
    raise SourceError(NO_SURFACES, path=path)
