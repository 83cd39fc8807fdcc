"""How true the engine's trust in itself is: verdicts and estimated DSC against the true DSC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from dissm_engine.findings import Verdict
from dissm_engine.json_value import JsonObject

POOR_DSC = 0.93
"""A result under this true DSC must not be accepted."""
FAILED_DSC = 0.90
"""Of results under this true DSC none may be accepted."""
GOOD_DSC = 0.95
"""Results from this true DSC on should be accepted."""
BAND_NAMES = ("< 0.90", "0.90-0.93", "0.93-0.95", ">= 0.95")
_BAND_EDGES = (FAILED_DSC, POOR_DSC, GOOD_DSC)
_RELIABILITY_EDGES = (0.0, 0.80, 0.85, 0.90, 0.92, 0.94, 0.96, 1.0)
_LIMITS = tuple(thousandths / 1000 for thousandths in range(880, 985, 5))
_CONFIDENCE = 0.95

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of counted results, with its bounds.

    Attributes:
        count: Results of the kind.
        of: Results in all.
        low: Lower 95 % bound of the share (Clopper-Pearson), 0 to 1; 0 where there are no results.
        high: Upper bound; 1 where there are no results.
    """

    count: int
    of: int
    low: float
    high: float

    @staticmethod
    def counted(count: int, of: int) -> Proportion:
        """The share of `count` in `of` results, with exact bounds (Clopper and Pearson 1934)."""
        if of == 0:
            return Proportion(0, 0, 0.0, 1.0)
        bounds = stats.binomtest(count, of).proportion_ci(_CONFIDENCE, method="exact")
        return Proportion(count, of, float(bounds.low), float(bounds.high))

    @property
    def share(self) -> float | None:
        """0 to 1; None where there are no results."""
        return self.count / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Results whose estimated DSC lies from `low` up to `high`: how well they really are.

    Attributes:
        low, high: Limits of the estimate.
        count: How many results; the means are None without any.
        mean_estimated_dsc, mean_true_dsc: Means over them.
    """

    low: float
    high: float
    count: int
    mean_estimated_dsc: float | None
    mean_true_dsc: float | None


@dataclass(frozen=True, slots=True)
class LimitCost:
    """What it would cost to accept from another estimated DSC on, whatever the findings' limits say.

    Attributes:
        limit: Minimum of the estimated DSC.
        poor_accepted: Of results under `POOR_DSC`, those that are taken all the same.
        good_accepted: Of results from `GOOD_DSC` on, those that are taken.
    """

    limit: float
    poor_accepted: Proportion
    good_accepted: Proportion


@dataclass(frozen=True, slots=True)
class RocCurve:
    """How well the estimate alone tells results under `POOR_DSC` (found when flagged) from the others.

    Attributes:
        false_positive_rate: Share of the others that are flagged, rising from 0 to 1 as the limit rises.
        true_positive_rate: Share of the poor that are flagged, at the same limits.
        area: Area under the curve, 0.5 for a guess; None where all results are of one kind, the rates are empty then.
    """

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    area: float | None


@dataclass(frozen=True, slots=True)
class TrustAssessment:
    """Verdict and estimated DSC of results, against their true DSC.

    Attributes:
        results: How many.
        counts: For each verdict the number of results in each band of the true DSC (`BAND_NAMES`).
        failed_accepted: Of results under `FAILED_DSC`, those with the verdict ACCEPT.
        poor_accepted: Of results under `POOR_DSC`, those with the verdict ACCEPT.
        good_accepted: Of results from `GOOD_DSC` on, those with the verdict ACCEPT.
        mean_absolute_error: Of the estimated DSC.
        reliability: Estimated against true DSC.
        roc: Of the estimate as a test for a poor result.
        limits: What other limits of the estimate would cost.
    """

    results: int
    counts: Mapping[Verdict, tuple[int, ...]]
    failed_accepted: Proportion
    poor_accepted: Proportion
    good_accepted: Proportion
    mean_absolute_error: float
    reliability: tuple[ReliabilityBin, ...]
    roc: RocCurve
    limits: tuple[LimitCost, ...]

    def to_json(self) -> JsonObject:
        """The fields by their names, and the names of the bands."""
        return {
            **asdict(self),
            "bands": list(BAND_NAMES),
            "counts": {str(verdict): list(counts) for verdict, counts in self.counts.items()},
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> TrustAssessment:
        """The inverse of `to_json`. Raises KeyError or TypeError if the content is something else."""
        return TrustAssessment(
            results=int(content["results"]),
            counts={Verdict(verdict): tuple(counts) for verdict, counts in content["counts"].items()},
            failed_accepted=Proportion(**content["failed_accepted"]),
            poor_accepted=Proportion(**content["poor_accepted"]),
            good_accepted=Proportion(**content["good_accepted"]),
            mean_absolute_error=float(content["mean_absolute_error"]),
            reliability=tuple(ReliabilityBin(**each) for each in content["reliability"]),
            roc=RocCurve(
                tuple(content["roc"]["false_positive_rate"]),
                tuple(content["roc"]["true_positive_rate"]),
                content["roc"]["area"],
            ),
            limits=tuple(
                LimitCost(each["limit"], Proportion(**each["poor_accepted"]), Proportion(**each["good_accepted"]))
                for each in content["limits"]
            ),
        )


def assess_trust(true_dsc: npt.ArrayLike, estimated_dsc: npt.ArrayLike, verdicts: Sequence[Verdict]) -> TrustAssessment:
    """Hold what the engine said of its results against the truth.

    Args:
        true_dsc: [N], 0 to 1, of at least one result.
        estimated_dsc: [N], 0 to 1, as the findings say.
        verdicts: [N].

    Raises:
        ValueError: The three are of different lengths, empty, or hold values that are no numbers.
    """
    true, estimated = np.asarray(true_dsc, dtype=np.float64), np.asarray(estimated_dsc, dtype=np.float64)
    if not len(true) == len(estimated) == len(verdicts) or len(true) == 0:
        raise ValueError(f"{len(true)} true DSC, {len(estimated)} estimates, {len(verdicts)} verdicts")
    if not (np.isfinite(true).all() and np.isfinite(estimated).all()):
        raise ValueError("every true and every estimated DSC must be a number")
    accepted = np.array([verdict is Verdict.ACCEPT for verdict in verdicts])
    band = np.searchsorted(_BAND_EDGES, true, side="right")
    counts = {
        verdict: tuple(
            int(((band == each) & np.array([one is verdict for one in verdicts])).sum())
            for each in range(len(BAND_NAMES))
        )
        for verdict in Verdict
    }
    return TrustAssessment(
        results=len(true),
        counts=counts,
        failed_accepted=_share(accepted, true < FAILED_DSC),
        poor_accepted=_share(accepted, true < POOR_DSC),
        good_accepted=_share(accepted, true >= GOOD_DSC),
        mean_absolute_error=float(np.abs(true - estimated).mean()),
        reliability=_reliability(true, estimated),
        roc=roc_curve(-estimated, true < POOR_DSC),
        limits=tuple(
            LimitCost(limit, _share(estimated >= limit, true < POOR_DSC), _share(estimated >= limit, true >= GOOD_DSC))
            for limit in _LIMITS
        ),
    )


def roc_curve(score: Values, positive: npt.NDArray[np.bool_]) -> RocCurve:
    """Receiver operating characteristic of a score that is high where a result is positive; ties count half.

    score: [N]. positive: bool [N].
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return RocCurve((), (), None)
    limits = np.unique(score)[::-1]
    found = [float((score[positive] >= limit).mean()) for limit in limits]
    false = [float((score[~positive] >= limit).mean()) for limit in limits]
    statistic = stats.mannwhitneyu(score[positive], score[~positive]).statistic
    return RocCurve((0.0, *false), (0.0, *found), float(statistic) / (positives * negatives))


def _share(chosen: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Proportion:
    return Proportion.counted(int((chosen & among).sum()), int(among.sum()))


def _reliability(true: Values, estimated: Values) -> tuple[ReliabilityBin, ...]:
    last = _RELIABILITY_EDGES[-1]
    bins = []
    for low, high in pairwise(_RELIABILITY_EDGES):
        inside = (estimated >= low) & ((estimated < high) | (high == last))
        some = bool(inside.any())
        bins.append(
            ReliabilityBin(
                low,
                high,
                int(inside.sum()),
                float(estimated[inside].mean()) if some else None,
                float(true[inside].mean()) if some else None,
            )
        )
    return tuple(bins)
