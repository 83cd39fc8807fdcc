"""What a source of liver surfaces is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from dissm_engine.errors import DissmError, Reason
from dissm_engine.mesh import TriangleMesh

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
