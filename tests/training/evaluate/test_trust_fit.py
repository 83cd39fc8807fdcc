"""Which results a trust model is fitted on, and how its limits are chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dissm_engine.findings import Verdict
from dissm_engine.pose.agent import PosePath, stage_poses
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.similarity import Pose
from dissm_engine.trust import LIMITS, TrustModel, fit_trust
from training.context import RunContext
from training.errors import RunError
from training.evaluate.trust_fit import (
    Start,
    TrustFit,
    TrustPair,
    judged,
    read_trust_fit,
    verdict_of,
    write_trust_fit,
)
from training.evaluate.trust_limits import WIDENED, with_accept_limit, with_limits_of_good_results
from training.evaluate.trust_stage import BodyHalves, run_trust
from training.evaluate.wrong_starts import starts, starts_to_leave_early
from training.phantom.anatomy_files import stored_liver_name
from training.presets import Preset


def pair(dsc: float, *, start: Start = Start.FOUND, liver: str = "one", **changes: float) -> TrustPair:
    """A result whose unevenness says how good it is, and nothing else about it is remarkable."""
    findings = dict.fromkeys(LIMITS, 0.0) | {
        **{"tissue_agreement": 1.0, "tissue_dsc": 0.97, "liver_hu": 100.0, "volume": 1500.0},
        **{"liver_hu_sd": 10 + 200 * (0.97 - dsc)},
    }
    return TrustPair(findings | changes, dsc, start, early=False, liver=liver, odd=False)


def results(count: int, seed: int = 0) -> list[TrustPair]:
    rng = np.random.default_rng(seed)
    return [pair(float(dsc), edgeless_share=float(rng.uniform(0, 0.3))) for dsc in rng.uniform(0.85, 0.97, count)]


def fitted(pairs: list[TrustPair]) -> TrustModel:
    return fit_trust([each.findings for each in pairs], [each.dsc for each in pairs])


def accepted(model: TrustModel, pairs: list[TrustPair], low: float, high: float) -> int:
    return sum(low <= each.dsc < high and verdict_of(each.findings, model) is Verdict.ACCEPT for each in pairs)


def test_the_accept_limit_is_the_lowest_that_keeps_the_rule_on_the_results_of_the_fit() -> None:
    pairs = results(300)
    model = with_accept_limit(fitted(pairs), pairs)
    poor = sum(each.dsc < 0.93 for each in pairs)
    assert accepted(model, pairs, 0, 0.90) == 0
    assert accepted(model, pairs, 0, 0.93) <= 0.02 * poor
    lower = replace(model, accept=model.accept - 0.001)
    assert accepted(lower, pairs, 0, 0.90) > 0 or accepted(lower, pairs, 0, 0.93) > 0.02 * poor
    assert accepted(model, pairs, 0.95, 1) > 0.5 * sum(each.dsc >= 0.95 for each in pairs)


def test_where_good_and_poor_results_cannot_be_told_apart_nothing_is_accepted() -> None:
    same = pair(0.97).findings
    model = fitted([pair(0.97) for _ in range(50)])
    pairs = [replace(pair(dsc), findings=same) for dsc in (0.80, 0.96, 0.97) * 20]
    chosen = with_accept_limit(replace(model, bias=12.0), pairs)
    assert chosen.accept == 1.0
    assert accepted(chosen, pairs, 0, 1) == 0


def test_a_poor_result_that_its_findings_give_away_does_not_raise_the_accept_limit() -> None:
    pairs = results(200)
    model = fitted(pairs)
    cut = replace(pair(0.5), findings=dict(pair(0.97).findings) | {"cut_share": 0.2})
    assert with_accept_limit(model, [*pairs, cut]).accept == with_accept_limit(model, pairs).accept


def test_limits_give_way_to_good_results_of_the_usual_way_only() -> None:
    good = [pair(0.96, left_out=30.0 + number % 3, tissue_dsc=0.91, edgeless_share=0.7) for number in range(40)]
    wrong = [replace(pair(0.96, left_out=300.0), start=Start.SHIFTED) for _ in range(40)]
    poor = [pair(0.90, left_out=200.0) for _ in range(40)]
    limits = with_limits_of_good_results(fitted(good), [*good, *wrong, *poor]).limits
    assert limits["left_out"] == ("ml", 0.0, 32.0)
    assert limits["tissue_dsc"] == ("", 0.91, 1.0)
    assert {name: limits[name] for name in limits.keys() - WIDENED} == {
        name: LIMITS[name] for name in LIMITS.keys() - WIDENED
    }
    assert limits["mass_like"] == LIMITS["mass_like"]
    few = fitted(good)
    assert with_limits_of_good_results(few, good[:19]).limits == few.limits


def test_a_fit_survives_its_file_and_is_assessed_on_the_test_set(tmp_path: Path) -> None:
    pairs, test = results(100), results(60, seed=1)
    model = with_accept_limit(fitted(pairs), pairs)
    (tmp_path / "trust").mkdir()
    fit = TrustFit(model, tuple(pairs), tuple(test), (pair(0.0).findings,), 1)
    write_trust_fit(tmp_path, fit)
    again = read_trust_fit(tmp_path)
    assert (again.pairs, again.test, again.absent, again.absent_recognised) == (fit.pairs, fit.test, fit.absent, 1)
    assert judged(again.model, again.test) == judged(model, test)
    assert again.assessment is not None
    assert again.assessment.results == 60
    assert again.assessment.poor_accepted.of == sum(each.dsc < 0.93 for each in test)
    assert replace(fit, test=()).assessment is None


def test_what_is_recognised_as_no_liver_counts_as_rejected() -> None:
    model = fitted(results(50))
    absent = pair(0.97, odd_tissues=2.0, start_spread=30.0)
    assert verdict_of(absent.findings, model) is Verdict.REJECT
    wrong_start = replace(absent, start=Start.SHIFTED)
    assert TrustFit(model, (absent, pair(0.96), wrong_start), (absent,), (), 0).called_absent == 2


def test_no_liver_is_in_both_halves_and_every_body_is_in_one(tmp_path: Path) -> None:
    names = ("c", "a", "b", "d", "e", "a", "b")
    files = [stored(tmp_path / f"{number:04d}.npz", name) for number, name in enumerate(names)]
    halves = BodyHalves.of(files)
    of_fit, of_test = ({stored_liver_name(file) for file in half} for half in (halves.fit, halves.test))
    assert (of_fit, of_test) == ({"a", "c", "e"}, {"b", "d"})
    assert sorted([*halves.fit, *halves.test]) == files


def stored(path: Path, liver: str) -> Path:
    np.savez_compressed(path, about=f'{{"liver": "{liver}"}}')
    return path


def test_without_validation_bodies_trust_is_not_fitted(tmp_path: Path) -> None:
    (tmp_path / "anatomies").mkdir()
    stored(tmp_path / "anatomies" / "0000.npz", "of training")
    with pytest.raises(RunError, match="never fitted on those of the training"):
        run_trust(RunContext(tmp_path, tmp_path, Preset.named("smoke")))


def test_wrong_starts_are_wrong_and_end_in_one_hypothesis() -> None:
    pose, loadings = Pose.at(np.zeros(3)), np.zeros(4, np.float32)
    turned = Pose.at(np.array([1.0, 0, 0]))
    stages = (StageName.TRANSLATION, StageName.ROTATION, StageName.NON_RIGID)
    path = PosePath((pose, turned, pose), stages, (loadings,) * 3, pose, loadings + 1, 2.0, 1.0)
    drawn = [dict(starts(path, np.random.default_rng(seed))) for seed in range(30)]
    for made in drawn:
        assert list(made) == list(Start)
        assert made[Start.FOUND] is path
        assert list(stage_poses(made[Start.RIGID])) == [StageName.ROTATION]
        assert (made[Start.RIGID].pose.translation == turned.translation).all()
        for wrong in (made[Start.SHIFTED], made[Start.DEFORMED]):
            assert len(stage_poses(wrong)) == 1
        assert 10 <= np.linalg.norm(made[Start.SHIFTED].pose.translation) <= 90
        assert np.linalg.norm(made[Start.DEFORMED].pose.translation) <= 10
    for _, early in starts_to_leave_early(path, np.random.default_rng(0)):
        assert len(stage_poses(early)) == 1
        assert np.abs(early.loadings - path.loadings).max() > 0.1
    scales = [made[Start.DEFORMED].pose.scale[0] for made in drawn]
    assert min(scales) < 0.9 < 1.15 < max(scales)
    assert np.std([made[Start.DEFORMED].loadings for made in drawn]) == pytest.approx(1.5, rel=0.2)
