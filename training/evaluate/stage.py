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
from dissm_engine.mesh import TriangleMesh
from training.context import RunContext
from training.evaluate.metrics import Agreement
from training.evaluate.stages import evaluate_case, summarise
from training.phantom.test_phantoms import content_hash, make_test_phantom
from training.shape.generalisation import TABLE_FILE, measure_generalisation
from training.sources.repair import repaired
from training.sources.stage import load_surfaces
from training.sources.surfaces import open_source

_OWN_SEEDS = 901


def frozen_phantoms() -> list[dict[str, Any]]:
    """The frozen test set: liver, seed, the edition that it was added with, SHA-256 of the scan."""
    content = (resources.files("training.evaluate") / "frozen_phantoms.json").read_text()
    phantoms: list[dict[str, Any]] = json.loads(content)["phantoms"]
    return phantoms


def run_evaluate(context: RunContext) -> None:
    """Write `evaluation.json`: every stage on test phantoms; the shape model on the livers kept out.

    The report counts how many of the phantoms are the frozen ones, bit for bit: figures of two bundles may be compared
    only where all are.
    """
    torch.set_num_threads(context.threads)
    engine = Delineator(Bundle.load(context.folder / "bundle"), context.device)
    wanted = phantoms_to_judge(context)
    cases: list[dict[str, Agreement]] = []
    frozen = 0
    for number, (entry, liver) in enumerate(wanted):
        phantom = make_test_phantom(liver, int(entry["seed"]), int(entry["edition"]))
        frozen += content_hash(phantom) == entry.get("sha256")
        cases.append(evaluate_case(engine, phantom.volume, phantom.liver_mesh))
        context.progress("evaluate", (number + 1) / len(wanted))
    entries = [entry for entry, _ in wanted]
    report = {
        "bundle": engine.bundle.describe(),
        "phantoms": len(wanted),
        "frozen_phantoms": frozen,
        "summary": summarise(cases),
        "summary_by_edition": {
            str(edition): summarise([c for e, c in zip(entries, cases, strict=True) if e["edition"] == edition])
            for edition in sorted({e["edition"] for e in entries})
        },
        "cases": [
            {name: e[name] for name in ("liver", "seed", "edition")} | {stage: asdict(v) for stage, v in case.items()}
            for e, case in zip(entries, cases, strict=True)
        ],
        "shape_model": shape_table(context),
    }
    aside = context.folder / "evaluation.json.new"
    aside.write_text(json.dumps(report, indent=1))
    aside.replace(context.folder / "evaluation.json")


def phantoms_to_judge(context: RunContext) -> list[tuple[dict[str, Any], TriangleMesh]]:
    """What is judged on: the frozen phantoms whose livers the source has, as published, each with its closed surface.

    A source that has none of them (label maps, other livers) is judged on the run's own livers kept out, with seeds
    that no training body has; they count as edition 0.
    """
    preset = context.preset.shape
    livers = open_source(context.surfaces, preset.liver_labels).load()
    frozen = [f for f in frozen_phantoms() if f["liver"] in livers][: preset.most_held_out]
    if frozen:
        return [(entry, _closed(livers[entry["liver"]])) for entry in frozen]
    own = load_surfaces(context.folder, "held_out")
    return [
        ({"liver": name, "seed": _OWN_SEEDS + number, "edition": 0}, mesh)
        for number, (name, mesh) in enumerate(sorted(own.items()))
    ]


def _closed(mesh: TriangleMesh) -> TriangleMesh:
    """As it is where it is closed: a repaired surface would not give the frozen phantom."""
    return mesh if mesh.closed else repaired(mesh)


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
