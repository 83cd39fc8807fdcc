"""Stage "evaluate": the frozen phantoms, stage by stage, and the shape model on the livers kept out."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.mesh import TriangleMesh
from dissm_phantom import content_hash
from training.context import RunContext
from training.evaluate.agreement_by_stage import REFINED, evaluate_case
from training.evaluate.engine_statement import EngineStatement
from training.evaluate.evaluation_report import EvaluationReport, JudgedBundle, JudgedPhantom, write_report
from training.evaluate.frozen_phantoms import EvaluationPhantom, frozen_phantoms, make_phantom
from training.evaluate.result_pictures import draw_result, keep_pictures
from training.evaluate.trust_assessment_figure import write_trust_figure
from training.evaluate.visible_surface import visible_surface
from training.measurement_cache import cached_measurement, discard_measurements
from training.shape.generalisation import (
    TABLE_FILE,
    GeneralisationTable,
    generalisation,
    measure_generalisation,
    table_from_json,
)
from training.sources.repair import repaired
from training.sources.source_at_path import open_source
from training.sources.surfaces_stage import load_surfaces, prepare_surfaces

_OWN_SEEDS = 901
_DIGITS = 12
_log = logging.getLogger("dissm-train")


def run_evaluate(context: RunContext) -> None:
    """Judge the bundle of the run folder."""
    judge_bundle(context, context.folder / "bundle")


def judge_bundle(context: RunContext, bundle: Path | None, final: bool = False, max_pictures: int = 10) -> None:
    """Write `evaluation.json` into the run folder: every stage on test phantoms, the shape model on livers kept out.

    Beside it go `trust.png` and, in `evaluation/pictures`, the worst phantoms with their truth. Every case is kept as
    it is measured, so that a killed run goes on. The report counts how many of the phantoms are the frozen ones, bit
    for bit: figures of two bundles may be compared only where all are.

    Args:
        context: Of the run.
        bundle: Folder or zip; None is the shipped one.
        final: Whether the phantoms that are not open are judged too. Only when an edition is finished.
        max_pictures: Of how many of the worst phantoms pictures are kept.

    Raises:
        BundleError: The bundle cannot be used.
        SourceError: The surfaces cannot be read.
    """
    torch.set_num_threads(context.threads)
    loaded = Bundle.load(bundle)
    engine = Delineator(loaded, context.device)
    cache = context.folder / "evaluation" / loaded.weights_digest[:_DIGITS]
    pictures = context.folder / "evaluation" / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    wanted = phantoms_to_judge(context, final)
    judged: list[JudgedPhantom] = []
    for number, (phantom, liver) in enumerate(wanted):
        measure = partial(_judge_phantom, engine, phantom, liver, pictures)
        path = cache / f"{phantom.name}.json"
        judged.append(cached_measurement(path, measure, JudgedPhantom.to_json, JudgedPhantom.from_json))
        _log.info("phantom %d of %d: %s", number + 1, len(wanted), _described(judged[-1]))
        context.progress("evaluate", (number + 1) / len(wanted))
    judged_bundle = JudgedBundle(loaded.name, loaded.version, loaded.weights_digest)
    shape_model = _shape_table(context, engine, cache, bundle)
    report = EvaluationReport(judged_bundle, final, tuple(judged), shape_model)
    write_report(context.folder, report)
    write_trust_figure(context.folder, *report.trust_values)
    worst = sorted(judged, key=lambda each: each.stages[REFINED].dsc)[:max_pictures]
    keep_pictures(pictures, [each.phantom.name for each in worst])
    discard_measurements(cache)


def _judge_phantom(
    engine: Delineator, phantom: EvaluationPhantom, liver: TriangleMesh, pictures: Path
) -> JudgedPhantom:
    made = make_phantom(phantom, liver)
    truth = visible_surface(made.liver_mesh, made.volume.grid)
    case = evaluate_case(engine, made.volume, truth)
    statement = EngineStatement.of(case.found) if case.found else None
    frozen = content_hash(made) == phantom.sha256
    judged = JudgedPhantom(phantom, frozen, truth.volume_ml, case.stages, statement, case.problem)
    found = case.found.mask if case.found else np.zeros_like(made.mask)
    draw_result(pictures, phantom.name, _described(judged), made.volume, found, made.mask)
    return judged


def _described(judged: JudgedPhantom) -> str:
    """One line for a log."""
    name = f"{judged.phantom.name} {judged.phantom.category}".strip()
    if judged.statement is None:
        return f"{name}: {judged.problem}"
    said = judged.statement
    estimated = f"{said.verdict}, estimated {said.estimated_dsc:.3f}, {said.seconds:.0f} s"
    return f"{name}: DSC {judged.stages[REFINED].dsc:.3f}, {estimated}"


def phantoms_to_judge(context: RunContext, final: bool = False) -> list[tuple[EvaluationPhantom, TriangleMesh]]:
    """What is judged on: the frozen phantoms whose livers the source has, as published, each with its closed surface.

    A source that has none of them (label maps, other livers) is judged on the run's own livers kept out, with seeds
    that no training body has; they count as edition 0. final: whether the phantoms that are not open are among them.
    """
    preset = context.preset.shape
    livers = open_source(context.surfaces, preset.liver_labels).load()
    frozen = [phantom for phantom in frozen_phantoms(final) if phantom.liver in livers][: preset.max_held_out]
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
