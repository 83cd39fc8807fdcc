"""Stage "evaluate": the frozen phantoms, stage by stage, and the shape model on the livers kept out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.json_value import JsonObject
from dissm_engine.mesh import TriangleMesh
from training.context import RunContext
from training.evaluate.agreement_by_stage import evaluate_case
from training.evaluate.evaluation_report import (
    EvaluationReport,
    JudgedBundle,
    JudgedPhantom,
    stages_from_json,
    stages_to_json,
    write_report,
)
from training.evaluate.frozen_phantoms import EvaluationPhantom, frozen_phantoms
from training.measurement_cache import cached_measurement, discard_measurements
from training.phantom.scanned_phantoms import content_hash, make_test_phantom
from training.shape.generalisation import (
    TABLE_FILE,
    GeneralisationTable,
    generalisation,
    measure_generalisation,
    table_from_json,
)
from training.sources.repair import repaired
from training.sources.surfaces import open_source
from training.sources.surfaces_stage import load_surfaces, prepare_surfaces

_OWN_SEEDS = 901
_DIGITS = 12


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
    cache = context.folder / "evaluation" / loaded.weights_digest[:_DIGITS]
    wanted = phantoms_to_judge(context)
    judged: list[JudgedPhantom] = []
    for number, (phantom, liver) in enumerate(wanted):
        judged.append(
            cached_measurement(
                cache / f"{phantom.liver}_{phantom.seed}.json",
                partial(_judge_phantom, engine, phantom, liver),
                _judged_to_json,
                partial(_judged_from_json, phantom),
            )
        )
        context.progress("evaluate", (number + 1) / len(wanted))
    judged_bundle = JudgedBundle(loaded.name, loaded.version, loaded.weights_digest)
    shape_model = _shape_table(context, engine, cache, bundle)
    write_report(context.folder, EvaluationReport.of(judged_bundle, tuple(judged), shape_model))
    discard_measurements(cache)


def _judge_phantom(engine: Delineator, phantom: EvaluationPhantom, liver: TriangleMesh) -> JudgedPhantom:
    made = make_test_phantom(liver, phantom.seed, phantom.edition)
    stages = evaluate_case(engine, made.volume, made.liver_mesh)
    return JudgedPhantom(phantom, content_hash(made) == phantom.sha256, stages)


def _judged_to_json(judged: JudgedPhantom) -> JsonObject:
    return {"frozen": judged.frozen, "stages": stages_to_json(judged.stages)}


def _judged_from_json(phantom: EvaluationPhantom, content: Mapping[str, Any]) -> JudgedPhantom:
    return JudgedPhantom(phantom, bool(content["frozen"]), stages_from_json(content["stages"]))


def phantoms_to_judge(context: RunContext) -> list[tuple[EvaluationPhantom, TriangleMesh]]:
    """What is judged on: the frozen phantoms whose livers the source has, as published, each with its closed surface.

    A source that has none of them (label maps, other livers) is judged on the run's own livers kept out, with seeds
    that no training body has; they count as edition 0.
    """
    preset = context.preset.shape
    livers = open_source(context.surfaces, preset.liver_labels).load()
    frozen = [phantom for phantom in frozen_phantoms() if phantom.liver in livers][: preset.max_held_out]
    if frozen:
        return [(phantom, _closed(livers[phantom.liver])) for phantom in frozen]
    prepare_surfaces(context, ("held_out",))
    own = load_surfaces(context.folder, "held_out")
    return [
        (EvaluationPhantom(name, _OWN_SEEDS + number, edition=0), mesh)
        for number, (name, mesh) in enumerate(sorted(own.items()))
    ]


def _closed(mesh: TriangleMesh) -> TriangleMesh:
    """As it is where it is closed: a repaired surface would not give the frozen phantom."""
    return mesh if mesh.closed else repaired(mesh)


def run_generalisation(context: RunContext) -> None:
    """Write `shape/generalisation.json`: what the shape model alone can say about the livers kept out."""
    torch.set_num_threads(context.threads)
    measure_generalisation(context.folder, context.progress)


def _shape_table(context: RunContext, engine: Delineator, cache: Path, bundle: Path | None) -> GeneralisationTable:
    """What `run_generalisation` wrote, where this run made the bundle; measured now where it did not."""
    path = context.folder / "shape" / TABLE_FILE
    if bundle == context.folder / "bundle" and path.exists():
        return table_from_json(json.loads(path.read_text()))
    prepare_surfaces(context, ("held_out",))
    livers = load_surfaces(context.folder, "held_out")
    return generalisation(engine.model.shape, livers, cache / "shape", context.progress)
