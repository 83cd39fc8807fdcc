"""The whole engine on one page: pose (3.2), prior (Eq. 4), refinement (3.3), mask and mesh, findings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dissm_engine.bundle import Bundle
from dissm_engine.delineation import Delineation, Progress, silent
from dissm_engine.errors import NO_SURFACE, DelineationError
from dissm_engine.findings import judge, measure, tissue_agreement
from dissm_engine.pose.agent import PosePath, stage_poses
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.similarity import Pose
from dissm_engine.precision import native_bfloat16
from dissm_engine.preprocessing import FIELD_SPACING_MM
from dissm_engine.refine.refiner import Refinement
from dissm_engine.refine.tissues import median_hu
from dissm_engine.shape.fit import ShapeFit, fit_to_mesh
from dissm_engine.surface import closed_at_border, largest_part, mask_of, mesh_of
from dissm_engine.volume import AIR_HU, Grid, SignedDistance, Volume, axis_aligned_grid, covering_grid, resample

_MARGIN_MM = 36.0
_SEARCH_SPACING_MM = 8.0
_PRIOR_SPACING_MM = 4.0
_CLEARLY_MORE = 0.015
_REFINEMENTS = 3


@dataclass(frozen=True)
class Hypothesis:
    """One resting place of the shape model and what the refinement makes of it.

    working: the CT on the field's grid. agreement: share of the field's inside that the tissue head calls liver.
    """

    pose: Pose
    loadings: npt.NDArray[np.float32]
    working: Volume
    refinement: Refinement
    agreement: float


class Delineator:
    """Finds the organ of its bundle in a CT. One instance serves many volumes, one at a time."""

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        self.bundle = bundle
        self.shape, self.agent = bundle.shape, bundle.agent
        self.refiner = bundle.refiner(device, half=native_bfloat16(device))

    def delineate(self, volume: Volume, progress: Progress = silent) -> Delineation:
        """Delineate the organ.

        volume: a CT that holds the organ, or a part of it; LPS.
        Raises DelineationError when no surface remains, or when what was found is no such organ.
        """
        seconds: dict[str, float] = {}
        with _timed("pose", seconds):
            path = self.agent.find_pose(volume, self.shape, progress)
        with _timed("refine", seconds):
            best = self.settled(volume, self.best_hypothesis(volume, path, progress), progress)
        with _timed("surface", seconds):
            field = largest_part(closed_at_border(best.refinement.field, volume.grid))
            mask, mesh = mask_of(field, volume.grid), mesh_of(field)
        with _timed("findings", seconds):
            volume_ml = float(mask.sum() * volume.grid.voxel_ml)
            measured = measure(path, best.loadings, best.refinement, best.working, mesh, volume.grid, volume_ml)
        progress("done", 1.0)
        return Delineation(
            field=field,
            ct_grid=volume.grid,
            mask=mask,
            mesh=mesh,
            pose=best.pose,
            loadings=best.loadings,
            findings=judge(measured, self.bundle.trust),
            stage_seconds=seconds,
            bundle_digest=self.bundle.digest,
            bundle_name=self.bundle.name,
            bundle_version=self.bundle.version,
            tissue_hu=median_hu(best.working.hu, best.refinement.tissue, field.mm, best.refinement.in_view),
        )

    def best_hypothesis(self, volume: Volume, path: PosePath, progress: Progress = silent) -> Hypothesis:
        """Refine from the last rigid and from the non-rigid pose; the rigid one is kept only where the tissue head
        agrees with it clearly more.

        Where the image is unlike anything in training, the loadings may pull the shape into a neighbour that the
        refinement, bounded by rho, cannot leave again; the mean shape in its rigid pose is then the better start.
        Raises DelineationError when neither has an inside.
        """
        tried: list[Hypothesis] = []
        for number, (pose, loadings) in enumerate(reversed(rigid_and_non_rigid(path))):
            progress("refine", number / _REFINEMENTS)
            with suppress(DelineationError):
                tried.append(self.refined(volume, pose, loadings))
            if tried and tried[0].agreement + _CLEARLY_MORE >= 1:
                # No other could agree clearly more; it need not be refined.
                break
        if not tried:
            raise DelineationError(NO_SURFACE)
        return _preferred(tried[-1], tried[0])

    def settled(self, volume: Volume, found: Hypothesis, progress: Progress = silent) -> Hypothesis:
        """Fit the shape model to what the refinement found, and refine from there.

        The refinement sees far more of the image than the pose stage did, so the model ends nearer to the organ, and
        what lay deeper than rho in a wrong prior comes within reach: the result is again SDF + r, |r| <= rho. What the
        bundle's refinement puts on too much in the mean is taken off at last.
        Raises DelineationError when nothing was found that the model could be fitted to.
        """
        progress("refine", (_REFINEMENTS - 1) / _REFINEMENTS)
        pose, loadings = self.fitted(found, volume.grid)
        kept = _preferred(found, self.refined(volume, pose, loadings))
        rho = self.refiner.network.architecture.rho_mm
        return replace(kept, refinement=kept.refinement.moved_inward(self.bundle.outward_mm, rho))

    def fitted(self, found: Hypothesis, ct_grid: Grid) -> tuple[Pose, npt.NDArray[np.float32]]:
        """The shape model's pose and loadings (as many as before) that lie closest to a found surface, where the CT
        shows it. Raises DelineationError when there is no surface."""
        surface = mesh_of(largest_part(found.refinement.field))
        start = ShapeFit(found.pose, self.shape.code(found.loadings), 0.0)
        fit = fit_to_mesh(self.shape, surface, len(found.loadings), start, within=ct_grid)
        return fit.pose, fit.loadings(self.shape.latent_space, len(found.loadings))

    def refined(self, volume: Volume, pose: Pose, loadings: npt.NDArray[np.float32]) -> Hypothesis:
        """The prior of one pose and its refinement. Raises DelineationError when the prior has no inside."""
        prior = self.prior(pose, loadings)
        working = resample(volume, prior.grid, outside=AIR_HU)
        in_view = volume.grid.beyond_faces_mm(prior.grid.points_lps()) <= 0
        refinement = self.refiner.refine(working, prior, in_view)
        return Hypothesis(pose, loadings, working, refinement, tissue_agreement(refinement))

    def prior(self, pose: Pose, loadings: npt.NDArray[np.float32]) -> SignedDistance:
        """SDF of the shape model at a pose (Eq. 4), mm, on the working grid around it.

        Drawn at 4 mm and interpolated: the decoder is smooth, and the refinement sees to the rest.
        Raises DelineationError when the shape has no inside.
        """
        radius = self.shape.mm_per_unit * self.shape.trained_radius * pose.scale.max()
        search = axis_aligned_grid(pose.translation - radius, pose.translation + radius, _SEARCH_SPACING_MM)
        coarse = self.shape.signed_distance(pose, loadings, search, band_mm=_SEARCH_SPACING_MM)
        grid = self._working_grid(coarse)
        drawn = self.shape.signed_distance(pose, loadings, covering_grid(grid, _PRIOR_SPACING_MM), band_mm=_MARGIN_MM)
        return SignedDistance(drawn.at(grid.points_lps()), grid)

    def _working_grid(self, coarse: SignedDistance) -> Grid:
        """Isotropic, along the LPS axes, around the shape, sizes the network can halve."""
        inside = np.argwhere(coarse.mm < _SEARCH_SPACING_MM)
        if len(inside) == 0:
            raise DelineationError(NO_SURFACE)
        low = coarse.grid.to_lps(inside.min(axis=0)[::-1]) - _MARGIN_MM
        high = coarse.grid.to_lps(inside.max(axis=0)[::-1]) + _MARGIN_MM
        multiple = self.refiner.network.granularity
        step = FIELD_SPACING_MM
        counts = np.ceil((np.ceil((high - low) / step) + 1) / multiple) * multiple
        return axis_aligned_grid(low, low + (counts - 1) * step, step)


def rigid_and_non_rigid(path: PosePath) -> list[tuple[Pose, npt.NDArray[np.float32]]]:
    """Where the rotation stage and the non-rigid stage came to rest."""
    ends = stage_poses(path)
    return [ends[stage] for stage in (StageName.ROTATION, StageName.NON_RIGID) if stage in ends]


def _preferred(first: Hypothesis, second: Hypothesis) -> Hypothesis:
    """The second, unless the tissue head agrees with the first one clearly more."""
    return first if first.agreement > second.agreement + _CLEARLY_MORE else second


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
