"""Stage "trust": delineate validation bodies well and badly, fit the estimate of the DSC on half of their livers.

The other half is the trust test set: the fit and the choice of the limits never see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from dissm_engine.delineator import Delineator
from dissm_engine.errors import DelineationError, Reason
from dissm_engine.hypothesis import Hypothesis
from dissm_engine.json_value import JsonValue
from dissm_engine.measurement import DelineationSteps
from dissm_engine.pose.agent import PosePath
from dissm_engine.rounds import Round, at_rho_share, movement
from dissm_engine.trust import fit_trust
from dissm_engine.volume import Volume
from dissm_phantom import ScanProtocol, head, scan, without_liver
from dissm_phantom.variety import LIVER_SHAPES, Trait
from training.context import RunContext
from training.errors import RunError
from training.evaluate.metrics import Truth
from training.evaluate.trust_fit import (
    FindingValues,
    Start,
    TrustFit,
    TrustPair,
    is_recognised_as_absent,
    write_trust_fit,
)
from training.evaluate.trust_limits import with_accept_limit, with_limits_of_good_results
from training.evaluate.visible_surface import visible_surface
from training.evaluate.wrong_starts import starts, starts_to_leave_early
from training.measurement_cache import cached_measurement, discard_measurements
from training.phantom.anatomy_files import StoredAnatomy, load_anatomy, stored_liver_name
from training.phantom.scanned_phantoms import scanned
from training.refine.refinement_stage import validation_files
from training.trained_parts import trained_model

ODD_TRAITS = frozenset(
    {
        *LIVER_SHAPES,
        *(Trait.LOW_LIVER, Trait.MASS_BESIDE_LIVER, Trait.SPLENOMEGALY, Trait.MUCH_ASCITES),
        *(Trait.METASTASES, Trait.POLYCYSTIC_LIVER, Trait.ABSCESS, Trait.CUT_ABOVE, Trait.CUT_BELOW),
    }
)
"""With one of these a body counts as odd."""
NO_VALIDATION_BODIES = Reason(
    "NO_VALIDATION_BODIES",
    "the run folder {folder} has no bodies of validation livers, and trust is never fitted on those of the training",
    "run stage anatomies, or give a folder of such bodies with --validation",
)
_TRUST_SEED = 77
_ABSENT_EVERY = 4


@dataclass(frozen=True, slots=True)
class BodyHalves:
    """Bodies of validation livers; no liver is in both halves."""

    fit: tuple[Path, ...]
    test: tuple[Path, ...]

    @staticmethod
    def of(files: Sequence[Path]) -> BodyHalves:
        """Every other liver, by name, is for the fit, with all of its bodies."""
        named = [(stored_liver_name(file), file) for file in files]
        for_fit = set(sorted({name for name, _ in named})[::2])
        return BodyHalves(
            tuple(file for name, file in named if name in for_fit),
            tuple(file for name, file in named if name not in for_fit),
        )


def run_trust(context: RunContext) -> None:
    """Write `trust/trust.json`: the fitted model, the results it was fitted on, and those it is tested on.

    Raises:
        RunError: There are no bodies of validation livers.
    """
    halves = BodyHalves.of(validation_files(context))
    if not halves.fit:
        raise RunError(NO_VALIDATION_BODIES, folder=context.folder.name)
    work = _TrustWork(context, Delineator(trained_model(context.folder)), context.stage_folder("trust") / "cases")
    pairs = work.measured("fit", halves.fit, range(work.fit_scans))
    absent = work.measured_absent(halves.fit)
    further = range(work.fit_scans, work.fit_scans + work.test_scans)
    test = work.measured("test", halves.test, further if halves.test else range(0))
    model = fit_trust([pair.findings for pair in pairs], [pair.dsc for pair in pairs])
    model = with_accept_limit(with_limits_of_good_results(model, pairs), pairs)
    recognised = sum(is_recognised_as_absent(values, model) for values in absent)
    write_trust_fit(context.folder, TrustFit(model, tuple(pairs), tuple(test), tuple(absent), recognised))
    discard_measurements(work.cache)


@dataclass(frozen=True)
class _TrustWork:
    """The scans of one run of the stage. Bodies are scanned in turn, each time under another protocol."""

    context: RunContext
    engine: Delineator
    cache: Path

    @property
    def fit_scans(self) -> int:
        """On how many scans the model is fitted; each gives up to 11 results."""
        return self.context.preset.trust_cases

    @property
    def test_scans(self) -> int:
        """On how many it is tested: half as many again, so that enough of the results are poor."""
        return self.context.preset.trust_cases * 3 // 2

    def measured(self, name: str, bodies: Sequence[Path], scans: range) -> list[TrustPair]:
        """Every result of the scans of one half."""
        pairs: list[TrustPair] = []
        for number in scans:
            rng = np.random.default_rng([self.context.seed, _TRUST_SEED, number])
            measure = partial(
                _results, self.engine, bodies[number % len(bodies)], rng, self.context.preset.trust_starts
            )
            pairs += cached_measurement(self.cache / f"{name}_{number:03d}.json", measure, _to_json, _from_json)
            self.context.progress("trust", (number + 1) / (self.fit_scans + self.test_scans))
        return pairs

    def measured_absent(self, bodies: Sequence[Path]) -> list[FindingValues]:
        """Findings where there is no liver, of every fourth scan's body."""
        absent: list[FindingValues] = []
        for done in range(0, self.fit_scans, _ABSENT_EVERY):
            seed = int(np.random.default_rng([self.context.seed, _TRUST_SEED, done, 1]).integers(2**31))
            measure = partial(_where_there_is_none, self.engine, bodies[done % len(bodies)], seed)
            absent += cached_measurement(self.cache / f"absent_{done:03d}.json", measure, list, list)
        return absent


def _to_json(pairs: Iterable[TrustPair]) -> JsonValue:
    return [pair.to_json() for pair in pairs]


def _from_json(content: Sequence[dict[str, JsonValue]]) -> list[TrustPair]:
    return [TrustPair.from_json(each) for each in content]


def _results(engine: Delineator, body: Path, rng: np.random.Generator, max_starts: int | None) -> list[TrustPair]:
    anatomy = load_anatomy(body)
    return results_of_scan(engine, anatomy, scanned(anatomy, int(rng.integers(2**31))), rng, max_starts)


def results_of_scan(
    engine: Delineator,
    anatomy: StoredAnatomy,
    volume: Volume,
    rng: np.random.Generator,
    max_starts: int | None = None,
) -> list[TrustPair]:
    """Findings and true DSC from every start, before its first round and, of most, after its last.

    Args:
        engine: Delineates; its own trust does not matter.
        anatomy: The body; the truth is what the scan shows of its liver.
        volume: A scan of it.
        rng: Draws the wrong starts.
        max_starts: How many of the starts are followed, the pose stage's own first; None: all.

    Returns:
        Nothing where the scan shows no liver; of a start from which no surface was found nothing.
    """
    try:
        truth = Truth(visible_surface(anatomy.liver_mesh, volume.grid))
    except DelineationError:
        return []
    odd = bool(anatomy.traits & ODD_TRAITS)
    return [
        TrustPair(
            findings=dict(engine.measure(volume, steps).values),
            dsc=truth.compare(steps.surface.field).dsc,
            start=start,
            early=early,
            liver=anatomy.liver_name,
            odd=odd,
        )
        for start, early, steps in _every_end(engine, volume, rng, max_starts)
    ]


def _every_end(
    engine: Delineator, volume: Volume, rng: np.random.Generator, max_starts: int | None
) -> Iterator[tuple[Start, bool, DelineationSteps]]:
    """Start, whether it ended before its first round, and the result."""
    found = engine.find_pose(volume)
    wanted = [(start, path, _ends) for start, path in starts(found, rng)]
    wanted += [(start, path, _early_end) for start, path in starts_to_leave_early(found, rng)]
    for start, path, ends in wanted[:max_starts]:
        for early, steps in ends(engine, volume, path):
            yield start, early, steps


def _where_there_is_none(engine: Delineator, body: Path, seed: int) -> list[FindingValues]:
    """Findings where fat and bowel stand in the liver's place, and in a head."""
    anatomy = load_anatomy(body).anatomy
    return [
        dict(engine.measure(volume, steps).values)
        for volume in (scan(without_liver(anatomy, seed), ScanProtocol(), seed).volume, head(seed))
        for early, steps in _ends(engine, volume, engine.find_pose(volume))
        if not early
    ]


def _ends(engine: Delineator, volume: Volume, path: PosePath) -> Iterator[tuple[bool, DelineationSteps]]:
    """The result before the first round (True) and the one after the last; only this where they are the same.

    The first round is made in either case: how far it would move the surface is a finding of the early result, too.
    """
    try:
        first = engine.best_hypothesis(volume, path)
        found, rounds = engine.refit(volume, first)
    except DelineationError:
        return
    ends: list[tuple[bool, Hypothesis, Sequence[Round]]] = [(False, found, rounds)]
    if any(made.kept for made in rounds):
        ends.insert(0, (True, _without_bias(engine, first), rounds[:1]))
    for early, end, made_until_then in ends:
        # Where no closed surface remains, there is no result.
        with suppress(DelineationError):
            surface = engine.finish(volume, end)
            yield early, DelineationSteps(path, first, end, made_until_then, surface)


def _early_end(engine: Delineator, volume: Volume, path: PosePath) -> Iterator[tuple[bool, DelineationSteps]]:
    """Only the result before the first round; that round alone is made, for its movement."""
    with suppress(DelineationError):
        first = engine.best_hypothesis(volume, path)
        fit, components = engine.fit_shape(first, volume.grid)
        loadings = fit.loadings(engine.model.shape.latent_space, components)
        later = engine.refine_from(volume, fit.pose, loadings).refinement
        moved = movement(first.refinement, later)
        left = Round(components, fit.residual_mm, moved, at_rho_share(later, _rho_mm(engine)), kept=False)
        end = _without_bias(engine, first)
        yield True, DelineationSteps(path, first, end, (left,), engine.finish(volume, end))


def _rho_mm(engine: Delineator) -> float:
    return engine.refiner.network.architecture.rho_mm


def _without_bias(engine: Delineator, found: Hypothesis) -> Hypothesis:
    """As the engine leaves its own results."""
    refinement = found.refinement.moved_inward(engine.model.surface_bias_mm, _rho_mm(engine))
    return replace(found, refinement=refinement)
