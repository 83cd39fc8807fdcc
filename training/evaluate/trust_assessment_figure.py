"""One figure of a trust assessment: estimate against truth, reliability, ROC, verdicts by true DSC."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dissm_engine.atomic_file import write_bytes
from dissm_engine.findings import Verdict
from training.evaluate.trust_assessment import BAND_NAMES, POOR_DSC, TrustAssessment, assess_trust

TRUST_FIGURE = "trust.png"

_COLOURS = {Verdict.ACCEPT: "#2a9d4a", Verdict.REVIEW: "#e0a020", Verdict.REJECT: "#c03030"}
_MIN_SHOWN_DSC = 0.7


def trust_assessment_figure(
    assessment: TrustAssessment, true_dsc: npt.ArrayLike, estimated_dsc: npt.ArrayLike
) -> bytes:
    """PNG of one assessment.

    Args:
        assessment: From `assess_trust`.
        true_dsc: [N], what it was made from.
        estimated_dsc: [N], what it was made from.
    """
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_reliability(left, assessment, np.asarray(true_dsc), np.asarray(estimated_dsc))
    _draw_roc(middle, assessment)
    _draw_verdicts(right, assessment)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90)
    return buffer.getvalue()


def write_trust_figure(
    folder: Path, true_dsc: Sequence[float], estimated_dsc: Sequence[float], verdicts: Sequence[Verdict]
) -> None:
    """Write `trust.png` into a folder, nothing where there are no results; the values as in `assess_trust`."""
    if true_dsc:
        assessment = assess_trust(true_dsc, estimated_dsc, verdicts)
        write_bytes(folder / TRUST_FIGURE, trust_assessment_figure(assessment, true_dsc, estimated_dsc))


def _draw_reliability(
    axes: Axes, assessment: TrustAssessment, true: npt.NDArray[np.float64], estimated: npt.NDArray[np.float64]
) -> None:
    axes.scatter(estimated, true, s=9, color="#7090c0", label="results")
    means = [
        (each.mean_estimated_dsc, each.mean_true_dsc)
        for each in assessment.reliability
        if each.mean_estimated_dsc is not None and each.mean_true_dsc is not None
    ]
    axes.plot([x for x, _ in means], [y for _, y in means], "o-", color="#203050", label="mean of each bin")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.axhline(POOR_DSC, color="#c03030", linewidth=0.8, linestyle=":")
    low = min(_MIN_SHOWN_DSC, float(true.min()), float(estimated.min()))
    axes.set(xlabel="estimated DSC", ylabel="true DSC", xlim=(low, 1), ylim=(low, 1), title="reliability")
    axes.legend(loc="upper left", fontsize=8)


def _draw_roc(axes: Axes, assessment: TrustAssessment) -> None:
    area = assessment.roc.area
    title = f"true DSC < {POOR_DSC}: " + ("only one kind of result" if area is None else f"AUC {area:.3f}")
    axes.plot(assessment.roc.false_positive_rate, assessment.roc.true_positive_rate, color="#203050")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.set(xlabel="share of the others flagged", ylabel="share of these flagged", title=title)


def _draw_verdicts(axes: Axes, assessment: TrustAssessment) -> None:
    places = np.arange(len(BAND_NAMES))
    bottom = np.zeros(len(BAND_NAMES))
    for verdict, counts in assessment.counts.items():
        bars = axes.bar(places, counts, bottom=bottom, color=_COLOURS[verdict], label=str(verdict))
        axes.bar_label(bars, [str(count) if count else "" for count in counts], label_type="center", fontsize=8)
        bottom += np.array(counts)
    axes.set_xticks(places, BAND_NAMES)
    axes.set(xlabel="true DSC", ylabel="results", title=f"verdicts of {assessment.results} results")
    axes.legend(fontsize=8)
