import numpy as np
import pytest

from dissm_engine.delineation import Verdict
from dissm_engine.findings import CALIBRATED, LIMITS, TrustModel, fit_trust, judge


def values(badness: float, rng: np.random.Generator) -> dict[str, float]:
    found = {name: low + 0.3 * (min(high, 2000.0) - low) for name, (_, low, high) in LIMITS.items()}
    found |= {
        "change_mean": 2 + 8 * badness + rng.normal(0, 0.2), "change_p95": 6 + 12 * badness + rng.normal(0, 0.4),
        "edgeless_share": 0.1 + 0.6 * badness, "tissue_agreement": 0.99 - 0.5 * badness, "cut_share": 0.0,
        "liver_hu": 100.0, "volume": 1400.0,
    }  # fmt: skip
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
    rejected = judge(values(0.8, rng), trust)
    assert rejected.verdict is Verdict.REJECT
    assert "DSC" in rejected.reasons[0]


def test_a_liver_cut_by_the_field_of_view_is_reviewed_whatever_the_estimate(trust: TrustModel) -> None:
    found = judge(values(0.0, np.random.default_rng(3)) | {"cut_share": 0.05}, trust)
    assert found.verdict is Verdict.REVIEW
    assert any("cut_share" in reason for reason in found.reasons)


def test_the_trust_model_survives_json_and_refuses_other_findings(trust: TrustModel) -> None:
    again = TrustModel.from_json(trust.to_json())
    found = values(0.2, np.random.default_rng(4))
    assert again.estimate(found) == trust.estimate(found)
    with pytest.raises(ValueError, match="fitted on"):
        TrustModel.from_json(trust.to_json() | {"findings": list(CALIBRATED[:-1])})
