"""Stage "trust": delineate training anatomies well and badly, and fit the estimate of the DSC on what is measured."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from dissm_engine.delineator import Delineator
from dissm_engine.errors import NO_ORGAN, DelineationError
from dissm_engine.pose.agent import PosePath
from dissm_engine.trust import TrustModel, fit_trust, judge
from dissm_engine.volume import Volume
from dissm_phantom import ScanProtocol, head, scan, without_liver
from training.context import RunContext
from training.evaluate.metrics import Truth
from training.measurement_cache import cached_measurement, discard_measurements, write_json
from training.phantom.anatomy_files import StoredAnatomy, anatomy_files, load_anatomy
from training.phantom.scanned_phantoms import scanned
from training.trained_parts import trained_model

_SHIFTS_MM = (25.0, 50.0, 90.0)
_TRUST_SEED = 77
_ABSENT_EVERY = 3


def run_trust(context: RunContext) -> None:
    """Write `trust/trust.json`: the fitted model and the pairs it was fitted on."""
    engine = Delineator(trained_model(context.folder))
    folder = context.stage_folder("trust")
    # Livers that the scan cuts could not be held against their whole surfaces.
    whole = (a for a in map(load_anatomy, anatomy_files(context.folder)) if a.recipe["truncated"] == "none")
    wanted = context.preset.trust_cases
    pairs: list[tuple[dict[str, float], float]] = []
    absent: list[dict[str, float]] = []
    for done, anatomy in enumerate(islice(whole, wanted)):
        rng = np.random.default_rng([context.seed, _TRUST_SEED, done])
        pairs += cached_measurement(
            folder / "cases" / f"{done:03d}.json", partial(_well_and_badly, engine, anatomy, rng)
        )
        if done % _ABSENT_EVERY == 0:
            kept = folder / "cases" / f"{done:03d}_absent.json"
            seed = int(np.random.default_rng([context.seed, _TRUST_SEED, done, 1]).integers(2**31))
            absent += cached_measurement(kept, partial(_where_there_is_none, engine, anatomy, seed))
        context.progress("trust", (done + 1) / wanted)
    measured, overlaps = [values for values, _ in pairs], [dsc for _, dsc in pairs]
    model = fit_trust(measured, overlaps)
    content = {
        "model": model.to_json(), "measured": measured, "dsc": overlaps,
        "absent": absent, "absent_recognised": sum(_is_recognised(values, model) for values in absent),
    }  # fmt: skip
    write_json(folder / "trust.json", content)
    discard_measurements(folder / "cases")


def _well_and_badly(
    engine: Delineator, anatomy: StoredAnatomy, rng: np.random.Generator
) -> list[tuple[dict[str, float], float]]:
    """Findings and true DSC of one body, from the pose that is found and from one that was moved away."""
    volume = scanned(anatomy, int(rng.integers(2**31)))
    truth = Truth(anatomy.liver_mesh)
    path = engine.find_pose(volume)
    moved = _shifted(path, float(rng.choice(_SHIFTS_MM)), rng)
    return [found for each in (path, moved) if (found := _measured(engine, volume, each, truth)) is not None]


def _where_there_is_none(engine: Delineator, anatomy: StoredAnatomy, seed: int) -> list[dict[str, float]]:
    """Findings where fat and bowel stand in the liver's place, and in a head."""
    found = []
    for volume in (scan(without_liver(anatomy.anatomy, seed), ScanProtocol(), seed).volume, head(seed)):
        measured = _measured(engine, volume, engine.find_pose(volume), None)
        if measured is not None:
            found.append(measured[0])
    return found


def _is_recognised(values: dict[str, float], model: TrustModel) -> bool:
    try:
        judge(values, model)
    except DelineationError as problem:
        return problem.reason is NO_ORGAN
    return False


def _shifted(path: PosePath, shift_mm: float, rng: np.random.Generator) -> PosePath:
    """The same path, ended in a wrong place: a bad fit on purpose."""
    direction = rng.standard_normal(3)
    moved = path.pose.corrected(shift_mm * direction / np.linalg.norm(direction), np.ones(3), np.eye(3))
    loadings = path.loadings + rng.normal(0, 1.0, path.loadings.shape).astype(np.float32)
    last = path.stages[-1:]
    return replace(path, steps=(moved,), stages=last, step_loadings=(loadings,), pose=moved, loadings=loadings)


def _measured(
    engine: Delineator, volume: Volume, path: PosePath, truth: Truth | None
) -> tuple[dict[str, float], float] | None:
    """Findings of what is found from `path`, and its DSC with the truth (None: there is no liver)."""
    try:
        best = engine.refit(volume, engine.best_hypothesis(volume, path))
        surface = engine.finish(volume, best)
    except DelineationError:
        return None
    values = dict(engine.measure(volume, path, best, surface))
    return values, 0.0 if truth is None else truth.compare(surface.field).dsc
