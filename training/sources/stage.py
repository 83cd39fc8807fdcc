"""Stage "surfaces": each surface of the source repaired, smoothed, decimated, put to training or held out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from dissm_engine.delineation import Progress
from dissm_engine.mesh import TriangleMesh
from training.shape.settings import ShapePreset
from training.sources.held_out import split_held_out
from training.sources.meshes import MeshFolderSource, write_mesh
from training.sources.repair import decimated, repaired, smoothed
from training.sources.surfaces import open_source

Part = Literal["training", "held_out"]


class ShapeSection(Protocol):
    """The part of a preset that the surface and shape stages read."""

    @property
    def shape(self) -> ShapePreset:
        """Settings of both stages."""
        ...


class StageContext(Protocol):
    """What the surface and shape stages need to know of a run."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        ...

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        ...

    @property
    def device(self) -> str:
        """Where the decoder is trained: `cpu` or `cuda`."""
        ...

    @property
    def surfaces(self) -> Path:
        """Where the surfaces come from."""
        ...

    @property
    def preset(self) -> ShapeSection:
        """The run's preset."""
        ...

    @property
    def progress(self) -> Progress:
        """Called with the stage's name and the share done."""
        ...


def run_surfaces(context: StageContext) -> None:
    """Fill `surfaces/training` and `surfaces/held_out` of the run folder; surfaces that are there already are kept.

    Raises SourceError if the source holds no surfaces, GeometryError if one cannot be closed.
    """
    preset = context.preset.shape
    source = open_source(context.surfaces, preset.liver_labels).load()
    training, held_out = split_held_out(source)
    wanted = [("training", name) for name in training[: preset.most_shapes]]
    wanted += [("held_out", name) for name in held_out[: preset.most_held_out]]
    for index, (part, name) in enumerate(wanted):
        path = context.folder / "surfaces" / part / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_mesh(path, _prepared(source[name], preset))
        context.progress("surfaces", (index + 1) / len(wanted))


def load_surfaces(folder: Path, part: Part = "training") -> dict[str, TriangleMesh]:
    """The prepared surfaces of a run folder by name, sorted, LPS mm in each source's own frame."""
    return dict(MeshFolderSource(folder / "surfaces" / part).load())


def _prepared(mesh: TriangleMesh, preset: ShapePreset) -> TriangleMesh:
    mesh = smoothed(repaired(mesh), preset.taubin_iterations)
    return repaired(decimated(mesh, preset.simplified_share))
