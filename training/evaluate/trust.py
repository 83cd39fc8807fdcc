"""Stage "trust": delineate training anatomies well and badly, and fit the estimate of the DSC on what is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np

from dissm_engine.delineator import Delineator
from dissm_engine.errors import DelineationError
from dissm_engine.findings import fit_trust, measure
from dissm_engine.pose.agent import PosePath
from dissm_engine.surface import closed_at_border, largest_part, mask_of, mesh_of
from dissm_engine.volume import Volume
from training.assembly import untrusting_engine
from training.context import RunContext
from training.evaluate.metrics import Truth
from training.phantom.storage import anatomy_files, load_anatomy
from training.phantom.test_phantoms import scanned

_SHIFTS_MM = (25.0, 50.0, 90.0)


def run_trust(context: RunContext) -> None:
    """Write `trust/trust.json`: the fitted model and the pairs it was fitted on."""
    engine = untrusting_engine(context.folder)
    rng = np.random.default_rng([context.seed, 77])
    # Livers that the scan cuts could not be held against their whole surfaces.
    whole = (a for a in map(load_anatomy, anatomy_files(context.folder)) if a.recipe["truncated"] == "none")
    wanted = context.preset.trust_cases
    measured: list[dict[str, float]] = []
    overlaps: list[float] = []
    for done, anatomy in enumerate(islice(whole, wanted)):
        volume = scanned(anatomy, int(rng.integers(2**31)))
        truth = Truth(anatomy.liver_mesh)
        path = engine.agent.find_pose(volume, engine.shape)
        for shift in (0.0, float(rng.choice(_SHIFTS_MM))):
            found = _measured(engine, volume, path if shift == 0 else _shifted(path, shift, rng), truth)
            if found is not None:
                measured.append(found[0])
                overlaps.append(found[1])
        context.progress("trust", (done + 1) / wanted)
    content = {"model": fit_trust(measured, overlaps).to_json(), "measured": measured, "dsc": overlaps}
    (context.stage_folder("trust") / "trust.json").write_text(json.dumps(content, indent=1))


def _shifted(path: PosePath, shift_mm: float, rng: np.random.Generator) -> PosePath:
    """The same path, ended in a wrong place: a bad fit on purpose."""
    direction = rng.standard_normal(3)
    moved = path.pose.corrected(shift_mm * direction / np.linalg.norm(direction), np.ones(3), np.eye(3))
    loadings = path.loadings + rng.normal(0, 1.0, path.loadings.shape).astype(np.float32)
    last = path.stages[-1:]
    return replace(path, steps=(moved,), stages=last, step_loadings=(loadings,), pose=moved, loadings=loadings)


def _measured(
    engine: Delineator, volume: Volume, path: PosePath, truth: Truth
) -> tuple[dict[str, float], float] | None:
    try:
        best = engine.settled(volume, engine.best_hypothesis(volume, path))
        field = largest_part(closed_at_border(best.refinement.field, volume.grid))
    except DelineationError:
        return None
    mask, mesh = mask_of(field, volume.grid), mesh_of(field)
    volume_ml = float(mask.sum() * volume.grid.voxel_ml)
    values = measure(path, best.loadings, best.refinement, best.working, mesh, volume.grid, volume_ml)
    return values, truth.compare(field).dsc
