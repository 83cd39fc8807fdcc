"""Figures of a bundle: what the latent space holds, how well the estimated DSC fits."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_engine.shape.model import ShapeModel
from training.evaluate.trust_fit import TrustFit
from training.refine.learning_curve import CurvePoint

_LIGHT = np.array([0.3, -0.9, 0.5]) / np.linalg.norm([0.3, -0.9, 0.5])


def latent_figure(shape: ShapeModel) -> bytes:
    """PNG: mean shape and the first two components at -2 and +2 standard deviations (paper, Figure 3)."""
    figure = Figure(figsize=(12, 5))
    panels = [("mean", np.zeros(1))]
    panels += [(f"component {c + 1}, {s:+d} sd", s * np.eye(2)[c]) for c in range(2) for s in (-2, 2)]
    for column, (title, loadings) in enumerate(panels):
        axes: Axes3D = figure.add_subplot(1, len(panels), column + 1, projection="3d")
        _draw(axes, shape.mesh(loadings, Pose.at(np.zeros(3)), spacing_mm=4.0))
        axes.set_title(title, fontsize=9)
    return _png(figure)


def trust_figure(fit: TrustFit) -> bytes:
    """PNG: estimated against true DSC of the results that were fitted on, and in orange of those that were not."""
    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot()
    axes.scatter([pair.dsc for pair in fit.pairs], [fit.model.estimate(pair.findings) for pair in fit.pairs], s=12)
    for pair in fit.test:
        axes.plot(pair.dsc, fit.model.estimate(pair.findings), ".", color="tab:orange", markersize=5)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.set(xlabel="true DSC", ylabel="estimated DSC", xlim=(0, 1), ylim=(0, 1))
    return _png(figure)


def learning_figure(points: Sequence[CurvePoint]) -> bytes:
    """PNG: DSC and surface distance on bodies that no training sees, by optimiser step."""
    figure = Figure(figsize=(9, 4))
    left, right = figure.subplots(1, 2)
    before = 0
    for stage in ("refine", "finetune"):
        own = [point for point in points if point.stage == stage]
        steps = [before + point.step for point in own]
        left.plot(steps, [100 * point.dsc for point in own], marker=".", label=stage)
        right.plot(steps, [point.distance_mm for point in own], marker=".", label=f"{stage}: distance")
        right.plot(steps, [point.bias_mm for point in own], linestyle="--", label=f"{stage}: bias")
        before = steps[-1] if steps else before
    left.set(xlabel="optimiser step", ylabel="DSC in the band, %")
    right.set(xlabel="optimiser step", ylabel="mm")
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.tight_layout()
    return _png(figure)


def _draw(axes: Axes3D, mesh: TriangleMesh) -> None:
    shade = np.clip(mesh.trimesh.face_normals @ _LIGHT, 0, 1) * 0.75 + 0.25
    colours = shade[:, None] * np.array([0.75, 0.30, 0.25])
    axes.add_collection3d(Poly3DCollection(mesh.vertices[mesh.faces], facecolors=colours))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low)
    axes.view_init(elev=10, azim=-80)
    axes.set_axis_off()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90)
    return buffer.getvalue()
