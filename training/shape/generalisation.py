"""How close the shape model comes to livers it has never seen: pose and code fitted to the true surface (D9)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dissm_engine.mesh import TriangleMesh
from dissm_engine.progress import Progress, no_progress
from dissm_engine.shape.distance import surface_distance_mm
from dissm_engine.shape.fit import FREE_CODE, ShapeFit, fit_to_mesh
from dissm_engine.shape.model import ShapeModel
from training.measurement_cache import cached_measurement, discard_measurements, write_json
from training.sources.surfaces_stage import load_surfaces

TABLE_FILE = "generalisation.json"
_COMPONENTS = (0, 8, 16, 28)
_TRIANGLE_MM = 4.0


def generalisation(
    model: ShapeModel, meshes: Mapping[str, TriangleMesh], folder: Path, progress: Progress = no_progress
) -> dict[str, dict[str, Any]]:
    """Average symmetric surface distance (ASSD, mm) of pose (9 numbers) and code fitted to each surface.

    Rows by what was free (`mean shape`, `8`, `16`, `28`, `all`, `free code`), each with `mean_assd_mm`, `worst_assd_mm`
    and `livers` (by name); every fit starts from the one with less freedom. The table is ready for JSON.
    folder: keeps each liver's row, so that a killed run goes on.
    """
    assd: dict[str, dict[str, float]] = {}
    for index, (name, mesh) in enumerate(sorted(meshes.items())):
        assd[name] = cached_measurement(folder / f"{name}.json", partial(_distances, model, mesh))
        progress("generalisation", (index + 1) / len(meshes))
    rows = _rows(model.latent_space.components)
    return {row: _summary({name: found[row] for name, found in assd.items()}) for row in rows}


def _distances(model: ShapeModel, mesh: TriangleMesh) -> dict[str, float]:
    """ASSD (mm) of one liver by row."""
    fit: ShapeFit | None = None
    found = {}
    for row, components in _rows(model.latent_space.components).items():
        fit = fit_to_mesh(model, mesh, components, fit)
        found[row] = surface_distance_mm(model.mesh_of_code(fit.code, fit.pose, _TRIANGLE_MM), mesh)
    return found


def _summary(livers: Mapping[str, float]) -> dict[str, Any]:
    values = list(livers.values())
    return {"mean_assd_mm": float(np.mean(values)), "worst_assd_mm": float(np.max(values)), "livers": dict(livers)}


def measure_generalisation(run_folder: Path, progress: Progress = no_progress) -> dict[str, dict[str, Any]]:
    """The table for a run's held-out surfaces, also written to `shape/generalisation.json` (aside then renamed)."""
    folder = run_folder / "shape"
    livers = load_surfaces(run_folder, "held_out")
    result = generalisation(ShapeModel.load(folder), livers, folder / "generalisation", progress)
    write_json(folder / TABLE_FILE, result)
    discard_measurements(folder / "generalisation")
    return result


def _rows(components: int) -> dict[str, int]:
    """What is free in each row, least first."""
    rows = {"mean shape" if count == 0 else str(count): count for count in _COMPONENTS if count < components}
    return rows | {"all": components, "free code": FREE_CODE}
