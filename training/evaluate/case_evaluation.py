"""Judge a bundle on CTs with manual masks, one case at a time in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dissm_engine.bundle import Bundle
from dissm_engine.delineation import Delineation
from dissm_engine.delineator import Delineator
from dissm_engine.errors import DelineationError, DissmError
from training.evaluate.case_report import CaseReport, JudgedCase, write_case_report
from training.evaluate.engine_statement import EngineStatement
from training.evaluate.evaluation_report import JudgedBundle
from training.evaluate.metrics import Agreement, Truth
from training.evaluate.result_pictures import draw_result, keep_pictures
from training.evaluate.trust_assessment_figure import write_trust_figure
from training.measurement_cache import cached_measurement, discard_measurements
from training.sources.image_pairs import ImagePair, ImagePairFiles, find_image_pairs, read_image_pair
from training.sources.label_maps import surface_of_mask

_DIGITS = 12
_log = logging.getLogger("dissm-train")


def judge_cases(
    bundle: Path | None, cases: Path, out: Path, labels: Sequence[int] = (), max_pictures: int = 5, device: str = "cpu"
) -> CaseReport:
    """Delineate every case of a folder and hold the result against its mask.

    Writes `cases.json`, `cases.csv`, `trust.png` and `pictures/` of the worst cases. A case that cannot be read, or in
    which nothing is found, is a row with its reason. Rows are kept as they are measured, so that a killed run goes on.

    Args:
        bundle: Folder or zip; None is the shipped one.
        cases: Folder with `images/` and `labels/`, see `find_image_pairs`.
        out: Where the answer goes; made if it is not there.
        labels: The numbers that make up the organ; none: every number above 0.
        max_pictures: Of how many of the worst cases pictures are kept.
        device: Where the refinement runs.

    Raises:
        ImagePairError: There is no case.
        BundleError: The bundle cannot be used.
    """
    found = find_image_pairs(cases)
    loaded = Bundle.load(bundle)
    engine = Delineator(loaded, device)
    pictures, rows = out / "pictures", out / "rows" / loaded.weights_digest[:_DIGITS]
    pictures.mkdir(parents=True, exist_ok=True)
    judged = []
    for number, files in enumerate(found):
        measure = partial(_judge_files, engine, files, labels, pictures)
        row = cached_measurement(rows / f"{files.name}.json", measure, JudgedCase.to_json, JudgedCase.from_json)
        _log.info("case %d of %d: %s", number + 1, len(found), described(row))
        judged.append(row)
    report = CaseReport(JudgedBundle(loaded.name, loaded.version, loaded.weights_digest), tuple(labels), tuple(judged))
    write_case_report(out, report)
    write_trust_figure(out, *report.trust_values)
    keep_pictures(pictures, [case.name for case in report.worst(max_pictures)])
    discard_measurements(rows)
    return report


def judge_pair(pair: ImagePair, found: Delineation) -> JudgedCase:
    """Hold one delineation of a case's CT against its mask: DSC of the masks, distances of the surfaces."""
    overlap = 2.0 * (found.mask & pair.mask).sum() / (found.mask.sum() + pair.mask.sum())
    surfaces = Truth(surface_of_mask(pair.mask, pair.volume.grid)).compare_mesh(found.mesh)
    agreement = Agreement(float(overlap), surfaces.assd_mm, surfaces.hd95_mm)
    return JudgedCase.measured(pair.name, pair.volume_ml, agreement, EngineStatement.of(found))


def described(case: JudgedCase) -> str:
    """One line for a log."""
    if case.dsc is None or case.statement is None:
        return f"{case.name}: {case.problem}"
    said = case.statement
    return f"{case.name}: DSC {case.dsc:.3f}, {said.verdict}, estimated {said.estimated_dsc:.3f}, {said.seconds:.0f} s"


def _judge_files(engine: Delineator, files: ImagePairFiles, labels: Sequence[int], pictures: Path) -> JudgedCase:
    try:
        pair = read_image_pair(files, labels)
    except DissmError as problem:
        return JudgedCase.unreadable(files.name, f"{problem.reason.code}: {problem}")
    try:
        found = engine.delineate(pair.volume)
    except DelineationError as problem:
        nothing = np.zeros_like(pair.mask)
        draw_result(pictures, pair.name, "nothing found", pair.volume, nothing, pair.mask)
        return JudgedCase.not_found(pair.name, pair.volume_ml, f"{problem.reason.code}: {problem}")
    judged = judge_pair(pair, found)
    draw_result(pictures, pair.name, described(judged), pair.volume, found.mask, pair.mask)
    return judged
