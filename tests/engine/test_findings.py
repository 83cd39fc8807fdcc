from dataclasses import replace

import numpy as np
import pytest

from dissm_engine.errors import DelineationError
from dissm_engine.findings import Verdict
from dissm_engine.measurement import tissue_agreement
from dissm_engine.refine.refiner import Refinement
from dissm_engine.refine.tissues import TissueClass, count_implausible_tissues, median_hu
from dissm_engine.trust import (
    CALIBRATED,
    LIMITS,
    TrustModel,
    fit_trust,
    judge,
)
from dissm_engine.volume import AIR_HU, SignedDistance, axis_aligned_grid


def values(badness: float, rng: np.random.Generator) -> dict[str, float]:
    found = {name: low + 0.3 * (min(high, 2000.0) - low) for name, (_, low, high) in LIMITS.items()}
    found |= {
        "change_mean": 2 + 8 * badness + rng.normal(0, 0.2),
        "change_p95": 6 + 12 * badness + rng.normal(0, 0.4),
        "edgeless_share": 0.1 + 0.6 * badness,
        "tissue_agreement": 0.99 - 0.5 * badness,
        "cut_share": 0.0,
        "liver_hu": 100.0,
        "volume": 1400.0,
    }
    return found


@pytest.fixture(scope="module")
def trust() -> TrustModel:
    rng = np.random.default_rng(0)
    badness = rng.uniform(0, 1, 40)
    return fit_trust([values(b, rng) for b in badness], [0.97 - 0.8 * b for b in badness])


def test_the_estimate_follows_the_truth(trust: TrustModel) -> None:
    rng = np.random.default_rng(1)
    for badness in (0.05, 0.3, 0.6, 0.9):
        assert trust.estimate(values(badness, rng)) == pytest.approx(0.97 - 0.8 * badness, abs=0.08)


def test_a_good_fit_is_accepted_a_doubtful_one_reviewed_a_bad_one_rejected(trust: TrustModel) -> None:
    rng = np.random.default_rng(2)
    assert judge(values(0.0, rng), trust).verdict is Verdict.ACCEPT
    assert judge(values(0.15, rng), trust).verdict is Verdict.REVIEW
    rejected = judge(values(0.35, rng), trust)
    assert rejected.verdict is Verdict.REJECT
    assert "DSC" in rejected.reasons[0]


def test_a_liver_cut_by_the_field_of_view_is_reviewed_whatever_the_estimate(trust: TrustModel) -> None:
    found = judge(values(0.0, np.random.default_rng(3)) | {"cut_share": 0.05}, trust)
    assert found.verdict is Verdict.REVIEW
    assert any("cut_share" in reason for reason in found.reasons)


def test_what_is_no_liver_at_all_ends_as_an_error_that_says_so(trust: TrustModel) -> None:
    one_sign = values(0.1, np.random.default_rng(6)) | {"odd_tissues": 1.0}
    assert judge(one_sign, trust).verdict is Verdict.REVIEW
    with pytest.raises(DelineationError, match="is not the organ: odd_tissues is 1, pose_error is 5"):
        judge(one_sign | {"pose_error": 5.0}, trust)


def test_tissues_of_air_or_fat_are_odd_and_those_of_any_phase_are_not() -> None:
    assert count_implausible_tissues({"liver": 40.0, "heart": -996.0, "kidney": -997.0, "muscle": -77.0}) == 3
    assert (
        count_implausible_tissues({"liver": 20.0, "heart": 35.0, "kidney": 30.0, "fluid": -8.0, "muscle": -20.0}) == 0
    )
    assert count_implausible_tissues({"liver": 68.0, "aorta": 420.0, "kidney": 230.0, "vein": 60.0}) == 0


def test_a_bundles_own_limits_decide_what_is_remarkable(trust: TrustModel) -> None:
    good = values(0.0, np.random.default_rng(7))
    narrow = replace(trust, limits={**LIMITS, "volume": ("ml", 600.0, 1300.0)})
    assert judge(good, trust).reasons == ()
    assert [reason.split()[0] for reason in judge(good, TrustModel.from_json(narrow.to_json())).reasons] == ["volume"]


def test_the_trust_model_survives_json_and_refuses_other_findings(trust: TrustModel) -> None:
    again = TrustModel.from_json(trust.to_json())
    found = values(0.2, np.random.default_rng(4))
    assert again.estimate(found) == trust.estimate(found)
    with pytest.raises(ValueError, match="signs of absence are"):
        TrustModel.from_json(trust.to_json() | {"absence": {"unheard_of": [0, 1]}})
    with pytest.raises(ValueError, match="the limits are of"):
        TrustModel.from_json(trust.to_json() | {"limits": {}})
    with pytest.raises(ValueError, match="fitted on"):
        TrustModel.from_json(trust.to_json() | {"findings": list(CALIBRATED[:-1])})


def test_an_estimate_that_is_no_number_is_rejected(trust: TrustModel) -> None:
    broken = replace(trust, bias=float("nan"))
    assert judge(values(0.0, np.random.default_rng(5)), broken).verdict is Verdict.REJECT


def half_seen_ball() -> Refinement:
    """A liver of 40 mm of which the CT shows the lower half; the tissue head is right where it could see."""
    grid = axis_aligned_grid([-30] * 3, [30] * 3, 2.0)
    points = grid.points_lps()
    in_view = points[..., 2] < 0
    liver = np.linalg.norm(points, axis=-1) < 20
    tissue = np.where(liver & in_view, TissueClass.LIVER, TissueClass.OTHER).astype(np.uint8)
    field = SignedDistance((np.linalg.norm(points, axis=-1) - 20).astype(np.float32), grid)
    return Refinement(field, np.zeros(grid.shape, dtype=np.float32), tissue, in_view)


def test_what_the_ct_does_not_show_counts_neither_for_nor_against_the_liver() -> None:
    seen = half_seen_ball()
    assert tissue_agreement(seen) == 1.0
    hu = np.where(seen.in_view, 100, AIR_HU).astype(np.float32)
    assert median_hu(hu, seen.tissue, seen.field.mm, seen.in_view)["liver"] == 100
