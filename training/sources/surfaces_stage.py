"""Stage "surfaces": each surface of the source repaired, smoothed, decimated, put to training or held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dissm_engine.mesh import TriangleMesh
from training.context import RunContext
from training.shape.shape_settings import ShapePreset
from training.sources.held_out import split_held_out
from training.sources.meshes import MeshFolderSource, write_mesh
from training.sources.repair import decimated, repaired, smoothed
from training.sources.surfaces import open_source

Part = Literal["training", "held_out"]


def run_surfaces(context: RunContext) -> None:
    """Fill `surfaces/training` and `surfaces/held_out` of the run folder; surfaces that are there already are kept.

    Raises SourceError if the source holds no surfaces, GeometryError if one cannot be closed.
    """
    prepare_surfaces(context, ("training", "held_out"))


def prepare_surfaces(context: RunContext, parts: Sequence[Part]) -> None:
    """As `run_surfaces`, for some of the parts."""
    preset = context.preset.shape
    source = open_source(context.surfaces, preset.liver_labels).load()
    training, held_out = split_held_out(source)
    chosen = {"training": training[: preset.max_shapes], "held_out": held_out[: preset.max_held_out]}
    wanted = [(part, name) for part in parts for name in chosen[part]]
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
