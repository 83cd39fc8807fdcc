"""How far to trust a delineation (D7): limits of the findings, and a calibrated estimate of the DSC.

A model says itself which findings it was fitted on and which it limits, so that the bundles of earlier editions are
judged as they were when the program measures more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from dissm_engine.errors import NO_ORGAN, DelineationError
from dissm_engine.findings import Finding, Findings, Place, Verdict
from dissm_engine.statements import statement

LIMITS: Mapping[str, tuple[str, float, float]] = {
    "shape_distance": ("sd", 0.0, 2.0),
    "max_loading": ("sd", 0.0, 5.0),
    "pose_error": ("mm", 0.0, 8.0),
    "start_spread": ("mm", 0.0, 15.0),
    "change_mean": ("mm", 0.0, 7.0),
    "change_p95": ("mm", 0.0, 16.0),
    "at_rho_share": ("", 0.0, 0.02),
    "last_move": ("mm", 0.0, 2.0),
    "total_move": ("mm", 0.0, 15.0),
    "edgeless_share": ("", 0.0, 0.6),
    "tissue_agreement": ("", 0.8, 1.0),
    "tissue_dsc": ("", 0.93, 1.0),
    "left_out": ("ml", 0.0, 20.0),
    "taken_in": ("ml", 0.0, 20.0),
    "mass_like": ("ml", 0.0, 60.0),
    "mass_hu": ("HU", -150.0, 150.0),
    "liver_hu_sd": ("HU", 0.0, 45.0),
    "liver_hu": ("HU", 20.0, 180.0),
    "volume": ("ml", 600.0, 3000.0),
    "cut_share": ("", 0.0, 0.005),
    "odd_tissues": ("", 0.0, 0.0),
}
"""Name: unit, lowest and highest unremarkable value, of every finding that is measured; what a new fit begins with.
Volume: range of the training livers with room for scale."""
CALIBRATED = (
    "shape_distance",
    "max_loading",
    "change_mean",
    "change_p95",
    "at_rho_share",
    "last_move",
    "total_move",
    "edgeless_share",
    "tissue_agreement",
    "tissue_dsc",
    "left_out",
    "taken_in",
    "mass_like",
    "liver_hu_sd",
)
"""What a new estimate is made of. The pose stage's own error and spread are left to their limits: a fit made wrong on
purpose has none."""
_HIGHER_IS_BETTER = frozenset({"tissue_agreement", "tissue_dsc"})
"""Of the others a higher value never makes the estimate better."""
ABSENCE: Mapping[str, tuple[float, float]] = {
    "odd_tissues": (0.0, 0.0),
    "pose_error": (0.0, 4.5),
    "shape_distance": (0.0, 2.2),
    "start_spread": (0.0, 5.0),
    "volume": (400.0, 10_000.0),
    "liver_hu_sd": (0.0, 45.0),
}
"""Between which values a finding is no sign that there is no organ; two signs are believed. Chosen on the 24 training
bodies of the third edition (one sign at most) and 16 scans without a liver (two at least)."""
_MIN_SIGNS_OF_ABSENCE = 2


@dataclass(frozen=True)
class TrustModel:
    """Fractional logistic regression of the DSC on some of the findings.

    Attributes:
        center, spread, weight: One number for each finding of `findings`, float64 [F].
        bias: The intercept.
        findings: Names of the findings that the estimate is made of.
        logarithmic: Those of them that are taken as log(1 + value).
        accept: Minimum of the estimated DSC for the verdict ACCEPT.
        reject: Minimum of the estimated DSC for any verdict but REJECT.
        limits: Unit, lowest and highest unremarkable value of each finding that is judged, as LIMITS.
        absence: Between which values a finding is no sign that there is no organ, as ABSENCE.
    """

    center: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    bias: float
    findings: tuple[str, ...] = CALIBRATED
    logarithmic: frozenset[str] = frozenset()
    accept: float = 0.90
    reject: float = 0.75
    limits: Mapping[str, tuple[str, float, float]] = field(default_factory=lambda: LIMITS)
    absence: Mapping[str, tuple[float, float]] = field(default_factory=lambda: ABSENCE)

    @staticmethod
    def unfitted() -> TrustModel:
        """The model before it is fitted: it trusts nothing, so that every verdict is REJECT."""
        count = len(CALIBRATED)
        return TrustModel(np.zeros(count), np.ones(count), np.zeros(count), bias=-np.inf)

    def estimate(self, values: Mapping[str, float]) -> float:
        """Estimated DSC, 0 to 1, from the values of the findings by name."""
        x = (_row(values, self.findings, self.logarithmic) - self.center) / self.spread
        return float(1 / (1 + np.exp(-(np.clip(x, -6, 6) @ self.weight + self.bias))))

    def to_json(self) -> dict[str, Any]:
        """The model as plain JSON values, as the bundle's manifest keeps it."""
        return {
            "findings": list(self.findings),
            **({"logarithmic": sorted(self.logarithmic)} if self.logarithmic else {}),
            "center": self.center.tolist(),
            "spread": self.spread.tolist(),
            "weight": self.weight.tolist(),
            "bias": self.bias,
            "accept": self.accept,
            "reject": self.reject,
            "absence": {name: list(between) for name, between in self.absence.items()},
            "limits": {name: list(limit) for name, limit in self.limits.items()},
        }

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> TrustModel:
        """The inverse of `to_json`, also for what bundles of the third edition hold.

        Raises:
            KeyError, TypeError: The content lacks something or is of another form.
            ValueError: It is about other findings than this program measures, or holds what is no number.
        """
        findings = tuple(str(name) for name in content["findings"])
        # Bundles up to the third edition took every finding as it was.
        logarithmic = frozenset(content.get("logarithmic", ()))
        if not findings or not set(findings) <= LIMITS.keys() or not logarithmic <= set(findings):
            raise ValueError(f"trust model was fitted on {content['findings']}, this program measures {sorted(LIMITS)}")
        limits = {name: (str(u), float(low), float(high)) for name, (u, low, high) in content["limits"].items()}
        if not limits or not limits.keys() <= LIMITS.keys():
            raise ValueError(f"the limits are of {sorted(limits)}, this program measures {sorted(LIMITS)}")
        absence = {name: (float(low), float(high)) for name, (low, high) in content["absence"].items()}
        if not absence.keys() <= LIMITS.keys():
            raise ValueError(f"signs of absence are {sorted(absence)}, this program measures {sorted(LIMITS)}")
        numbers = [content[name] for name in ("center", "spread", "weight", "bias", "accept", "reject")]
        if not all(np.isfinite(np.asarray(number, dtype=np.float64)).all() for number in numbers):
            raise ValueError("the trust model holds values that are no numbers")
        arrays = {name: np.asarray(content[name], dtype=np.float64) for name in ("center", "spread", "weight")}
        if any(array.shape != (len(findings),) for array in arrays.values()):
            raise ValueError(
                f"the trust model was fitted on {len(findings)} findings and holds other counts of numbers"
            )
        return TrustModel(
            **arrays,
            bias=float(content["bias"]),
            findings=findings,
            logarithmic=logarithmic,
            accept=float(content["accept"]),
            reject=float(content["reject"]),
            absence=absence,
            limits=limits,
        )


def judge(
    values: Mapping[str, float], trust: TrustModel, places: Mapping[str, Place] = MappingProxyType({})
) -> Findings:
    """Limits, estimate and verdict: ACCEPT needs a good estimate and no remarkable finding.

    Args:
        values: Of every finding that the model knows, by its name.
        trust: Judges them; only the findings that it limits are among the result.
        places: Where to look, by the name of the finding.

    Raises:
        DelineationError: NO_ORGAN, where there are signs enough that what was found is none.
    """
    signs = [name for name, (low, high) in trust.absence.items() if not low <= values[name] <= high]
    if len(signs) >= _MIN_SIGNS_OF_ABSENCE:
        raise DelineationError(NO_ORGAN, evidence=", ".join(f"{name} is {values[name]:.3g}" for name in signs))
    items = tuple(
        Finding(name, values[name], *trust.limits[name], places.get(name), statement(name, values))
        for name in LIMITS
        if name in trust.limits
    )
    estimated = trust.estimate(values)
    reasons = tuple(item.sentence for item in items if item.remarkable)
    # Written so that an estimate that is no number is rejected.
    if not estimated >= trust.reject:
        verdict, reasons = Verdict.REJECT, (f"estimated DSC is only {estimated:.2f}", *reasons)
    elif estimated < trust.accept:
        verdict, reasons = Verdict.REVIEW, (f"estimated DSC is {estimated:.2f}", *reasons)
    else:
        verdict = Verdict.REVIEW if reasons else Verdict.ACCEPT
    return Findings(items, estimated, verdict, reasons)


def fit_trust(measured: Sequence[Mapping[str, float]], dsc: Sequence[float]) -> TrustModel:
    """Fit the estimate on good and bad delineations whose truth is known.

    Fractional logistic regression with a ridge, so that few cases suffice. No weight may have the sign that would let
    a worse value of a finding make the estimate better.

    Args:
        measured: Values of the findings of CALIBRATED, of every delineation.
        dsc: True DSC of the same delineations, 0 to 1.
    """
    logarithmic = frozenset(name for name in CALIBRATED if LIMITS[name][0] == "ml")
    x = np.array([_row(values, CALIBRATED, logarithmic) for values in measured])
    y = np.clip(np.asarray(dsc, dtype=np.float64), 0.01, 0.99)
    center = np.median(x, axis=0)
    spread = np.maximum(x.std(axis=0), 1e-3)
    design = np.column_stack([np.clip((x - center) / spread, -6, 6), np.ones(len(x))])
    ridge = np.array([1.0] * len(CALIBRATED) + [1e-6])

    def cost(theta: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        logit = design @ theta
        loss = float((np.logaddexp(0, logit) - y * logit).sum() + 0.5 * (ridge * theta**2).sum())
        return loss, design.T @ (special.expit(logit) - y) + ridge * theta

    bounds = [(0.0, None) if name in _HIGHER_IS_BETTER else (None, 0.0) for name in CALIBRATED]
    start = np.zeros(design.shape[1])
    theta = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)]).x
    return TrustModel(center, spread, theta[:-1], float(theta[-1]), logarithmic=logarithmic)


def _row(values: Mapping[str, float], names: Sequence[str], logarithmic: frozenset[str]) -> npt.NDArray[np.float64]:
    """The values of some findings as the regression takes them."""
    return np.array([np.log1p(values[name]) if name in logarithmic else values[name] for name in names])
