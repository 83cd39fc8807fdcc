"""Stage "shape": deform, align, sample, train the auto-decoder, principal components."""

from __future__ import annotations

from training.bundle_start import Part
from training.context import RunContext
from training.metrics_file import MetricsFile
from training.shape.aligned_livers import ALIGNMENT_FILE, load_alignment, save_alignment
from training.shape.alignment import align, with_deformed
from training.shape.autodecoder import AutoDecoderTraining
from training.shape.deformed_livers import prepare_deformed
from training.shape.kept_shape import keep_shape
from training.shape.sampling import Samples, sample_all
from training.sources.surfaces_stage import load_surfaces
from training.training_loop import TrainingLoop

CHECKPOINT_FILE = "training_state.pt"


def run_shape(context: RunContext) -> None:
    """Fill `shape/` of the run folder: alignment, samples, model, livers; and `surfaces/deformed`.

    Every checkpoint comes with a model that can be loaded; a run that was killed goes on from the last one. A run that
    keeps a bundle's shape model only writes it.
    """
    if context.start is not None and context.start.keeps(Part.SHAPE):
        keep_shape(context, context.start)
        return
    preset, folder = context.preset.shape, context.folder / "shape"
    folder.mkdir(parents=True, exist_ok=True)
    meshes = load_surfaces(context.folder)
    kept = context.folder / "surfaces" / "deformed"
    deformed = prepare_deformed(meshes, preset.deformed_per_liver, context.seed, kept, context.progress)
    if not (folder / ALIGNMENT_FILE).exists():
        aligned = align(meshes, preset, context.progress)
        save_alignment(folder, with_deformed(aligned, meshes, deformed, preset.margin))
    alignment = load_alignment(folder)
    every = {**meshes, **{liver.name: liver.mesh for liver in deformed}}
    sample_all(every, alignment, preset, context.seed, folder / "samples", context.progress)
    samples = Samples.read(folder / "samples", sorted(every))
    names = frozenset(liver.name for liver in deformed)
    task = AutoDecoderTraining(samples, alignment, preset, context.seed, folder, context.device, names)
    metrics = MetricsFile(folder / "metrics.jsonl", "shape")
    loop = TrainingLoop(task, task.loop_settings, folder / CHECKPOINT_FILE, metrics)
    loop.run(lambda done: context.progress("shape", done), context.stop)
