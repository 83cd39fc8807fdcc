"""Stage "evaluate": the frozen phantoms, stage by stage, and the shape model on the livers kept out."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.errors import Reason
from dissm_engine.mesh import TriangleMesh
from training.context import RunContext
from training.errors import TrainingError
from training.evaluate.metrics import Agreement
from training.evaluate.stages import evaluate_case, summarise
from training.phantom.test_phantoms import content_hash, make_test_phantom
from training.shape.generalisation import generalisation
from training.sources.stage import load_surfaces

PHANTOM_CHANGED = Reason(
    "PHANTOM_CHANGED",
    "test phantom {number} (seed {seed}) is not the frozen one",
    "the generator or the surfaces have changed; figures cannot be compared with earlier ones",
)


def frozen_phantoms() -> list[dict[str, Any]]:
    """The frozen test set: liver, seed, SHA-256 of the scan."""
    content = (resources.files("training.evaluate") / "frozen_phantoms.json").read_text()
    phantoms: list[dict[str, Any]] = json.loads(content)["phantoms"]
    return phantoms


def run_evaluate(context: RunContext) -> None:
    """Print and write `evaluation.json`: every stage on the frozen phantoms; the shape model on the held-out livers.

    Raises TrainingError when a phantom is not the frozen one.
    """
    torch.set_num_threads(context.threads)
    engine = Delineator(Bundle.load(context.folder / "bundle"), context.device)
    livers = load_surfaces(context.folder, "held_out")
    frozen = [f for f in frozen_phantoms() if f["liver"] in livers]
    cases: list[dict[str, Agreement]] = []
    for number, wanted in enumerate(frozen):
        cases.append(_one(engine, livers[wanted["liver"]], number, wanted, strict=context.preset.name != "smoke"))
        context.progress("evaluate", (number + 1) / len(frozen))
    report = {
        "bundle": engine.bundle.describe(),
        "summary": summarise(cases),
        "cases": [{stage: asdict(value) for stage, value in case.items()} for case in cases],
        "shape_model": generalisation(engine.shape, livers, context.progress),
    }
    aside = context.folder / "evaluation.json.new"
    aside.write_text(json.dumps(report, indent=1))
    aside.replace(context.folder / "evaluation.json")


def _one(
    engine: Delineator, liver: TriangleMesh, number: int, wanted: dict[str, Any], strict: bool
) -> dict[str, Agreement]:
    phantom = make_test_phantom(liver, int(wanted["seed"]))
    if strict and content_hash(phantom) != wanted["sha256"]:
        raise TrainingError(PHANTOM_CHANGED, number=number, seed=wanted["seed"])
    return evaluate_case(engine, phantom.volume, phantom.liver_mesh)


def read_report(folder: Path) -> dict[str, Any]:
    """What `run_evaluate` wrote."""
    report: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return report
