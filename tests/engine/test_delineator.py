"""The engine as a whole on the shipped bundle: cancellation, arithmetic, and parts that compose."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dissm_engine import Bundle, Cancellation, Delineator, TrainedModel, Volume
from dissm_engine.arithmetic import Arithmetic
from dissm_engine.errors import NO_SURFACE, DelineationCancelled, DelineationError
from dissm_engine.findings import Verdict
from dissm_engine.hypothesis import Hypothesis
from dissm_engine.measurement import DelineationSteps
from dissm_engine.pose.agent import PosePath
from dissm_engine.pose.similarity import Pose
from dissm_engine.progress import Monitor, Progress
from dissm_engine.trust import LIMITS, judge
from dissm_engine.volume import axis_aligned_grid


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def blob(bundle: Bundle) -> Volume:
    """The mean liver in fat, in a field of view not much larger than it."""
    grid = axis_aligned_grid([-130, -120, -120], [130, 120, 120], 5.0)
    liver = bundle.model.shape.signed_distance(Pose.at(np.zeros(3)), np.zeros(1), grid)
    hu = np.where(liver.mm < 0, 110.0, -90.0) + np.random.default_rng(1).normal(0, 8, grid.shape)
    return Volume(hu.astype(np.float32), grid.lps_from_voxel)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("stage", ["pose", "refine"])
def test_a_requested_cancellation_ends_the_work_in_the_stage_where_it_is(
    bundle: Bundle, blob: Volume, stage: str
) -> None:
    cancellation, told = Cancellation(), []

    def progress(name: str, done: float) -> None:
        told.append((name, done))
        if name == stage and done > 0:
            cancellation.request()

    with pytest.raises(DelineationCancelled) as ended:
        Delineator(bundle).delineate(blob, progress, cancellation)
    assert ended.value.reason.code == "CANCELLED"
    assert not isinstance(ended.value, DelineationError)
    # Of the refinement one pass is done: it is not only between stages that the request is seen.
    assert told[-1][0] == stage
    assert told[-1][1] < 0.5


def test_the_event_of_a_caller_cancels_too() -> None:
    stop = threading.Event()
    cancellation = Cancellation(stop)
    cancellation.raise_if_requested()
    stop.set()
    with pytest.raises(DelineationCancelled):
        cancellation.raise_if_requested()


def test_a_cancelled_monitor_reports_no_more() -> None:
    told: list[float] = []
    monitor = Monitor(lambda _, done: told.append(done)).part(1, 4)
    monitor.report("refine", 0.0)
    monitor.report("refine", 1.0)
    monitor.cancellation.request()
    with pytest.raises(DelineationCancelled):
        monitor.report("refine", 0.5)
    assert told == [0.25, 0.5]


@pytest.mark.slow
def test_the_public_steps_make_what_delineate_makes(bundle: Bundle, blob: Volume) -> None:
    told: list[tuple[str, float]] = []
    whole = Delineator(bundle).delineate(blob, collecting(told))
    model = TrainedModel(
        bundle.model.shape, bundle.model.agent, bundle.model.refiner, bundle.model.surface_bias_mm, bundle.model.trust
    )
    engine = Delineator(model)
    path = engine.find_pose(blob)
    first = engine.best_hypothesis(blob, path)
    found, rounds = engine.refit(blob, first)
    surface = engine.finish(blob, found)
    measured = engine.measure(blob, DelineationSteps(path, first, found, rounds, surface))
    assert (surface.mask == whole.mask).all()
    assert (surface.field.mm == whole.field.mm).all()
    assert rounds == whole.rounds
    assert measured.values.keys() == LIMITS.keys()
    assert judge(measured.values, model.trust, measured.places) == whole.findings
    assert (whole.bundle_name, whole.bundle_digest) == (bundle.name, bundle.digest)
    assert whole.arithmetic == Arithmetic.current(half=engine.half)
    assert engine.delineate(blob, path=path).findings == whole.findings
    stages = [name for name, _ in told]
    assert sorted(stages, key=["pose", "refine", "done"].index) == stages
    for stage in ("pose", "refine"):
        shares = [done for name, done in told if name == stage]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0.0, 1.0)


def collecting(told: list[tuple[str, float]]) -> Progress:
    return lambda name, done: told.append((name, done))


def test_a_model_that_no_trust_was_fitted_to_is_never_trusted(bundle: Bundle) -> None:
    model = TrainedModel(bundle.model.shape, bundle.model.agent, bundle.model.refiner)
    fine = {name: (max(low, -1e3) + min(high, 1e3)) / 2 for name, (_, low, high) in LIMITS.items()}
    unremarkable = fine | {name: low for name, (low, _) in model.trust.absence.items() if name != "volume"}
    assert judge(unremarkable, model.trust).verdict is Verdict.REJECT


@pytest.mark.usefixtures("threads")
def test_the_arithmetic_says_how_many_threads_computed() -> None:
    torch.set_num_threads(1)
    one = Arithmetic.current()
    torch.set_num_threads(2)
    two = Arithmetic.current()
    assert one != two
    assert "threads=1;" in one.text()
    assert "threads=2;" in two.text()
    assert two.instruction_set in two.text()
    torch.set_num_threads(1)
    assert Arithmetic.current().text() == one.text()


def test_the_arithmetic_says_in_what_precision_the_network_multiplied() -> None:
    assert Arithmetic.current("cpu", half=True).precision == "bfloat16"
    assert Arithmetic.current("cpu", half=False).precision == "float32"


@pytest.mark.parametrize("half", [False, True])
def test_the_precision_can_be_demanded(bundle: Bundle, half: bool) -> None:
    engine = Delineator(bundle, half=half)
    assert engine.half is engine.refiner.half is half


def test_a_given_pose_path_is_not_searched_again(bundle: Bundle, blob: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Delineator(bundle, half=False)
    path = engine.find_pose(blob)
    used = []

    def kept(volume: Volume, given: PosePath, monitor: Monitor) -> Hypothesis:
        used.append(given)
        raise DelineationError(NO_SURFACE)

    monkeypatch.setattr(engine, "find_pose", None)
    monkeypatch.setattr(engine, "best_hypothesis", kept)
    with pytest.raises(DelineationError):
        engine.delineate(blob, path=path)
    assert used == [path]


def test_a_refiner_on_another_device_is_another_one(bundle: Bundle) -> None:
    first = bundle.model.refiner
    second = first.on("cpu", half=True)
    assert second.network is not first.network
    assert not first.half
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))
