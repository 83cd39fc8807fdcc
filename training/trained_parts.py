"""The trained parts of a run folder, as the engine uses them before there is a bundle."""

from __future__ import annotations

from pathlib import Path

from dissm_engine.shape.model import ShapeModel
from dissm_engine.trained_model import TrainedModel
from training.evaluate.calibration import read_calibration
from training.pose.agent_files import load_agent
from training.refine.refiner_files import WEIGHTS_FILE, load_refiner


def trained_model(folder: Path) -> TrainedModel:
    """Shape model, agent and refiner as the run left them, with the surface's bias where it is known already.

    The refiner is the finetuned one where there is one. Nothing is trusted: the trust model is not fitted here.
    """
    refine = folder / "finetune" if (folder / "finetune" / WEIGHTS_FILE).exists() else folder / "refine"
    calibration = read_calibration(folder)
    return TrainedModel(
        shape=ShapeModel.load(folder / "shape"),
        agent=load_agent(folder / "pose"),
        refiner=load_refiner(refine),
        surface_bias_mm=0.0 if calibration is None else calibration.surface_bias_mm,
    )
