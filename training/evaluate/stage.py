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
from training.context import RunContext
from training.evaluate.metrics import Agreement
from training.evaluate.stages import evaluate_case, summarise
from training.phantom.test_phantoms import content_hash, make_test_phantom
from training.shape.generalisation import TABLE_FILE, measure_generalisation
from training.sources.surfaces import open_source


def frozen_phantoms() -> list[dict[str, Any]]:
    """The frozen test set: liver, seed, the edition that it was added with, SHA-256 of the scan."""
    content = (resources.files("training.evaluate") / "frozen_phantoms.json").read_text()
    phantoms: list[dict[str, Any]] = json.loads(content)["phantoms"]
    return phantoms


def run_evaluate(context: RunContext) -> None:
    """Write `evaluation.json`: every stage on the frozen phantoms; the shape model on the livers kept out.

    Phantoms are drawn from the surfaces as published. The report counts how many are the frozen ones, bit for bit:
    figures of two bundles may be compared only where all are.
    """
    torch.set_num_threads(context.threads)
    engine = Delineator(Bundle.load(context.folder / "bundle"), context.device)
    preset = context.preset.shape
    livers = open_source(context.surfaces, preset.liver_labels).load()
    wanted = [f for f in frozen_phantoms() if f["liver"] in livers][: preset.most_held_out]
    cases: list[dict[str, Agreement]] = []
    frozen = 0
    for number, entry in enumerate(wanted):
        phantom = make_test_phantom(livers[entry["liver"]], int(entry["seed"]), entry["edition"] > 1)
        frozen += content_hash(phantom) == entry["sha256"]
        cases.append(evaluate_case(engine, phantom.volume, phantom.liver_mesh))
        context.progress("evaluate", (number + 1) / len(wanted))
    report = {
        "bundle": engine.bundle.describe(),
        "phantoms": len(wanted),
        "frozen_phantoms": frozen,
        "summary": summarise(cases),
        "summary_by_edition": {
            str(edition): summarise([c for e, c in zip(wanted, cases, strict=True) if e["edition"] == edition])
            for edition in sorted({e["edition"] for e in wanted})
        },
        "cases": [
            {
                "liver": e["liver"],
                "seed": e["seed"],
                "edition": e["edition"],
                **{stage: asdict(value) for stage, value in case.items()},
            }
            for e, case in zip(wanted, cases, strict=True)
        ],
        "shape_model": shape_table(context),
    }
    aside = context.folder / "evaluation.json.new"
    aside.write_text(json.dumps(report, indent=1))
    aside.replace(context.folder / "evaluation.json")


def run_generalisation(context: RunContext) -> None:
    """Write `shape/generalisation.json`: what the shape model alone can say about the livers kept out."""
    torch.set_num_threads(context.threads)
    measure_generalisation(context.folder, context.progress)


def shape_table(context: RunContext) -> dict[str, Any]:
    """What `run_generalisation` wrote; measured now where it was not."""
    path = context.folder / "shape" / TABLE_FILE
    if not path.exists():
        run_generalisation(context)
    table: dict[str, Any] = json.loads(path.read_text())
    return table


def read_report(folder: Path) -> dict[str, Any]:
    """What `run_evaluate` wrote."""
    report: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return report
