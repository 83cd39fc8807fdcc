"""Stage "calibrate": by how much the refined surface lies outside the true one, on training bodies scanned anew."""

from __future__ import annotations

from functools import partial
from itertools import islice

import numpy as np

from dissm_engine.delineator import Delineator
from dissm_engine.surface import organ_field
from training.context import RunContext
from training.evaluate.calibration import Calibration, write_calibration
from training.evaluate.metrics import Truth
from training.measurement_cache import cached_measurement, discard_measurements
from training.phantom.anatomy_files import StoredAnatomy, anatomy_files, load_anatomy
from training.phantom.scanned_phantoms import scanned
from training.trained_parts import trained_model

OFFSETS_MM = tuple(tenths / 10 for tenths in range(-5, 21))
_SEED = 79


def run_calibrate(context: RunContext) -> None:
    """Write `calibrate/calibration.json`: the offset of the final field that serves the mean DSC best."""
    cache = context.stage_folder("calibrate") / "cases"
    engine = Delineator(trained_model(context.folder))
    # Livers that the scan cuts could not be held against their whole surfaces. The last ones: "trust" takes the first.
    whole = (a for a in map(load_anatomy, reversed(anatomy_files(context.folder))) if not a.truncated)
    wanted = context.preset.trust_cases
    rows: list[list[float]] = []
    for done, anatomy in enumerate(islice(whole, wanted)):
        rng = np.random.default_rng([context.seed, _SEED, done])
        measure = partial(_overlaps, engine, anatomy, rng)
        rows.append(cached_measurement(cache / f"{done:03d}.json", measure, list, list))
        context.progress("calibrate", (done + 1) / wanted)
    means = np.mean(rows, axis=0)
    mean_dsc = dict(zip(OFFSETS_MM, means.tolist(), strict=True))
    write_calibration(context.folder, Calibration(OFFSETS_MM[int(means.argmax())], len(rows), mean_dsc))
    discard_measurements(cache)


def _overlaps(engine: Delineator, anatomy: StoredAnatomy, rng: np.random.Generator) -> list[float]:
    """DSC of one body for every offset."""
    volume = scanned(anatomy, int(rng.integers(2**31)))
    found, _ = engine.refit(volume, engine.best_hypothesis(volume, engine.find_pose(volume)))
    field = organ_field(found.refinement.field, volume.grid)
    truth = Truth(anatomy.liver_mesh)
    distance = field.at(truth.grid.points_lps())
    overlaps = []
    for offset in OFFSETS_MM:
        inside = distance < -offset
        overlaps.append(float(2.0 * (inside & truth.inside).sum() / (inside.sum() + truth.inside.sum())))
    return overlaps
