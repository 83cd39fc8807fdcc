import json
from dataclasses import replace
from pathlib import Path

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
        "last_move": 0.3,
        "total_move": 2.0,
        "tissue_dsc": 0.98 - 0.2 * badness,
        "left_out": 5 * badness,
        "taken_in": 5 * badness,
        "mass_like": 0.0,
        "mass_hu": 0.0,
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
    assert any("the scan ends within the liver" in reason for reason in found.reasons)


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
    found = judge(good, TrustModel.from_json(narrow.to_json()))
    assert [item.name for item in found.remarkable] == ["volume"]
    assert found.reasons == ("the outline holds 1400 ml (usual 600 to 1300 ml)",)


def test_the_trust_model_survives_json_and_refuses_other_findings(trust: TrustModel) -> None:
    again = TrustModel.from_json(trust.to_json())
    found = values(0.2, np.random.default_rng(4))
    assert again.estimate(found) == trust.estimate(found)
    with pytest.raises(ValueError, match="signs of absence are"):
        TrustModel.from_json(trust.to_json() | {"absence": {"unheard_of": [0, 1]}})
    with pytest.raises(ValueError, match="the limits are of"):
        TrustModel.from_json(trust.to_json() | {"limits": {}})
    with pytest.raises(ValueError, match="fitted on"):
        TrustModel.from_json(trust.to_json() | {"findings": [*CALIBRATED[:-1], "unheard_of"]})
    with pytest.raises(ValueError, match="other counts of numbers"):
        TrustModel.from_json(trust.to_json() | {"findings": list(CALIBRATED[:-1]), "logarithmic": []})


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


THIRD_EDITION = (
    *("shape_distance", "pose_error", "start_spread", "change_mean", "change_p95", "edgeless_share"),
    *("tissue_agreement", "liver_hu_sd", "liver_hu", "volume", "cut_share", "odd_tissues"),
)
"""What the bundle of version 0.3.0 knows of."""


def of_third_edition() -> TrustModel:
    """As the manifest of that bundle holds it."""
    return TrustModel.from_json(json.loads((Path(__file__).parent / "data" / "trust_0_3_0.json").read_text()))


def test_a_bundle_of_the_third_edition_is_judged_by_its_own_findings_as_it_was() -> None:
    third = of_third_edition()
    found = {
        **{"shape_distance": 1.2, "pose_error": 2.0, "start_spread": 1.0, "change_mean": 2.4, "change_p95": 6.5},
        **{"edgeless_share": 0.08, "tissue_agreement": 0.998, "liver_hu_sd": 11.0, "liver_hu": 105.0},
        **{"volume": 1500.0, "cut_share": 0.0, "odd_tissues": 0.0},
    }
    # What the program of version 0.3.0 said of these numbers.
    assert third.estimate(found) == pytest.approx(0.933541, abs=1e-6)
    newly_measured = {"left_out": 500.0, "taken_in": 400.0, "mass_like": 300.0, "tissue_dsc": 0.2, "last_move": 9.0}
    judged = judge(found | newly_measured, third)
    assert judged.verdict is Verdict.ACCEPT
    assert tuple(item.name for item in judged.items) == THIRD_EDITION
    assert judge(found | newly_measured | {"edgeless_share": 0.7}, third).verdict is Verdict.REVIEW
    assert judge(found | {"liver_hu_sd": 40.0, "edgeless_share": 0.5}, third).verdict is Verdict.REJECT
    assert TrustModel.from_json(third.to_json()).estimate(found) == third.estimate(found)


def test_no_finding_that_grows_worse_makes_the_estimate_better() -> None:
    rng = np.random.default_rng(8)
    # Of these results those of which much was left out are, by chance, the better ones.
    misleading = [
        values(b, rng) | {"left_out": 60 * (1 - b), "tissue_dsc": 0.90 + 0.05 * b} for b in rng.uniform(0, 1, 60)
    ]
    fitted = fit_trust(misleading, [0.97 - 0.8 * (1 - each["left_out"] / 60) for each in misleading])
    sign = dict(zip(fitted.findings, fitted.weight, strict=True))
    assert sign["left_out"] == 0.0
    assert sign["tissue_dsc"] == 0.0
    assert all(weight <= 0 for name, weight in sign.items() if name not in {"tissue_dsc", "tissue_agreement"})
