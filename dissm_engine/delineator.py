"""The whole engine on one page: pose (3.2), prior (Eq. 4), refinement (3.3), mask and mesh, findings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dissm_engine.arithmetic import Arithmetic
from dissm_engine.bundle import Bundle
from dissm_engine.delineation import Delineation
from dissm_engine.errors import NO_SURFACE, DelineationError
from dissm_engine.hypothesis import MIN_AGREEMENT_GAIN, Hypothesis, rigid_and_non_rigid, unless_clearly_worse
from dissm_engine.measurement import DelineationSteps, Measurements, measure, tissue_agreement
from dissm_engine.pose.agent import PosePath
from dissm_engine.pose.similarity import Pose
from dissm_engine.preprocessing import FIELD_SPACING_MM
from dissm_engine.progress import UNMONITORED, Cancellation, Monitor, Progress, no_progress
from dissm_engine.refine.precision_choice import is_faster_in_bfloat16
from dissm_engine.refine.tissues import median_hu
from dissm_engine.rounds import MAX_ROUNDS, Attempt, Round, at_rho_share, more_components, until_still
from dissm_engine.shape.fit import ShapeFit, fit_to_mesh
from dissm_engine.surface import OrganSurface, largest_part, mesh_of
from dissm_engine.trained_model import TrainedModel
from dissm_engine.trust import judge
from dissm_engine.volume import AIR_HU, Grid, SignedDistance, Volume, axis_aligned_grid, covering_grid, resample

_MARGIN_MM = 36.0
_SEARCH_SPACING_MM = 8.0
_PRIOR_SPACING_MM = 4.0
_MAX_HYPOTHESES = 2


class Delineator:
    """Finds the organ of its model in a CT. One instance serves many volumes, one at a time.

    `delineate` does everything; its steps are public, for training and calibration to use as they are: `find_pose`,
    `best_hypothesis`, `refit`, `finish` and `measure`.

    Args:
        model: A bundle, or trained parts that are in none yet.
        device: Where the refinement network runs, as torch names it.
        half: Whether it runs in bfloat16; None: where a short measurement, once in a process, shows a clear gain.

    Examples:
        A mask of the liver in a CT whose HU [K, J, I] and affine (LPS mm from voxels i, j, k) are known::

            from dissm_engine import Bundle, Delineator, Volume

            found = Delineator(Bundle.load()).delineate(Volume(hu, lps_from_voxel))
            print(found.findings.verdict, f"{found.volume_ml:.0f} ml", found.mask.shape)
    """

    def __init__(self, model: Bundle | TrainedModel, device: str = "cpu", half: bool | None = None) -> None:
        self.bundle = model if isinstance(model, Bundle) else None
        self.model = model.model if isinstance(model, Bundle) else model
        architecture = self.model.refiner.network.architecture
        self.device, self.half = device, is_faster_in_bfloat16(architecture, device) if half is None else half
        self.refiner = self.model.refiner.on(device, half=self.half)

    def delineate(
        self,
        volume: Volume,
        progress: Progress = no_progress,
        cancellation: Cancellation | None = None,
        path: PosePath | None = None,
    ) -> Delineation:
        """Delineate the organ.

        Args:
            volume: A CT that holds the organ, or a part of it; LPS.
            progress: Told the stage and the share of it that is done.
            cancellation: Ends the work when it is requested from another thread.
            path: What `find_pose` gave for this volume; None: it is found here.

        Raises:
            DelineationError: No surface remains, or what was found is no such organ.
            DelineationCancelled: The end of the work was asked for.
        """
        arithmetic = Arithmetic.current(self.device, self.half)
        monitor = Monitor(progress, cancellation or Cancellation())
        seconds: dict[str, float] = {}
        with _timed("pose", seconds):
            path = path or self.find_pose(volume, monitor)
        with _timed("refine", seconds):
            first = self.best_hypothesis(volume, path, monitor)
            best, rounds = self.refit(volume, first, monitor)
        # Rounds may end early; this also sees a request to end.
        monitor.report("refine", 1.0)
        with _timed("surface", seconds):
            surface = self.finish(volume, best)
        monitor.check()
        with _timed("findings", seconds):
            measured = self.measure(volume, DelineationSteps(path, first, best, rounds, surface))
        monitor.report("done", 1.0)
        return Delineation(
            field=surface.field,
            ct_grid=volume.grid,
            mask=surface.mask,
            mesh=surface.mesh,
            pose=best.pose,
            loadings=best.loadings,
            findings=judge(measured.values, self.model.trust, measured.places),
            stage_seconds=seconds,
            bundle_digest=self.bundle.digest if self.bundle else "",
            bundle_name=self.bundle.name if self.bundle else "",
            bundle_version=self.bundle.version if self.bundle else "",
            tissue_hu=median_hu(best.working.hu, best.refinement.tissue, surface.field.mm, best.refinement.in_view),
            arithmetic=arithmetic,
            rounds=rounds,
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
                tried.append(
                    self.refine_from(volume, pose, loadings, monitor.part(number, _MAX_HYPOTHESES + MAX_ROUNDS))
                )
            if tried and tried[0].agreement + MIN_AGREEMENT_GAIN >= 1:
                # No other could agree clearly more; it need not be refined.
                break
        if not tried:
            raise DelineationError(NO_SURFACE)
        return unless_clearly_worse(tried[0], alternative=tried[-1])

    def refit(
        self, volume: Volume, found: Hypothesis, monitor: Monitor = UNMONITORED
    ) -> tuple[Hypothesis, tuple[Round, ...]]:
        """Fit the shape model to what the refinement found and refine from there, until the surface stands still.

        At most `MAX_ROUNDS` rounds; the fit gets further components where it needs them. In the end the model's surface
        bias is taken off.

        Raises:
            DelineationError: Nothing was found that the model could be fitted to.
            DelineationCancelled: The end of the work was asked for.
        """

        def attempt(kept: Hypothesis, number: int) -> Attempt:
            part = monitor.part(_MAX_HYPOTHESES + number, _MAX_HYPOTHESES + MAX_ROUNDS)
            part.report("refine", 0.0)
            fit, components = self.fit_shape(kept, volume.grid)
            loadings = fit.loadings(self.model.shape.latent_space, components)
            return Attempt(self.refine_from(volume, fit.pose, loadings, part), components, fit.residual_mm)

        kept, rounds = until_still(found, attempt, self._rho_mm)
        refinement = kept.refinement.moved_inward(self.model.surface_bias_mm, self._rho_mm)
        return replace(kept, refinement=refinement), rounds

    @property
    def _rho_mm(self) -> float:
        return self.refiner.network.architecture.rho_mm

    def finish(self, volume: Volume, found: Hypothesis) -> OrganSurface:
        """The final field with its mask and mesh. Raises DelineationError when no closed surface remains."""
        return OrganSurface.of(found.refinement.field, volume.grid)

    def measure(self, volume: Volume, steps: DelineationSteps) -> Measurements:
        """The value of every finding by its name; `dissm_engine.trust.judge` makes the verdict of them."""
        return measure(steps, volume.grid, self._rho_mm)

    def fit_shape(self, found: Hypothesis, ct_grid: Grid) -> tuple[ShapeFit, int]:
        """The shape model where it lies closest to a found surface, and how many of its components moved.

        As many as before move at first, and more where those leave too much.

        Args:
            found: Its field's surface is the target.
            ct_grid: Where the CT lies; what it does not show does not count.

        Raises:
            DelineationError: There is no surface.
        """
        surface, shape = mesh_of(largest_part(found.refinement.field)), self.model.shape
        count = len(found.loadings)
        begin = ShapeFit(found.pose, shape.code(found.loadings), 0.0)
        fit = fit_to_mesh(shape, surface, count, begin, within=ct_grid)
        at_rho = at_rho_share(found.refinement, self._rho_mm)
        wanted = more_components(count, len(shape.latent_space.standard_deviation), fit.residual_mm, at_rho)
        if wanted > count:
            fit = fit_to_mesh(shape, surface, wanted, fit, within=ct_grid)
        return fit, wanted

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


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started
