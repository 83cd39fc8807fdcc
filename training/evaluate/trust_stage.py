"""Stage "trust": delineate training anatomies well and badly, and fit the estimate of the DSC on what is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import islice

import numpy as np

from dissm_engine.delineator import Delineator
from dissm_engine.errors import NO_ORGAN, DelineationError
from dissm_engine.json_value import JsonValue
from dissm_engine.pose.agent import PosePath
from dissm_engine.trust import TrustModel, fit_trust, judge
from dissm_engine.volume import Volume
from dissm_phantom import ScanProtocol, head, scan, without_liver
from training.context import RunContext
from training.evaluate.metrics import Truth
from training.evaluate.trust_fit import FindingValues, TrustFit, TrustPair, write_trust_fit
from training.measurement_cache import cached_measurement, discard_measurements
from training.phantom.anatomy_files import StoredAnatomy, anatomy_files, load_anatomy
from training.phantom.scanned_phantoms import scanned
from training.trained_parts import trained_model

_SHIFTS_MM = (25.0, 50.0, 90.0)
_TRUST_SEED = 77
_ABSENT_EVERY = 3


def run_trust(context: RunContext) -> None:
    """Write `trust/trust.json`: the fitted model and the pairs it was fitted on."""
    engine = Delineator(trained_model(context.folder))
    cache = context.stage_folder("trust") / "cases"
    # Livers that the scan cuts could not be held against their whole surfaces.
    whole = (anatomy for anatomy in map(load_anatomy, anatomy_files(context.folder)) if not anatomy.truncated)
    wanted = context.preset.trust_cases
    pairs: list[TrustPair] = []
    absent: list[FindingValues] = []
    for done, anatomy in enumerate(islice(whole, wanted)):
        rng = np.random.default_rng([context.seed, _TRUST_SEED, done])
        measure = partial(_well_and_badly, engine, anatomy, rng)
        pairs += cached_measurement(cache / f"{done:03d}.json", measure, _pairs_to_json, _pairs_from_json)
        if done % _ABSENT_EVERY == 0:
            seed = int(np.random.default_rng([context.seed, _TRUST_SEED, done, 1]).integers(2**31))
            measure_absent = partial(_where_there_is_none, engine, anatomy, seed)
            absent += cached_measurement(cache / f"{done:03d}_absent.json", measure_absent, list, list)
        context.progress("trust", (done + 1) / wanted)
    model = fit_trust([pair.findings for pair in pairs], [pair.dsc for pair in pairs])
    recognised = sum(_is_recognised(values, model) for values in absent)
    write_trust_fit(context.folder, TrustFit(model, tuple(pairs), tuple(absent), recognised))
    discard_measurements(cache)


def _pairs_to_json(pairs: Iterable[TrustPair]) -> JsonValue:
    return [[pair.findings, pair.dsc] for pair in pairs]


def _pairs_from_json(content: list[tuple[FindingValues, float]]) -> list[TrustPair]:
    return [TrustPair(findings, float(dsc)) for findings, dsc in content]


def _well_and_badly(engine: Delineator, anatomy: StoredAnatomy, rng: np.random.Generator) -> list[TrustPair]:
    """Findings and true DSC of one body, from the pose that is found and from one that was moved away."""
    volume = scanned(anatomy, int(rng.integers(2**31)))
    truth = Truth(anatomy.liver_mesh)
    path = engine.find_pose(volume)
    moved = _shifted(path, float(rng.choice(_SHIFTS_MM)), rng)
    return [found for each in (path, moved) if (found := _measured(engine, volume, each, truth)) is not None]


def _where_there_is_none(engine: Delineator, anatomy: StoredAnatomy, seed: int) -> list[FindingValues]:
    """Findings where fat and bowel stand in the liver's place, and in a head."""
    found = []
    for volume in (scan(without_liver(anatomy.anatomy, seed), ScanProtocol(), seed).volume, head(seed)):
        measured = _measured(engine, volume, engine.find_pose(volume), None)
        if measured is not None:
            found.append(measured.findings)
    return found


def _is_recognised(values: FindingValues, model: TrustModel) -> bool:
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


def _measured(engine: Delineator, volume: Volume, path: PosePath, truth: Truth | None) -> TrustPair | None:
    """Findings of what is found from `path`, and its DSC with the truth (None: there is no liver)."""
    try:
        best, _ = engine.refit(volume, engine.best_hypothesis(volume, path))
        surface = engine.finish(volume, best)
    except DelineationError:
        return None
    dsc = 0.0 if truth is None else truth.compare(surface.field).dsc
    return TrustPair(dict(engine.measure(volume, path, best, surface)), dsc)
