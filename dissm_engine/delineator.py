"""The whole engine on one page: pose (3.2), prior (Eq. 4), refinement (3.3), mask and mesh, findings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dissm_engine.arithmetic import Arithmetic
from dissm_engine.bundle import Bundle
from dissm_engine.delineation import Delineation
from dissm_engine.errors import NO_SURFACE, DelineationError
from dissm_engine.measurement import measure, tissue_agreement
from dissm_engine.pose.agent import PosePath, stage_poses
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.similarity import Pose
from dissm_engine.precision import native_bfloat16
from dissm_engine.preprocessing import FIELD_SPACING_MM
from dissm_engine.progress import UNMONITORED, Cancellation, Monitor, Progress, no_progress
from dissm_engine.refine.refiner import Refinement
from dissm_engine.refine.tissues import median_hu
from dissm_engine.shape.fit import ShapeFit, fit_to_mesh
from dissm_engine.surface import OrganSurface, largest_part, mesh_of
from dissm_engine.trained_model import TrainedModel
from dissm_engine.trust import judge
from dissm_engine.volume import AIR_HU, Grid, SignedDistance, Volume, axis_aligned_grid, covering_grid, resample

_MARGIN_MM = 36.0
_SEARCH_SPACING_MM = 8.0
_PRIOR_SPACING_MM = 4.0
_MIN_AGREEMENT_GAIN = 0.015
_MAX_REFINEMENTS = 3


@dataclass(frozen=True)
class Hypothesis:
    """The shape model at one pose, and what the refinement makes of it.

    Attributes:
        pose, loadings: Of the shape model; the loadings are float32 [C] in standard deviations.
        working: The CT on the grid of the refinement's field.
        refinement: The refined field with the tissues around it.
        agreement: Share of the field's inside that the tissue head calls liver, 0 to 1.
    """

    pose: Pose
    loadings: npt.NDArray[np.float32]
    working: Volume
    refinement: Refinement
    agreement: float


class Delineator:
    """Finds the organ of its model in a CT. One instance serves many volumes, one at a time.

    `delineate` does everything; its steps are public, for training and calibration to use as they are: `find_pose`,
    `best_hypothesis`, `refit`, `finish` and `measure`.

    Args:
        model: A bundle, or trained parts that are in none yet.
        device: Where the refinement network runs, as torch names it.

    Examples:
        A mask of the liver in a CT whose HU [K, J, I] and affine (LPS mm from voxels i, j, k) are known::

            from dissm_engine import Bundle, Delineator, Volume

            found = Delineator(Bundle.load()).delineate(Volume(hu, lps_from_voxel))
            print(found.findings.verdict, f"{found.volume_ml:.0f} ml", found.mask.shape)
    """

    def __init__(self, model: Bundle | TrainedModel, device: str = "cpu") -> None:
        self.bundle = model if isinstance(model, Bundle) else None
        self.model = model.model if isinstance(model, Bundle) else model
        self.device, self.half = device, native_bfloat16(device)
        self.refiner = self.model.refiner.on(device, half=self.half)

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        """Delineate the organ.

        Args:
            volume: A CT that holds the organ, or a part of it; LPS.
            progress: Told the stage and the share of it that is done.
            cancellation: Ends the work when it is requested from another thread.

        Raises:
            DelineationError: No surface remains, or what was found is no such organ.
            DelineationCancelled: The end of the work was asked for.
        """
        arithmetic = Arithmetic.current(self.device, self.half)
        monitor = Monitor(progress, cancellation or Cancellation())
        seconds: dict[str, float] = {}
        with _timed("pose", seconds):
            path = self.find_pose(volume, monitor)
        with _timed("refine", seconds):
            best = self.refit(volume, self.best_hypothesis(volume, path, monitor), monitor)
        monitor.check()
        with _timed("surface", seconds):
            surface = self.finish(volume, best)
        monitor.check()
        with _timed("findings", seconds):
            measured = self.measure(volume, path, best, surface)
        monitor.report("done", 1.0)
        return Delineation(
            field=surface.field,
            ct_grid=volume.grid,
            mask=surface.mask,
            mesh=surface.mesh,
            pose=best.pose,
            loadings=best.loadings,
            findings=judge(measured, self.model.trust),
            stage_seconds=seconds,
            bundle_digest=self.bundle.digest if self.bundle else "",
            bundle_name=self.bundle.name if self.bundle else "",
            bundle_version=self.bundle.version if self.bundle else "",
            tissue_hu=median_hu(best.working.hu, best.refinement.tissue, surface.field.mm, best.refinement.in_view),
            arithmetic=arithmetic,
        )

    def find_pose(self, volume: Volume, monitor: Monitor = UNMONITORED) -> PosePath:
        """Where the shape model lies in the CT (paper 3.2). Raises DelineationCancelled when that is asked for."""
        return self.model.agent.find_pose(volume, self.model.shape, monitor)

    def best_hypothesis(self, volume: Volume, path: PosePath, monitor: Monitor = UNMONITORED) -> Hypothesis:
        """Refine from the last rigid and from the non-rigid pose; the rigid one is kept only where the tissue head
        agrees with it clearly more.

        Where the image is unlike anything in training, the loadings may pull the shape into a neighbour that the
        refinement, bounded by rho, cannot leave again; the mean shape in its rigid pose is then the better start.

        Raises:
            DelineationError: Neither has an inside.
            DelineationCancelled: The end of the work was asked for.
        """
        tried: list[Hypothesis] = []
        for number, (pose, loadings) in enumerate(reversed(rigid_and_non_rigid(path))):
            with suppress(DelineationError):
                tried.append(self.refine_from(volume, pose, loadings, monitor.part(number, _MAX_REFINEMENTS)))
            if tried and tried[0].agreement + _MIN_AGREEMENT_GAIN >= 1:
                # No other could agree clearly more; it need not be refined.
                break
        if not tried:
            raise DelineationError(NO_SURFACE)
        return _unless_clearly_worse(tried[0], alternative=tried[-1])

    def refit(self, volume: Volume, found: Hypothesis, monitor: Monitor = UNMONITORED) -> Hypothesis:
        """Fit the shape model to what the refinement found, and refine from there.

        The refinement sees far more of the image than the pose stage did, so the model ends nearer to the organ, and
        what lay deeper than rho in a wrong prior comes within reach: the result is again SDF + r, |r| <= rho. In the
        end the model's surface bias is taken off.

        Raises:
            DelineationError: Nothing was found that the model could be fitted to.
            DelineationCancelled: The end of the work was asked for.
        """
        last = monitor.part(_MAX_REFINEMENTS - 1, _MAX_REFINEMENTS)
        last.report("refine", 0.0)
        pose, loadings = self.fit_shape(found, volume.grid)
        kept = _unless_clearly_worse(self.refine_from(volume, pose, loadings, last), alternative=found)
        rho = self.refiner.network.architecture.rho_mm
        return replace(kept, refinement=kept.refinement.moved_inward(self.model.surface_bias_mm, rho))

    def finish(self, volume: Volume, found: Hypothesis) -> OrganSurface:
        """The final field with its mask and mesh. Raises DelineationError when no closed surface remains."""
        return OrganSurface.of(found.refinement.field, volume.grid)

    def measure(self, volume: Volume, path: PosePath, found: Hypothesis, surface: OrganSurface) -> Mapping[str, float]:
        """The value of every finding by its name; `dissm_engine.trust.judge` makes the verdict of them."""
        volume_ml = float(surface.mask.sum() * volume.grid.voxel_ml)
        return measure(path, found.loadings, found.refinement, found.working, surface.mesh, volume.grid, volume_ml)

    def fit_shape(self, found: Hypothesis, ct_grid: Grid) -> tuple[Pose, npt.NDArray[np.float32]]:
        """The shape model's pose and loadings (as many as before) that lie closest to a found surface, where the CT
        shows it. Raises DelineationError when there is no surface."""
        surface, shape = mesh_of(largest_part(found.refinement.field)), self.model.shape
        start = ShapeFit(found.pose, shape.code(found.loadings), 0.0)
        fit = fit_to_mesh(shape, surface, len(found.loadings), start, within=ct_grid)
        return fit.pose, fit.loadings(shape.latent_space, len(found.loadings))

    def refine_from(
        self, volume: Volume, pose: Pose, loadings: npt.NDArray[np.float32], monitor: Monitor = UNMONITORED
    ) -> Hypothesis:
        """The prior of one pose and its refinement.

        Raises:
            DelineationError: The prior has no inside.
            DelineationCancelled: The end of the work was asked for.
        """
        monitor.report("refine", 0.0)
        prior = self.prior(pose, loadings)
        working = resample(volume, prior.grid, outside=AIR_HU)
        in_view = volume.grid.beyond_faces_mm(prior.grid.points_lps()) <= 0
        refinement = self.refiner.refine(working, prior, in_view, lambda done: monitor.report("refine", done))
        return Hypothesis(pose, loadings, working, refinement, tissue_agreement(refinement))

    def prior(self, pose: Pose, loadings: npt.NDArray[np.float32]) -> SignedDistance:
        """Signed distance of the shape model at a pose (Eq. 4), mm, on the working grid around it.

        Computed at 4 mm and interpolated: the decoder is smooth, and the refinement sees to the rest.
        Raises DelineationError when the shape has no inside.
        """
        shape = self.model.shape
        radius = shape.mm_per_unit * shape.trained_radius * pose.scale.max()
        search = axis_aligned_grid(pose.translation - radius, pose.translation + radius, _SEARCH_SPACING_MM)
        coarse = shape.signed_distance(pose, loadings, search, band_mm=_SEARCH_SPACING_MM)
        grid = self._working_grid(coarse)
        drawn = shape.signed_distance(pose, loadings, covering_grid(grid, _PRIOR_SPACING_MM), band_mm=_MARGIN_MM)
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
    """Pose and loadings after the rotation stage and after the non-rigid stage."""
    ends = stage_poses(path)
    return [ends[stage] for stage in (StageName.ROTATION, StageName.NON_RIGID) if stage in ends]


def _unless_clearly_worse(hypothesis: Hypothesis, alternative: Hypothesis) -> Hypothesis:
    """The hypothesis, or the alternative where the tissue head agrees with that one clearly more."""
    return alternative if alternative.agreement > hypothesis.agreement + _MIN_AGREEMENT_GAIN else hypothesis


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
