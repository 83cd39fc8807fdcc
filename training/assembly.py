"""An engine put together from the stages of a run folder, before and after its trust model is fitted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.findings import CALIBRATED, TrustModel
from dissm_engine.pose.agent import PoseAgent
from dissm_engine.refine.refiner import Refiner
from dissm_engine.shape.model import ShapeModel
from training.pose.agent_files import load_agent

CALIBRATION_FILE = "calibration.json"


def trained_parts(folder: Path) -> tuple[ShapeModel, PoseAgent, Refiner]:
    """Shape model, agent and refiner as the run left them; the finetuned refiner where there is one."""
    refine = folder / "finetune" if (folder / "finetune" / "refine.safetensors").exists() else folder / "refine"
    description = json.loads((refine / "refine.json").read_text())
    description.pop("step")
    refiner = Refiner.from_tensors(load_file(refine / "refine.safetensors"), description)
    return ShapeModel.load(folder / "shape"), load_agent(folder / "pose"), refiner


def outward_mm(folder: Path) -> float:
    """What stage "calibrate" found; 0 before it."""
    path = folder / "calibrate" / CALIBRATION_FILE
    return float(json.loads(path.read_text())["outward_mm"]) if path.exists() else 0.0


def untrusting_engine(folder: Path) -> Delineator:
    """An engine whose findings are measured but whose estimate of the DSC means nothing yet."""
    shape, agent, refiner = trained_parts(folder)
    n = len(CALIBRATED)
    manifest = {"architecture": {"refine": refiner.describe()}}
    return Delineator(
        Bundle(
            name="in training",
            version="0",
            created="",
            digest="0" * 64,
            manifest=manifest,
            shape=shape,
            agent=agent,
            refiner_tensors=refiner.state_tensors(),
            outward_mm=outward_mm(folder),
            trust=TrustModel(np.zeros(n), np.ones(n), np.zeros(n), 0.0),
        )
    )
