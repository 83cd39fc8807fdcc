"""Judge a bundle on CTs with manual masks, one case at a time in memory."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from dissm_engine.bundle import Bundle
from dissm_engine.delineation import Delineation
from dissm_engine.delineator import Delineator
from dissm_engine.errors import DelineationError, DissmError
from dissm_engine.volume import Volume
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


Delineate = Callable[[Volume], Delineation]
"""`Delineator.delineate`, or something that takes its place."""


def judge_bundle_on_cases(
    bundle: Path | None, cases: Path, out: Path, labels: Sequence[int] = (), max_pictures: int = 5, device: str = "cpu"
) -> CaseReport:
    """Judge a bundle as `judge_cases` says.

    Args:
        bundle: Folder or zip; None is the shipped one.
        cases: As in `judge_cases`.
        out: As in `judge_cases`.
        labels: As in `judge_cases`.
        max_pictures: As in `judge_cases`.
        device: Where the refinement runs.

    Raises:
        ImagePairError: There is no case.
        BundleError: The bundle cannot be used.
    """
    loaded = Bundle.load(bundle)
    judged = JudgedBundle(loaded.name, loaded.version, loaded.weights_digest)
    return judge_cases(Delineator(loaded, device).delineate, judged, cases, out, labels, max_pictures)


def judge_cases(
    delineate: Delineate,
    bundle: JudgedBundle,
    cases: Path,
    out: Path,
    labels: Sequence[int] = (),
    max_pictures: int = 5,
) -> CaseReport:
    """Delineate every case of a folder and hold the result against its mask, one case at a time in memory.

    Writes `cases.json`, `cases.csv`, `trust.png` and `pictures/` of the worst cases. A case that cannot be read, or in
    which nothing is found, is a row with its reason. Rows are kept as they are measured, so that a killed run goes on.

    Args:
        delineate: What is judged.
        bundle: Which bundle it delineates with.
        cases: Folder with `images/` and `labels/`, see `find_image_pairs`.
        out: Where the answer goes; made if it is not there.
        labels: The numbers that make up the organ; none: every number above 0.
        max_pictures: Of how many of the worst cases pictures are kept.

    Raises:
        ImagePairError: There is no case.
    """
    found = find_image_pairs(cases)
    pictures, rows = out / "pictures", out / "rows" / _key(bundle, cases, labels)
    pictures.mkdir(parents=True, exist_ok=True)
    judged = []
    for number, files in enumerate(found):
        measure = partial(_judge_files, delineate, files, labels, pictures)
        row = cached_measurement(rows / f"{files.name}.json", measure, JudgedCase.to_json, JudgedCase.from_json)
        _log.info("case %d of %d: %s", number + 1, len(found), described(row))
        judged.append(row)
    report = CaseReport(bundle, tuple(labels), tuple(judged))
    write_case_report(out, report)
    write_trust_figure(out, *report.trust_values)
    keep_pictures(pictures, [case.name for case in report.worst(max_pictures)])
    discard_measurements(out / "rows")
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


def _key(bundle: JudgedBundle, cases: Path, labels: Sequence[int]) -> str:
    """Rows of another bundle, folder or label must not serve a run that goes on."""
    return f"{bundle.weights[:_DIGITS]}_{zlib.crc32(f'{cases.resolve()} {sorted(labels)}'.encode()):08x}"


def _judge_files(delineate: Delineate, files: ImagePairFiles, labels: Sequence[int], pictures: Path) -> JudgedCase:
    try:
        pair = read_image_pair(files, labels)
    except DissmError as problem:
        return JudgedCase.unreadable(files.name, f"{problem.reason.code}: {problem}")
    try:
        found = delineate(pair.volume)
    except DelineationError as problem:
        nothing = np.zeros_like(pair.mask)
        draw_result(pictures, pair.name, "nothing found", pair.volume, nothing, pair.mask)
        return JudgedCase.not_found(pair.name, pair.volume_ml, f"{problem.reason.code}: {problem}")
    judged = judge_pair(pair, found)
    draw_result(pictures, pair.name, described(judged), pair.volume, found.mask, pair.mask)
    return judged
