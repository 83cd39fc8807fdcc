"""Stage "surfaces": each surface of the source repaired, smoothed, decimated, for training, validation or held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from dissm_engine.mesh import TriangleMesh
from training.context import RunContext
from training.shape.shape_settings import ShapePreset
from training.sources.held_out import split_livers
from training.sources.meshes import MeshFolderSource, write_mesh
from training.sources.repair import decimated, repaired, smoothed
from training.sources.source_at_path import open_source

Part = Literal["training", "validation", "held_out"]


def run_surfaces(context: RunContext) -> None:
    """Fill `surfaces/training`, `surfaces/validation` and `surfaces/held_out` of the run folder.

    Surfaces that are there already are kept.

    Raises:
        SourceError: The source holds no surfaces, or the number of a case of AMOS cannot be told from its name.
        GeometryError: A surface cannot be closed.
    """
    prepare_surfaces(context, ("training", "validation", "held_out"))


def prepare_surfaces(context: RunContext, parts: Sequence[Part]) -> None:
    """As `run_surfaces`, for some of the parts."""
    preset = context.preset.shape
    source = open_source(context.surfaces, preset.liver_labels).load()
    split = split_livers(source, context.surfaces.name)
    chosen: Mapping[Part, tuple[str, ...]] = {
        "training": split.training[: preset.max_shapes],
        "validation": split.validation[: preset.max_validation],
        "held_out": split.held_out[: preset.max_held_out],
    }
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
