"""Fit a pose and a code to a surface nobody trained on (test-time auto-decoding, D4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.transform import Rotation

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import SCALE_LIMITS, Pose
from dissm_engine.shape.distance import signed_distance_to_mesh, surface_points
from dissm_engine.shape.latent import LatentSpace
from dissm_engine.shape.model import ShapeModel
from dissm_engine.volume import Grid

FREE_CODE = -1
_CHUNK_POINTS = 8192
_ROBUST_MM = 4.0
_FIRST_DAMPING = 1e-2
_NEAR_MM = 6.0
_AROUND_MM = 20.0
_MIN_RELATIVE_GAIN = 1e-3


@dataclass(frozen=True)
class ShapeFit:
    """The model after a fit.

    Attributes:
        pose: image_from_reference.
        code: float32 [D].
        residual_mm: Mean |model - target| over the points, first order.
    """

    pose: Pose
    code: torch.Tensor
    residual_mm: float

    def loadings(self, space: LatentSpace, count: int) -> npt.NDArray[np.float32]:
        """The first `count` loadings of the code, in standard deviations."""
        return np.asarray(space.loadings(self.code)[:count].cpu().numpy(), dtype=np.float32)


def fit_to_mesh(
    model: ShapeModel,
    mesh: TriangleMesh,
    components: int,
    start: ShapeFit | None = None,
    points: int = 3000,
    seed: int = 0,
    within: Grid | None = None,
) -> ShapeFit:
    """Fit to a closed surface: half the points on it, most others beside it, some anywhere around it.

    The last keep the model from growing surfaces where the target has none.

    Args:
        model: The shape model.
        mesh: The target, closed, LPS mm.
        components: How many loadings move; FREE_CODE moves the code itself.
        start: Where the fit begins; None: with the mean shape in the middle of the points.
        points: How many points are drawn.
        seed: Of the points.
        within: Only points that lie in this CT count; None: all do.
    """
    rng = np.random.default_rng(seed)
    on_surface = surface_points(mesh, points // 2, rng)
    beside = surface_points(mesh, points // 3, rng)
    beside += rng.normal(0, _NEAR_MM, beside.shape)
    low, high = mesh.vertices.min(axis=0) - _AROUND_MM, mesh.vertices.max(axis=0) + _AROUND_MM
    around = rng.uniform(low, high, (points // 6, 3))
    off_surface = np.concatenate([beside, around])
    distances = np.concatenate([np.zeros(len(on_surface)), signed_distance_to_mesh(off_surface, mesh)])
    everywhere = np.concatenate([on_surface, off_surface])
    if within is not None:
        seen = within.beyond_faces_mm(everywhere) <= 0
        everywhere, distances = everywhere[seen], distances[seen]
    return fit_to_points(model, everywhere, distances, components, start)


def fit_to_points(
    model: ShapeModel,
    points_lps: npt.NDArray[np.float64],
    distances_mm: npt.NDArray[np.float64],
    components: int,
    start: ShapeFit | None = None,
    iterations: int = 20,
    prior: float = 0.02,
) -> ShapeFit:
    """Pose (translation, anisotropic scale, rotation) and loadings by Levenberg-Marquardt.

    Args:
        model: The shape model.
        points_lps: float64 [N, 3], LPS mm.
        distances_mm: float64 [N], the target's signed distance there.
        components: How many loadings move; FREE_CODE moves the code itself.
        start: Where the fit begins; None: with the mean shape in the middle of the points.
        iterations: Maximum number of steps.
        prior: Weight of |loading|^2 (Eq. 12) beside the mean squared residual in mm^2.
    """
    state = _State.begin(model, points_lps, components, start)
    damping = _FIRST_DAMPING
    residual, jacobian = state.linearised(points_lps, distances_mm)
    for _ in range(iterations):
        step = _step(residual, jacobian, *state.prior_derivatives(prior), damping)
        candidate = state.moved(step)
        new_residual, new_jacobian = candidate.linearised(points_lps, distances_mm)
        if candidate.cost(new_residual, prior) < state.cost(residual, prior):
            gained = state.cost(residual, prior) - candidate.cost(new_residual, prior)
            finished = gained < _MIN_RELATIVE_GAIN * state.cost(residual, prior)
            state, residual, jacobian, damping = candidate, new_residual, new_jacobian, damping / 4
            if finished:
                break
        else:
            damping *= 6
    return ShapeFit(state.pose, state.code, float(np.abs(residual).mean()))


@dataclass(frozen=True)
class _State:
    """A pose, loadings (in units of `directions`) and what moving them does.

    Attributes:
        directions: float64 [D, c], the code's movement for each parameter.
        base: float64 [D], the code at zero loadings.
    """

    model: ShapeModel
    pose: Pose
    loadings: npt.NDArray[np.float64]
    directions: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]

    @staticmethod
    def begin(model: ShapeModel, points: npt.NDArray[np.float64], components: int, start: ShapeFit | None) -> _State:
        space = model.latent_space
        mean = space.mean.double().cpu().numpy()
        basis, spread = space.basis.double().cpu().numpy(), space.standard_deviation.double().cpu().numpy()
        if components == FREE_CODE:
            directions = np.eye(len(mean)) * float(np.sqrt((spread**2).sum() / len(mean)))
        else:
            directions = (basis * spread)[:, :components]
        pose = Pose.at((points.min(axis=0) + points.max(axis=0)) / 2) if start is None else start.pose
        offset = np.zeros(len(mean)) if start is None else start.code.double().cpu().numpy() - mean
        loadings = np.linalg.lstsq(directions, offset, rcond=None)[0] if directions.size else np.zeros(0)
        return _State(model, pose, loadings, directions, mean)

    @property
    def code(self) -> torch.Tensor:
        code = self.base + self.directions @ self.loadings
        return torch.as_tensor(code, dtype=torch.float32, device=self.model.device)

    def linearised(
        self, points: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Residuals [N] in mm and their Jacobian [N, 9 + c] (shift, log scale, turn, loadings)."""
        reference = self.pose.to_reference(points)
        value, by_x, by_z = _decoded(self.model, reference / self.model.mm_per_unit, self.code)
        by_image = (by_x / self.pose.scale) @ self.pose.rotation.T / self.model.mm_per_unit
        norm = np.maximum(np.linalg.norm(by_image, axis=1), 0.2 / self.model.mm_per_unit)[:, None]
        along = by_x / self.model.mm_per_unit
        scaled = reference * self.pose.scale
        turned = (by_x / self.pose.scale) / self.model.mm_per_unit
        jacobian = np.concatenate(
            [-by_image, -along * reference, -np.cross(scaled, turned), by_z @ self.directions], axis=1
        )
        return value / norm[:, 0] - distances, jacobian / norm

    def moved(self, step: npt.NDArray[np.float64]) -> _State:
        turn = Rotation.from_rotvec(step[6:9]).as_matrix()
        pose = Pose(
            self.pose.translation + step[:3],
            np.clip(self.pose.scale * np.exp(np.clip(step[3:6], -0.3, 0.3)), *SCALE_LIMITS),
            self.pose.rotation @ turn,
        )
        return _State(self.model, pose, self.loadings + step[9:], self.directions, self.base)

    def prior_derivatives(self, weight: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Gradient and diagonal of the prior's half square, for the 9 pose parameters and the loadings."""
        pulled = np.concatenate([np.zeros(9), np.full(len(self.loadings), weight)])
        return pulled * np.concatenate([np.zeros(9), self.loadings]), pulled

    def cost(self, residual: npt.NDArray[np.float64], weight: float) -> float:
        return float((_weights(residual) * residual**2).mean() + weight * (self.loadings**2).sum())


def _step(
    residual: npt.NDArray[np.float64],
    jacobian: npt.NDArray[np.float64],
    prior_gradient: npt.NDArray[np.float64],
    prior_diagonal: npt.NDArray[np.float64],
    damping: float,
) -> npt.NDArray[np.float64]:
    """One damped, robustly weighted Gauss-Newton step."""
    weighted = jacobian * _weights(residual)[:, None] / len(residual)
    hessian = weighted.T @ jacobian + np.diag(prior_diagonal)
    hessian += np.diag(damping * np.diag(hessian) + 1e-12)
    return np.asarray(-np.linalg.solve(hessian, weighted.T @ residual + prior_gradient))


def _weights(residual: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Huber's: a residual beyond a few millimetres pulls with constant force."""
    return np.asarray(np.minimum(1.0, _ROBUST_MM / np.maximum(np.abs(residual), 1e-9)))


def _decoded(
    model: ShapeModel, canonical: npt.NDArray[np.float64], code: torch.Tensor
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Values [N] and their gradients by coordinates [N, 3] and by code [N, D], canonical units.

    Each point has its own copy of the code, so that one backward pass gives every row of the Jacobian.
    """
    values, by_x, by_z = [], [], []
    for first in range(0, len(canonical), _CHUNK_POINTS):
        part = canonical[first : first + _CHUNK_POINTS]
        x = torch.as_tensor(part, dtype=torch.float32, device=model.device)[:, None].requires_grad_(True)
        z = code.expand(len(part), -1).clone().requires_grad_(True)
        value = model.decoder(x, z)
        gradients = torch.autograd.grad(value.sum(), (x, z))
        values.append(value.detach()[:, 0])
        by_x.append(gradients[0][:, 0])
        by_z.append(gradients[1])
    value, gradient_x, gradient_z = (torch.cat(parts).double().cpu().numpy() for parts in (values, by_x, by_z))
    return value, gradient_x, gradient_z
