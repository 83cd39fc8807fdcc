"""Stages "refine", "fits" and "finetune": on drawn errors first, then on what the pose stage really gets wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dissm_engine.atomic_file import open_atomic
from dissm_engine.hypothesis import rigid_and_non_rigid
from dissm_engine.pose.agent import PoseAgent
from dissm_engine.shape.fit import ShapeFit, fit_to_mesh
from dissm_engine.shape.model import ShapeModel
from dissm_engine.volume import Volume, covering_grid
from dissm_phantom.appearance import Appearance
from dissm_phantom.appearance_randomisation import randomise_appearance
from dissm_phantom.diaphragm import with_diaphragm
from dissm_phantom.rendering import render_hu
from dissm_phantom.scanner import on_scan_grid
from training.context import RunContext
from training.phantom.anatomy_files import anatomy_files, load_anatomy
from training.pose.agent_files import load_agent
from training.refine.crops import load_crops
from training.refine.refinement_trainer import RefinementTraining

_FIT_CLIP_MM = 60.0
_DRAWN_SPACING_MM = 4.0
_ENDS = ("rigid", "non_rigid", "fitted")


def run_refine(context: RunContext) -> None:
    """Train on priors with drawn errors. Needs only the anatomies."""
    preset = context.preset.refine
    files = anatomy_files(context.folder)
    folder = context.stage_folder("refine")
    task = RefinementTraining(preset, load_crops(files, preset.tile), context.seed, folder, context.device)
    task.train(context.progress, context.stop)


def run_fits(context: RunContext) -> None:
    """Play the pose agent on every training anatomy and keep the signed distances it ends with (appendix C)."""
    preset = context.preset.finetune
    if preset is None:
        return
    folder = context.stage_folder("fits")
    shape = ShapeModel.load(context.folder / "shape")
    agent = load_agent(context.folder / "pose")
    files = anatomy_files(context.folder)
    wanted = [(f, n) for n in range(preset.fits_per_anatomy) for f in files]
    for done, (file, number) in enumerate(wanted):
        if not _fit_file(folder, file, number, _ENDS[-1]).exists():
            rng = np.random.default_rng([context.seed, int(file.stem), number])
            for end, prior in zip(_ENDS, _fits(file, shape, agent, rng), strict=True):
                target = _fit_file(folder, file, number, end)
                with open_atomic(target) as stream:
                    np.savez_compressed(stream, prior_mm=prior)
        context.progress("fits", (done + 1) / len(wanted))


def _fit_file(folder: Path, anatomy: Path, number: int, end: str) -> Path:
    return folder / f"{anatomy.stem}_{number}_{end}.npz"


def _fits(file: Path, shape: ShapeModel, agent: PoseAgent, rng: np.random.Generator) -> list[npt.NDArray[np.float16]]:
    """The signed distances that the engine would refine from, in the order of _ENDS: mm on the anatomy's voxels.

    The last is the shape model fitted to the true surface, in the place of a found one (`Delineator.refit`).
    """
    anatomy = load_anatomy(file)
    spacing = float(anatomy.grid.spacing[0])
    labels = with_diaphragm(anatomy.labels, anatomy.liver.mm, spacing, rng)
    hu = render_hu(labels, spacing, randomise_appearance(Appearance.draw(rng), rng), rng, liver_mm=anatomy.liver.mm)
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
    if preset is None:
        return
    files = anatomy_files(context.folder)
    folder = context.stage_folder("finetune")
    task = RefinementTraining(
        preset, load_crops(files, preset.tile, context.folder / "fits"), context.seed + 1, folder, context.device
    )
    task.start_from(context.folder / "refine")
    task.train(context.progress, context.stop)
