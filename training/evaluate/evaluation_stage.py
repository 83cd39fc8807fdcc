"""Stage "evaluate": the frozen phantoms, stage by stage, and the shape model on the livers kept out."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.mesh import TriangleMesh
from training.context import RunContext
from training.evaluate.agreement_by_stage import evaluate_case, summarise
from training.evaluate.metrics import Agreement
from training.measurement_cache import cached_measurement, discard_measurements, write_json
from training.phantom.scanned_phantoms import content_hash, make_test_phantom
from training.shape.generalisation import TABLE_FILE, generalisation, measure_generalisation
from training.sources.repair import repaired
from training.sources.surfaces import open_source
from training.sources.surfaces_stage import load_surfaces, prepare_surfaces

REPORT_FILE = "evaluation.json"
_OWN_SEEDS = 901
_DIGITS = 12


def frozen_phantoms() -> list[dict[str, Any]]:
    """The frozen test set: liver, seed, the edition that it was added with, SHA-256 of the scan."""
    content = (resources.files("training.evaluate") / "frozen_phantoms.json").read_text()
    phantoms: list[dict[str, Any]] = json.loads(content)["phantoms"]
    return phantoms


def run_evaluate(context: RunContext) -> None:
    """Judge the bundle of the run folder."""
    judge_bundle(context, context.folder / "bundle")


def judge_bundle(context: RunContext, bundle: Path | None) -> None:
    """Write `evaluation.json` into the run folder: every stage on test phantoms, the shape model on livers kept out.

    bundle: folder or zip; None is the shipped one. Every case is kept as it is measured, so that a killed run goes on.
    The report counts how many of the phantoms are the frozen ones, bit for bit: figures of two bundles may be compared
    only where all are. Raises BundleError, SourceError.
    """
    torch.set_num_threads(context.threads)
    loaded = Bundle.load(bundle)
    engine = Delineator(loaded, context.device)
    kept = context.folder / "evaluation" / loaded.weights_digest[:_DIGITS]
    wanted = phantoms_to_judge(context)
    entries, judged = [entry for entry, _ in wanted], []
    for number, (entry, liver) in enumerate(wanted):
        path = kept / f"{entry['liver']}_{entry['seed']}.json"
        judged.append(cached_measurement(path, partial(_judge_phantom, engine, entry, liver)))
        context.progress("evaluate", (number + 1) / len(wanted))
    cases = [{stage: Agreement(**v) for stage, v in one["stages"].items()} for one in judged]
    report = {
        "bundle": {
            "name": loaded.name,
            "version": loaded.version,
            "weights": loaded.weights_digest,
        },
        "phantoms": len(wanted),
        "frozen_phantoms": sum(one["frozen"] for one in judged),
        "summary": summarise(cases),
        "summary_by_edition": {
            str(edition): summarise([c for e, c in zip(entries, cases, strict=True) if e["edition"] == edition])
            for edition in sorted({e["edition"] for e in entries})
        },
        "cases": [
            {name: e[name] for name in ("liver", "seed", "edition")} | one["stages"]
            for e, one in zip(entries, judged, strict=True)
        ],
        "shape_model": _shape_table(context, engine, kept, bundle),
    }
    write_json(context.folder / REPORT_FILE, report)
    discard_measurements(kept)


def _judge_phantom(engine: Delineator, entry: dict[str, Any], liver: TriangleMesh) -> dict[str, Any]:
    phantom = make_test_phantom(liver, int(entry["seed"]), int(entry["edition"]))
    agreement = evaluate_case(engine, phantom.volume, phantom.liver_mesh)
    return {
        "frozen": content_hash(phantom) == entry.get("sha256"),
        "stages": {stage: asdict(value) for stage, value in agreement.items()},
    }


def phantoms_to_judge(context: RunContext) -> list[tuple[dict[str, Any], TriangleMesh]]:
    """What is judged on: the frozen phantoms whose livers the source has, as published, each with its closed surface.

    A source that has none of them (label maps, other livers) is judged on the run's own livers kept out, with seeds
    that no training body has; they count as edition 0.
    """
    preset = context.preset.shape
    livers = open_source(context.surfaces, preset.liver_labels).load()
    frozen = [f for f in frozen_phantoms() if f["liver"] in livers][: preset.max_held_out]
    if frozen:
        return [(entry, _closed(livers[entry["liver"]])) for entry in frozen]
    prepare_surfaces(context, ("held_out",))
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


def _shape_table(context: RunContext, engine: Delineator, kept: Path, bundle: Path | None) -> dict[str, Any]:
    """What `run_generalisation` wrote, where this run made the bundle; measured now where it did not."""
    path = context.folder / "shape" / TABLE_FILE
    if bundle == context.folder / "bundle" and path.exists():
        table: dict[str, Any] = json.loads(path.read_text())
        return table
    prepare_surfaces(context, ("held_out",))
    livers = load_surfaces(context.folder, "held_out")
    return generalisation(engine.model.shape, livers, kept / "shape", context.progress)


def read_report(folder: Path) -> dict[str, Any]:
    """What `judge_bundle` wrote."""
    report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text())
    return report
