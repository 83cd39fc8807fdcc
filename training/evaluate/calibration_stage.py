"""Stage "calibrate": by how much the refined surface lies outside the true one, on bodies scanned anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from dissm_engine.delineator import Delineator
from dissm_engine.mesh import TriangleMesh
from dissm_engine.shape.distance import signed_distance_to_mesh, surface_points
from dissm_engine.surface import mesh_of, organ_field
from training.context import RunContext
from training.evaluate.calibration import Calibration, write_calibration
from training.evaluate.metrics import Truth
from training.measurement_cache import cached_measurement, discard_measurements
from training.phantom.anatomy_files import StoredAnatomy, anatomy_files, load_anatomy
from training.phantom.scanned_phantoms import scanned
from training.refine.refinement_stage import validation_files
from training.trained_parts import trained_model

OFFSETS_MM = tuple(tenths / 10 for tenths in range(-5, 21))
_SEED = 79
_SURFACE_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class BodyCalibration:
    """What one body says of the bias.

    Attributes:
        signed_mm: Signed mean distance of the refined surface from the true one, positive outside of it.
        dsc: Of the refined surface, for every offset of OFFSETS_MM.
    """

    signed_mm: float
    dsc: tuple[float, ...]

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> BodyCalibration:
        """The inverse of `dataclasses.asdict`."""
        return BodyCalibration(float(content["signed_mm"]), tuple(content["dsc"]))


def run_calibrate(context: RunContext) -> None:
    """Write `calibrate/calibration.json`: how far the refined surface lies outside the true one.

    Measured on the bodies that no training sees where the run has such bodies, else on the last of those to learn from.
    """
    cache = context.stage_folder("calibrate") / "cases"
    engine = Delineator(trained_model(context.folder))
    # Livers that the scan cuts could not be held against their whole surfaces. The last ones: "trust" takes the first.
    files = validation_files(context) or list(reversed(anatomy_files(context.folder)))
    whole = (a for a in map(load_anatomy, files) if not a.truncated)
    wanted = context.preset.trust_cases
    rows: list[BodyCalibration] = []
    for done, anatomy in enumerate(islice(whole, wanted)):
        rng = np.random.default_rng([context.seed, _SEED, done])
        measure = partial(_calibrated, engine, anatomy, rng)
        rows.append(cached_measurement(cache / f"{done:03d}.json", measure, asdict, BodyCalibration.from_json))
        context.progress("calibrate", (done + 1) / wanted)
    means = np.mean([row.dsc for row in rows], axis=0)
    signed = tuple(row.signed_mm for row in rows)
    mean_dsc = dict(zip(OFFSETS_MM, means.tolist(), strict=True))
    write_calibration(context.folder, Calibration(float(np.median(signed)), len(rows), mean_dsc, signed))
    discard_measurements(cache)


def _calibrated(engine: Delineator, anatomy: StoredAnatomy, rng: np.random.Generator) -> BodyCalibration:
    volume = scanned(anatomy, int(rng.integers(2**31)))
    found, _ = engine.refit(volume, engine.best_hypothesis(volume, engine.find_pose(volume)))
    field = organ_field(found.refinement.field, volume.grid)
    truth = Truth(anatomy.liver_mesh)
    distance = field.at(truth.grid.points_lps())
    overlaps = []
    for offset in OFFSETS_MM:
        inside = distance < -offset
        overlaps.append(float(2.0 * (inside & truth.inside).sum() / (inside.sum() + truth.inside.sum())))
    return BodyCalibration(signed_distance_mm(mesh_of(field), anatomy.liver_mesh), tuple(overlaps))


def signed_distance_mm(found: TriangleMesh, true: TriangleMesh) -> float:
    """Signed mean distance of two closed surfaces (mm), both ways: positive where `found` lies outside `true`."""
    rng = np.random.default_rng(0)
    there = signed_distance_to_mesh(surface_points(found, _SURFACE_POINTS, rng), true)
    back = signed_distance_to_mesh(surface_points(true, _SURFACE_POINTS, rng), found)
    return float(there.mean() - back.mean()) / 2
