"""Stage "shape": align, sample, train the auto-decoder, principal components."""

from __future__ import annotations

import copy
from pathlib import Path

from dissm_engine.shape.latent import LatentSpace
from dissm_engine.shape.model import ShapeModel
from training.context import RunContext
from training.shape.aligned_livers import ALIGNMENT_FILE, AlignedLiver, load_alignment, save_alignment, save_livers
from training.shape.alignment import Alignment, align
from training.shape.autodecoder import AutoDecoder, train
from training.shape.sampling import Samples, sample_all
from training.shape.shape_settings import ShapePreset
from training.sources.surfaces_stage import load_surfaces


def run_shape(context: RunContext) -> None:
    """Fill `shape/` of the run folder: alignment, samples, model, livers.

    Every checkpoint is a model that can be loaded; a run that was killed goes on from the last one.
    """
    preset, folder = context.preset.shape, context.folder / "shape"
    folder.mkdir(parents=True, exist_ok=True)
    meshes = load_surfaces(context.folder)
    if not (folder / ALIGNMENT_FILE).exists():
        save_alignment(folder, align(meshes, preset, context.progress))
    alignment = load_alignment(folder)
    sample_all(meshes, alignment, preset, context.seed, folder / "samples", context.progress)
    samples = Samples.read(folder / "samples", sorted(meshes))
    state = AutoDecoder.fresh(len(meshes), preset, context.seed, context.device)
    state.restore(folder)
    unfinished = True
    while unfinished:
        unfinished = train(state, samples, preset, context.seed, context.progress)
        state.save(folder)
        export(state, alignment, preset, folder)


def export(state: AutoDecoder, alignment: Alignment, preset: ShapePreset, folder: Path) -> None:
    """The model and the livers' codes as they stand: `shape.safetensors`, `shape.json`, `livers.json`."""
    codes = state.codes.detach().cpu()
    space = LatentSpace.from_codes(codes, preset.components)
    # A copy: the model freezes its decoder, and the training goes on with this one.
    model = ShapeModel(copy.deepcopy(state.decoder), space, alignment.mm_per_unit, preset.sphere_radius)
    loadings = space.loadings(codes)
    model.save(folder)
    save_livers(
        folder,
        {
            name: AlignedLiver(alignment.poses[name], code.numpy(), own.numpy())
            for name, code, own in zip(sorted(alignment.poses), codes, loadings, strict=True)
        },
    )
