"""Stages "refine", "fits" and "finetune": on drawn errors first, then on what the pose stage really gets wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from dissm_engine.phantom.appearance import Appearance
from dissm_engine.phantom.paint import paint
from dissm_engine.pose.agent import PoseAgent
from dissm_engine.shape.model import ShapeModel
from dissm_engine.volume import Volume
from training.context import RunContext
from training.phantom.storage import anatomy_files, load_anatomy
from training.pose.agent_files import load_agent
from training.refine.crops import load_crops
from training.refine.trainer import RefinementTrainer

_FIT_CLIP_MM = 60.0


def run_refine(context: RunContext) -> None:
    """Train on priors with drawn errors. Needs only the anatomies."""
    torch.set_num_threads(context.threads)
    preset = context.preset.refine
    files = anatomy_files(context.folder)
    folder = context.stage_folder("refine")
    RefinementTrainer(preset, load_crops(files, preset.tile), context.seed, folder, context.device).train(
        context.progress
    )


def run_fits(context: RunContext) -> None:
    """Play the pose agent on every training anatomy and keep the signed distances it ends with (appendix C)."""
    preset = context.preset.finetune
    if preset is None:
        return
    torch.set_num_threads(context.threads)
    folder = context.stage_folder("fits")
    shape = ShapeModel.load(context.folder / "shape")
    agent = load_agent(context.folder / "pose")
    files = anatomy_files(context.folder)
    wanted = [(f, n) for n in range(preset.fits_per_anatomy) for f in files]
    for done, (file, number) in enumerate(wanted):
        target = folder / f"{file.stem}_{number}.npz"
        if not target.exists():
            rng = np.random.default_rng([context.seed, int(file.stem), number])
            prior = _fit(file, shape, agent, rng)
            aside = target.with_suffix(".new.npz")
            np.savez_compressed(aside, prior_mm=prior)
            aside.replace(target)
        context.progress("fits", (done + 1) / len(wanted))


def _fit(file: Path, shape: ShapeModel, agent: PoseAgent, rng: np.random.Generator) -> npt.NDArray[np.float16]:
    anatomy = load_anatomy(file)
    spacing = float(anatomy.grid.spacing[0])
    hu = paint(anatomy.labels, spacing, Appearance.draw(rng), rng, liver_mm=anatomy.liver.mm)
    path = agent.find_pose(Volume(hu, anatomy.grid.lps_from_voxel), shape)
    # Gaussian noise on the loadings, as the paper adds to its latent vectors.
    loadings = path.loadings + rng.normal(0, 0.1, path.loadings.shape).astype(np.float32)
    prior = shape.signed_distance(path.pose, loadings, anatomy.grid, band_mm=36.0)
    return np.clip(prior.mm, -_FIT_CLIP_MM, _FIT_CLIP_MM).astype(np.float16)


def run_finetune(context: RunContext) -> None:
    """Go on from "refine" with the pose stage's own results as priors."""
    preset = context.preset.finetune
    if preset is None:
        return
    torch.set_num_threads(context.threads)
    files = anatomy_files(context.folder)
    folder = context.stage_folder("finetune")
    trainer = RefinementTrainer(
        preset, load_crops(files, preset.tile, context.folder / "fits"), context.seed + 1, folder, context.device
    )
    trainer.start_from(context.folder / "refine")
    trainer.train(context.progress)
