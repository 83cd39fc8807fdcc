"""The limits of a fitted trust model, chosen on the results that it was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dissm_engine.findings import Verdict
from dissm_engine.trust import TrustModel
from training.evaluate.trust_assessment import FAILED_DSC, GOOD_DSC, POOR_DSC
from training.evaluate.trust_fit import Start, TrustPair, verdict_of

MAX_POOR_ACCEPTED = 0.02
"""Of results under `POOR_DSC`, at most this share may be accepted; of those under `FAILED_DSC` none."""
WIDENED = (
    *("max_loading", "at_rho_share", "last_move", "total_move"),
    *("tissue_dsc", "left_out", "taken_in", "mass_like", "mass_hu"),
)
"""Findings whose limits give way to what good results have; those of the others are of anatomy or of the search."""
_GOOD_SHARE = 0.99
_MIN_GOOD = 20
_MIN_ACCEPT = 0.90


def with_limits_of_good_results(model: TrustModel, pairs: Sequence[TrustPair]) -> TrustModel:
    """The model with the limits of `WIDENED` so wide that 99 % of the good results keep to each; never narrower.

    Good is what was delineated as in use, of a true DSC from `GOOD_DSC` on. With fewer than 20 of them nothing changes.
    """
    good = [pair for pair in pairs if pair.start is Start.FOUND and not pair.early and pair.dsc >= GOOD_DSC]
    if len(good) < _MIN_GOOD:
        return model
    limits = dict(model.limits)
    for name in WIDENED:
        unit, low, high = limits[name]
        values = [pair.findings[name] for pair in good]
        lowest, highest = np.quantile(values, [1 - _GOOD_SHARE, _GOOD_SHARE])
        limits[name] = (unit, min(low, _rounded(float(lowest), np.floor)), max(high, _rounded(float(highest), np.ceil)))
    return replace(model, limits=limits)


def with_accept_limit(model: TrustModel, pairs: Sequence[TrustPair]) -> TrustModel:
    """The model with the lowest limit of the estimate, in thousandths from 0.90 on, that accepts as few as it must.

    None under `FAILED_DSC`, and at most 2 % of those under `POOR_DSC`. 1, which accepts nothing, where no limit does.
    """
    poor = [pair for pair in pairs if pair.dsc < POOR_DSC]
    estimated = np.array([model.estimate(pair.findings) for pair in poor])
    # Findings beyond their limits forbid ACCEPT whatever the estimate; an estimate of 1 leaves only them.
    open_to_all = replace(model, accept=0.0, reject=0.0)
    unremarkable = np.array([verdict_of(pair.findings, open_to_all) is Verdict.ACCEPT for pair in poor], dtype=np.bool_)
    failed = np.array([pair.dsc < FAILED_DSC for pair in poor], dtype=np.bool_)
    for thousandths in range(round(1000 * _MIN_ACCEPT), 1000):
        accepted = unremarkable & (estimated >= thousandths / 1000)
        if not (accepted & failed).any() and accepted.sum() <= MAX_POOR_ACCEPTED * len(poor):
            return replace(model, accept=thousandths / 1000)
    return replace(model, accept=1.0)


def _rounded(value: float, direction: np.ufunc) -> float:
    """To three decimals, so that the limit can be read."""
    return float(direction(1000 * value) / 1000)
