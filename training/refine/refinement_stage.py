"""Stages "refine", "fits" and "finetune": on drawn errors first, then on what the pose stage really gets wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dissm_engine.atomic_file import open_atomic
from dissm_engine.hypothesis import rigid_and_non_rigid
from dissm_engine.pose.agent import PoseAgent
from dissm_engine.shape.fit import ShapeFit, fit_to_mesh
from dissm_engine.shape.model import ShapeModel
from dissm_engine.volume import Volume, covering_grid
from dissm_phantom.appearance import Appearance
from dissm_phantom.appearance_randomisation import randomise_appearance
from dissm_phantom.diaphragm import with_diaphragm
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.scanner import on_scan_grid
from dissm_phantom.trait_rendering import render_hu_with_traits
from dissm_phantom.variety import Variety
from training.bundle_start import Part
from training.context import RunContext
from training.phantom.anatomy_files import anatomy_files, load_anatomy
from training.pose.agent_files import load_agent
from training.refine.crops import load_crops
from training.refine.painting import PaintingJob, painting
from training.refine.refinement_trainer import RefinementTraining
from training.refine.refiner_files import load_refiner, save_refiner
from training.refine.validation import ValidationPatches

VALIDATION_FOLDER = "validation_anatomies"
"""Of the run folder: bodies that no training sees."""
_FIT_CLIP_MM = 60.0
_DRAWN_SPACING_MM = 4.0
_ENDS = ("rigid", "non_rigid", "fitted")


def run_refine(context: RunContext) -> None:
    """Train on priors with drawn errors. Needs only the anatomies, and the bundle that the run begins with, if any."""
    start, preset, folder = context.start, context.preset.refine, context.stage_folder("refine")
    if start is not None and start.keeps(Part.REFINE):
        refiner = start.bundle.model.refiner
        save_refiner(folder, refiner.state_tensors(), refiner.architecture())
        return
    weights: Mapping[str, Tensor] | None = None
    if start is not None:
        start.require_architecture(preset.architecture)
        weights = start.bundle.model.refiner.state_tensors()
    _train(context, folder, PaintingJob(tuple(anatomy_files(context.folder)), None, preset, context.seed), weights)


def run_fits(context: RunContext) -> None:
    """Play the pose agent on every training anatomy and keep the signed distances it ends with (appendix C)."""
    preset = context.preset.finetune
    if preset is None or _keeps_refinement(context):
        return
    folder = context.stage_folder("fits")
    shape = ShapeModel.load(context.folder / "shape")
    agent = load_agent(context.folder / "pose")
    files = anatomy_files(context.folder)
    wanted = [(f, n) for n in range(preset.fits_per_anatomy) for f in files]
    wanted += [(file, 0) for file in validation_files(context)]
    for done, (file, number) in enumerate(wanted):
        target_folder = _fits_folder(folder, file, context)
        if not _fit_file(target_folder, file, number, _ENDS[-1]).exists():
            rng = np.random.default_rng([context.seed, int(file.stem), number])
            for end, prior in zip(_ENDS, _fits(file, shape, agent, preset.variety, rng), strict=True):
                target = _fit_file(target_folder, file, number, end)
                with open_atomic(target) as stream:
                    np.savez_compressed(stream, prior_mm=prior)
        context.progress("fits", (done + 1) / len(wanted))


def _fit_file(folder: Path, anatomy: Path, number: int, end: str) -> Path:
    return folder / f"{anatomy.stem}_{number}_{end}.npz"


def _fits(
    file: Path, shape: ShapeModel, agent: PoseAgent, variety: Variety, rng: np.random.Generator
) -> list[npt.NDArray[np.float16]]:
    """The signed distances that the engine would refine from, in the order of _ENDS: mm on the anatomy's voxels.

    The last is the shape model fitted to the true surface, in the place of a found one (`Delineator.refit`).
    """
    anatomy = load_anatomy(file)
    spacing = float(anatomy.grid.spacing[0])
    labels = with_diaphragm(anatomy.labels, anatomy.liver.mm, spacing, rng)
    look, traits = randomise_appearance(Appearance.draw(rng), rng), ScanTraits.draw(variety, rng)
    hu = render_hu_with_traits(labels, spacing, look, rng, anatomy.liver.mm, traits)
    path = agent.find_pose(Volume(hu, anatomy.grid.lps_from_voxel), shape)
    coarse = covering_grid(anatomy.grid, _DRAWN_SPACING_MM)
    fit = fit_to_mesh(
        shape,
        anatomy.liver_mesh,
        len(path.loadings),
        ShapeFit(path.pose, shape.code(path.loadings), 0.0),
        within=anatomy.grid,
    )
    fitted = fit.loadings(shape.latent_space, len(path.loadings))
    fits = []
    for pose, loadings in [*rigid_and_non_rigid(path), (fit.pose, fitted)]:
        # Gaussian noise on the loadings, as the paper adds to its latent vectors.
        noisy = loadings + rng.normal(0, 0.1, loadings.shape).astype(np.float32)
        drawn = shape.signed_distance(pose, noisy, coarse, band_mm=36.0)
        prior = on_scan_grid(drawn.mm, coarse, anatomy.grid)
        fits.append(np.clip(prior, -_FIT_CLIP_MM, _FIT_CLIP_MM).astype(np.float16))
    return fits


def run_finetune(context: RunContext) -> None:
    """Go on from "refine" with the pose stage's own results as priors."""
    preset = context.preset.finetune
    if preset is None or _keeps_refinement(context):
        return
    fits = context.folder / "fits"
    job = PaintingJob(tuple(anatomy_files(context.folder)), fits, preset, context.seed + 1)
    weights = load_refiner(context.folder / "refine").state_tensors()
    _train(context, context.stage_folder("finetune"), job, weights, fits / VALIDATION_FOLDER)


def validation_files(context: RunContext) -> list[Path]:
    """Bodies that no training sees, in order; none where the run has no such folder."""
    folder = context.validation or context.folder / VALIDATION_FOLDER
    return sorted(folder.glob("[0-9][0-9][0-9][0-9].npz"))


def _train(
    context: RunContext,
    folder: Path,
    job: PaintingJob,
    weights: Mapping[str, Tensor] | None,
    validation_fits: Path | None = None,
) -> None:
    preset, held = job.preset, validation_files(context)
    validation = None
    if held:
        crops = load_crops(held, preset.tile, validation_fits)
        validation = ValidationPatches.draw(crops, preset, preset.validation_patches)
    with painting(job, context.painters) as painter:
        task = RefinementTraining(preset, painter, job.seed, folder, context.device, validation)
        if weights is not None:
            task.start_from(weights)
        task.train(context.progress, context.stop, context.decay_now)


def _keeps_refinement(context: RunContext) -> bool:
    return context.start is not None and context.start.keeps(Part.REFINE)


def _fits_folder(folder: Path, anatomy: Path, context: RunContext) -> Path:
    """Fits of validation bodies, whose numbers begin again at 0, lie apart."""
    if anatomy.parent == context.folder / "anatomies":
        return folder
    apart = folder / VALIDATION_FOLDER
    apart.mkdir(exist_ok=True)
    return apart
