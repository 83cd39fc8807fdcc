"""Stage "pose": scenes from anatomies, then the agent (paper 3.2)."""

from __future__ import annotations

from dissm_engine.shape.model import ShapeModel
from training.bundle_start import Part
from training.context import RunContext
from training.pose.agent_files import save_agent
from training.pose.curriculum import train_agent
from training.pose.scene_files import prepare_scenes
from training.shape.aligned_livers import load_livers


def run_pose(context: RunContext) -> None:
    """Fill `pose/` of the run folder: scenes, checkpoints, metrics, `agent.safetensors` and `agent.json`.

    A run that was killed goes on after the last finished epoch. A run that keeps a bundle's agent only writes it.
    """
    folder = context.stage_folder("pose")
    if context.start is not None and context.start.keeps(Part.POSE):
        save_agent(folder, context.start.bundle.model.agent)
        return
    shape = ShapeModel.load(context.folder / "shape")
    # A handful of livers has fewer components than the preset would move.
    components = min(context.preset.pose.components, shape.latent_space.components)
    preset = context.preset.pose.model_copy(update={"components": components})
    livers = load_livers(context.folder / "shape")
    scenes = prepare_scenes(
        context.folder / "anatomies",
        folder / "scenes",
        livers,
        preset,
        context.seed,
        lambda done: context.progress("pose scenes", done),
    )
    train_agent(folder, shape, scenes, preset, context.seed, context.progress, context.stop)
