"""How far to trust a delineation (D7): limits of the findings, and a calibrated estimate of the DSC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dissm_engine.errors import NO_ORGAN, DelineationError
from dissm_engine.findings import Finding, Findings, Verdict

LIMITS: Mapping[str, tuple[str, float, float]] = {
    "shape_distance": ("sd", 0.0, 2.0),
    "pose_error": ("mm", 0.0, 8.0),
    "start_spread": ("mm", 0.0, 15.0),
    "change_mean": ("mm", 0.0, 7.0),
    "change_p95": ("mm", 0.0, 16.0),
    "edgeless_share": ("", 0.0, 0.6),
    "tissue_agreement": ("", 0.8, 1.0),
    "liver_hu_sd": ("HU", 0.0, 45.0),
    "liver_hu": ("HU", 20.0, 180.0),
    "volume": ("ml", 600.0, 3000.0),
    "cut_share": ("", 0.0, 0.005),
    "odd_tissues": ("", 0.0, 0.0),
}
"""Name: unit, lowest and highest unremarkable value. Volume: range of the training livers with room for scale."""
CALIBRATED = (
    "shape_distance",
    "change_mean",
    "change_p95",
    "edgeless_share",
    "tissue_agreement",
    "liver_hu_sd",
)
"""What the estimate is made of. The pose stage's own error and spread are left to their limits: a fit made wrong on
purpose has none."""
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
    """Fractional logistic regression of the DSC on the calibrated findings.

    Attributes:
        center, spread, weight: One number for each finding of CALIBRATED, float64 [F].
        bias: The intercept.
        accept: Minimum of the estimated DSC for the verdict ACCEPT.
        reject: Minimum of the estimated DSC for any verdict but REJECT.
        limits: Unit, lowest and highest unremarkable value of each finding, as LIMITS.
        absence: Between which values a finding is no sign that there is no organ, as ABSENCE.
    """

    center: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    bias: float
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
        x = (np.array([values[name] for name in CALIBRATED]) - self.center) / self.spread
        return float(1 / (1 + np.exp(-(np.clip(x, -6, 6) @ self.weight + self.bias))))

    def to_json(self) -> dict[str, Any]:
        """The model as plain JSON values, as the bundle's manifest keeps it."""
        return {
            "findings": list(CALIBRATED),
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
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError: The content lacks something or is of another form.
            ValueError: It was fitted on other findings than this program measures, or holds what is no number.
        """
        if tuple(content["findings"]) != CALIBRATED:
            raise ValueError(f"trust model was fitted on {content['findings']}, this program measures {CALIBRATED}")
        limits = {name: (str(u), float(low), float(high)) for name, (u, low, high) in content["limits"].items()}
        if limits.keys() != LIMITS.keys():
            raise ValueError(f"the limits are of {sorted(limits)}, this program measures {sorted(LIMITS)}")
        absence = {name: (float(low), float(high)) for name, (low, high) in content["absence"].items()}
        if not absence.keys() <= LIMITS.keys():
            raise ValueError(f"signs of absence are {sorted(absence)}, this program measures {sorted(LIMITS)}")
        numbers = [content[name] for name in ("center", "spread", "weight", "bias", "accept", "reject")]
        if not all(np.isfinite(np.asarray(number, dtype=np.float64)).all() for number in numbers):
            raise ValueError("the trust model holds values that are no numbers")
        arrays = {name: np.asarray(content[name], dtype=np.float64) for name in ("center", "spread", "weight")}
        return TrustModel(
            **arrays,
            bias=float(content["bias"]),
            accept=float(content["accept"]),
            reject=float(content["reject"]),
            absence=absence,
            limits=limits,
        )


def judge(values: Mapping[str, float], trust: TrustModel) -> Findings:
    """Limits, estimate and verdict: ACCEPT needs a good estimate and no remarkable finding.

    Raises DelineationError(NO_ORGAN) where there are signs enough that what was found is none.
    """
    signs = [name for name, (low, high) in trust.absence.items() if not low <= values[name] <= high]
    if len(signs) >= _MIN_SIGNS_OF_ABSENCE:
        raise DelineationError(NO_ORGAN, evidence=", ".join(f"{name} is {values[name]:.3g}" for name in signs))
    items = tuple(Finding(name, values[name], *trust.limits[name]) for name in LIMITS)
    estimated = trust.estimate(values)
    reasons = tuple(
        f"{item.name} is {item.value:.3g} {item.unit}".rstrip() + f" (usual {item.low:g} to {item.high:g})"
        for item in items
        if item.remarkable
    )
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

    Fractional logistic regression by iteratively reweighted least squares with a ridge, so that few cases suffice.
    """
    x = np.array([[values[name] for name in CALIBRATED] for values in measured])
    y = np.clip(np.asarray(dsc, dtype=np.float64), 0.01, 0.99)
    center = np.median(x, axis=0)
    spread = np.maximum(x.std(axis=0), 1e-3)
    design = np.column_stack([np.clip((x - center) / spread, -6, 6), np.ones(len(x))])
    ridge = np.diag([1.0] * len(CALIBRATED) + [1e-6])
    theta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ theta))
        w = np.maximum(p * (1 - p), 1e-3)
        theta = np.linalg.solve(design.T * w @ design + ridge, design.T @ (w * (design @ theta) + y - p))
    return TrustModel(center, spread, theta[:-1], float(theta[-1]))
