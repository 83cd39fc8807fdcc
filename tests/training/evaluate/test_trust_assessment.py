"""Trust against truth: the counts, their bounds, the curve."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dissm_engine.findings import Verdict
from training.evaluate.trust_assessment import Proportion, TrustAssessment, assess_trust, roc_curve
from training.evaluate.trust_assessment_figure import trust_assessment_figure

ACCEPT, REVIEW, REJECT = Verdict.ACCEPT, Verdict.REVIEW, Verdict.REJECT
TRUE = [0.50, 0.8999, 0.90, 0.92, 0.93, 0.9499, 0.95, 0.97]
ESTIMATED = [0.40, 0.92, 0.91, 0.90, 0.92, 0.96, 0.96, 0.97]
VERDICTS = [REJECT, ACCEPT, REVIEW, ACCEPT, REVIEW, ACCEPT, ACCEPT, REVIEW]


def test_every_result_is_counted_once_in_the_band_of_its_true_dsc() -> None:
    counts = assess_trust(TRUE, ESTIMATED, VERDICTS).counts
    assert counts[ACCEPT] == (1, 1, 1, 1)
    assert counts[REVIEW] == (0, 1, 1, 1)
    assert counts[REJECT] == (1, 0, 0, 0)


def test_wrongly_accepted_results_are_counted_under_each_limit() -> None:
    trust = assess_trust(TRUE, ESTIMATED, VERDICTS)
    assert (trust.failed_accepted.count, trust.failed_accepted.of) == (1, 2)
    assert (trust.poor_accepted.count, trust.poor_accepted.of) == (2, 4)
    assert (trust.good_accepted.count, trust.good_accepted.of) == (1, 2)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # Clopper and Pearson 1934: none of 200 leaves up to 1.8 %, 4 of 200 up to 5.04 %.
    [(0, 200, 0.0, 0.01828), (4, 200, 0.00548, 0.05041), (200, 200, 0.98172, 1.0)],
)
def test_bounds_are_the_exact_ones(count: int, of: int, low: float, high: float) -> None:
    share = Proportion.counted(count, of)
    assert share.low == pytest.approx(low, abs=2e-5)
    assert share.high == pytest.approx(high, abs=2e-5)


def test_without_results_nothing_is_known() -> None:
    assert Proportion.counted(0, 0) == Proportion(0, 0, 0.0, 1.0)
    assert Proportion.counted(0, 0).share is None


def test_the_curve_of_a_perfect_score_has_the_area_one_and_of_a_constant_one_half() -> None:
    positive = np.array([True, True, False, False, False])
    perfect = roc_curve(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), positive)
    assert perfect.area == 1.0
    assert (perfect.false_positive_rate[2], perfect.true_positive_rate[2]) == (0.0, 1.0)
    assert roc_curve(np.zeros(5), positive).area == 0.5
    assert roc_curve(np.arange(5.0), positive).area == 0.0


def test_the_area_is_that_under_the_drawn_curve() -> None:
    rng = np.random.default_rng(5)
    score, positive = rng.integers(0, 12, 300).astype(np.float64), rng.random(300) < 0.3
    score[positive] += 2
    curve = roc_curve(score, positive)
    assert curve.area == pytest.approx(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate))
    assert curve.area is not None
    assert 0.6 < curve.area < 0.9


def test_results_of_one_kind_have_no_curve() -> None:
    assert assess_trust([0.96, 0.97], [0.9, 0.9], [ACCEPT, ACCEPT]).roc.area is None


def test_reliability_holds_every_result_and_shows_an_estimate_that_is_too_high() -> None:
    trust = assess_trust([0.89, 0.91, 0.50], [0.95, 0.95, 1.0], [ACCEPT] * 3)
    assert sum(each.count for each in trust.reliability) == 3
    (of_both,) = [each for each in trust.reliability if each.count == 2]
    assert of_both.mean_true_dsc == pytest.approx(0.90)
    assert of_both.mean_estimated_dsc == pytest.approx(0.95)
    assert trust.reliability[-1].count == 1
    assert trust.mean_absolute_error == pytest.approx((0.06 + 0.04 + 0.5) / 3)


def test_a_higher_limit_takes_fewer_poor_and_fewer_good_results() -> None:
    rng = np.random.default_rng(2)
    true = rng.uniform(0.85, 0.99, 400)
    limits = assess_trust(true, np.clip(true + rng.normal(0, 0.02, 400), 0, 1), [REVIEW] * 400).limits
    for kind in ("poor_accepted", "good_accepted"):
        counts = [getattr(each, kind).count for each in limits]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] > counts[-1]


def test_json_gives_back_the_assessment() -> None:
    trust = assess_trust(TRUE, ESTIMATED, VERDICTS)
    assert TrustAssessment.from_json(json.loads(json.dumps(trust.to_json()))) == trust


@pytest.mark.parametrize("wrong", [([], [], []), ([0.9], [0.9, 0.8], [ACCEPT]), ([float("nan")], [0.9], [ACCEPT])])
def test_values_that_do_not_belong_together_are_refused(wrong: tuple[list[float], list[float], list[Verdict]]) -> None:
    with pytest.raises(ValueError, match="DSC"):
        assess_trust(*wrong)


def test_the_figure_is_drawn_with_results_of_one_kind_too() -> None:
    for true, verdicts in ((TRUE, VERDICTS), ([0.96] * 8, [ACCEPT] * 8)):
        trust = assess_trust(true, ESTIMATED, verdicts)
        assert trust_assessment_figure(trust, true, ESTIMATED).startswith(b"\x89PNG")
