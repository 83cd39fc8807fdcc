"""How close the shape model comes to livers it has never seen: pose and code fitted to the true surface (D9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dissm_engine.atomic_file import write_json
from dissm_engine.json_value import JsonObject
from dissm_engine.mesh import TriangleMesh
from dissm_engine.progress import Progress, no_progress
from dissm_engine.shape.distance import surface_distance_mm
from dissm_engine.shape.fit import FREE_CODE, ShapeFit, fit_to_mesh
from dissm_engine.shape.model import ShapeModel
from training.measurement_cache import cached_measurement, discard_measurements
from training.sources.surfaces_stage import Part, load_surfaces

TABLE_FILE = "generalisation.json"
_COMPONENTS = (0, 8, 16, 28)
_TRIANGLE_MM = 4.0


@dataclass(frozen=True, slots=True)
class GeneralisationRow:
    """How close one freedom of the code comes.

    Attributes:
        mean_assd_mm: Mean over the livers of the average symmetric surface distance (ASSD).
        worst_assd_mm: The largest ASSD.
        livers: ASSD of each liver by its name.
    """

    mean_assd_mm: float
    worst_assd_mm: float
    livers: Mapping[str, float]

    @staticmethod
    def of(livers: Mapping[str, float]) -> GeneralisationRow:
        """The row of some livers' ASSD in mm."""
        values = list(livers.values())
        return GeneralisationRow(float(np.mean(values)), float(np.max(values)), dict(livers))

    def to_json(self) -> JsonObject:
        """The fields by their names."""
        return asdict(self)


GeneralisationTable = Mapping[str, GeneralisationRow]
"""Rows by what was free in the fit, the least free first."""


def generalisation(
    model: ShapeModel, meshes: Mapping[str, TriangleMesh], folder: Path, progress: Progress = no_progress
) -> GeneralisationTable:
    """Fit pose (9 numbers) and code to each surface and measure how close they come.

    Args:
        model: The shape model.
        meshes: Closed surfaces by name, LPS mm.
        folder: Keeps what was measured on each liver, so that a killed run goes on.
        progress: Told after each liver.

    Returns:
        Rows by what was free (`mean shape`, `8`, `16`, `28`, `all`, `free code`); every fit starts from the one with
        less freedom.
    """
    assd: dict[str, Mapping[str, float]] = {}
    for index, (name, mesh) in enumerate(sorted(meshes.items())):
        measure = partial(_distances, model, mesh)
        assd[name] = cached_measurement(folder / f"{name}.json", measure, dict, _distances_from_json)
        progress("generalisation", (index + 1) / len(meshes))
    rows = _rows(model.latent_space.components)
    return {row: GeneralisationRow.of({name: found[row] for name, found in assd.items()}) for row in rows}


def table_to_json(table: GeneralisationTable) -> JsonObject:
    """The table as it stands in `shape/generalisation.json` and in the evaluation's report."""
    return {row: values.to_json() for row, values in table.items()}


def table_from_json(content: Mapping[str, Any]) -> GeneralisationTable:
    """The inverse of `table_to_json`."""
    return {row: GeneralisationRow(**values) for row, values in content.items()}


def _distances_from_json(content: Mapping[str, float]) -> Mapping[str, float]:
    return content


def _distances(model: ShapeModel, mesh: TriangleMesh) -> Mapping[str, float]:
    """ASSD (mm) of one liver by row."""
    fit: ShapeFit | None = None
    found = {}
    for row, components in _rows(model.latent_space.components).items():
        fit = fit_to_mesh(model, mesh, components, fit)
        found[row] = surface_distance_mm(model.mesh_of_code(fit.code, fit.pose, _TRIANGLE_MM), mesh)
    return found


def measure_generalisation(
    run_folder: Path, progress: Progress = no_progress, part: Part = "held_out"
) -> GeneralisationTable:
    """The table for a run's held-out surfaces, also written to `shape/generalisation.json`.

    part: `validation` where something about the design is to be decided.
    """
    folder = run_folder / "shape"
    livers = load_surfaces(run_folder, part)
    result = generalisation(ShapeModel.load(folder), livers, folder / "generalisation", progress)
    write_json(folder / TABLE_FILE, table_to_json(result))
    discard_measurements(folder / "generalisation")
    return result


def _rows(components: int) -> dict[str, int]:
    """What is free in each row, least first."""
    rows = {"mean shape" if count == 0 else str(count): count for count in _COMPONENTS if count < components}
    return rows | {"all": components, "free code": FREE_CODE}
