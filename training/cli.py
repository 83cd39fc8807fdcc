"""`dissm-train`: run a preset, evaluate a bundle."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.logging import RichHandler

from dissm_engine.errors import DissmError, Reason
from training.bundle_start import BundleStart
from training.context import RunContext
from training.evaluate.case_evaluation import judge_bundle_on_cases
from training.evaluate.case_report import CASES_FILE, CaseReport
from training.evaluate.evaluation_report import REPORT_FILE, EvaluationReport, read_report
from training.evaluate.evaluation_stage import judge_bundle
from training.evaluate.report_tables import case_tables, tables
from training.pipeline import STAGES
from training.pipeline import run as run_stages
from training.presets import Preset, PresetName
from training.refine.sweep_command import sweep
from training.sources.surfaces import SourceError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make and judge DISSM model bundles.")
console = Console()
SURFACES_MISSING = Reason(
    "SURFACES_MISSING",
    "no liver surfaces were named, and {path} is not there",
    "give --surfaces, or set DISSM_TEST_DATA to the folder that holds the published ones",
)
_PUBLISHED = "amos_livers_watertight_lps.npz"
_SURFACES_HELP = (
    "npz or folder of liver meshes, or folder of label maps; default the published surfaces in $DISSM_TEST_DATA or in "
    "shared/data beside the checkout"
)


@app.command()
def run(
    preset: Annotated[str, typer.Option(help="smoke, small or paper")] = "small",
    surfaces: Annotated[Path | None, typer.Option(help=_SURFACES_HELP)] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/PRESET")] = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 2026,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    liver_label: Annotated[
        list[int] | None, typer.Option(help="liver's number in label maps; AMOS 6 (default), MSD Task03 1 and 2")
    ] = None,
    first: Annotated[str | None, typer.Option(help="start at this stage")] = None,
    last: Annotated[str | None, typer.Option(help="stop after this stage")] = None,
    max_minutes: Annotated[
        float | None, typer.Option(help="end at the next checkpoint after this time; the same command goes on from it")
    ] = None,
    *,
    from_bundle: Annotated[
        str | None, typer.Option(help="begin with the trained parts of this bundle: a folder, a zip, or 'shipped'")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="parts of that bundle that are not trained: some of shape,pose,refine")
    ] = "",
    decay_now: Annotated[
        bool,
        typer.Option("--decay-now", help="let the refinement's learning rate fall from its last checkpoint on"),
    ] = False,
    validation: Annotated[
        Path | None, typer.Option(help="folder of bodies that no training sees; default OUT/validation_anatomies")
    ] = None,
    painters: Annotated[int, typer.Option(min=0, help="processes that paint the refinement's samples beside it")] = 0,
) -> None:
    """Train every stage of a preset. Goes on where it was stopped."""
    folder = out or Path("runs") / preset
    context = _context(folder, surfaces, preset, seed, threads, device, liver_label)
    if keep and from_bundle is None:
        raise typer.BadParameter("--keep says what is kept of a bundle; name it with --from-bundle")
    start = None if from_bundle is None else BundleStart.read(from_bundle, keep.split(","))
    context = replace(context, start=start, decay_now=decay_now, validation=validation, painters=painters)
    if max_minutes is not None:
        end = time.monotonic() + 60 * max_minutes
        context = replace(context, stop=lambda: time.monotonic() > end)
    folder.mkdir(parents=True, exist_ok=True)
    run_stages(context, first, last)
    if (folder / REPORT_FILE).exists():
        _print_report(folder)


@app.command()
def evaluate(
    *,
    surfaces: Annotated[Path | None, typer.Option(help=_SURFACES_HELP)] = None,
    bundle: Annotated[Path | None, typer.Option(help="folder or zip; default that of --out, else the shipped")] = None,
    cases: Annotated[
        Path | None, typer.Option(help="judge on the CTs in images/ and masks in labels/ of this folder, no phantoms")
    ] = None,
    label: Annotated[
        list[int] | None, typer.Option(help="the organ's number in the masks of --cases; default all above 0")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="run folder, where evaluation.json goes; with --cases cases.json, in cases/")
    ] = Path("runs/small"),
    preset: Annotated[str, typer.Option()] = "small",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    liver_label: Annotated[list[int] | None, typer.Option(help="liver's number in label maps")] = None,
    max_pictures: Annotated[int, typer.Option(min=0, help="pictures of so many of the worst results")] = 10,
    final: Annotated[
        bool, typer.Option("--final", help="with the test phantoms that are looked at only when an edition is finished")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Judge a bundle on CTs with masks, or on the frozen phantoms and the livers kept out; goes on where it stopped."""
    own = out / "bundle"
    judged = bundle or (own if own.exists() else None)
    answer = out / "cases" / CASES_FILE if cases else out / REPORT_FILE
    Console(stderr=as_json).print(
        f"judging {judged or 'the shipped bundle'}; the answer goes to {answer}", highlight=False
    )
    out.mkdir(parents=True, exist_ok=True)
    report: CaseReport | EvaluationReport
    if cases:
        torch.set_num_threads(threads)
        report = judge_bundle_on_cases(judged, cases, out / "cases", label or (), max_pictures, device)
    else:
        judge_bundle(_context(out, surfaces, preset, 2026, threads, device, liver_label), judged, final, max_pictures)
        report = read_report(out)
    if as_json:
        sys.stdout.write(json.dumps(report.to_json(), indent=1) + "\n")
        return
    for table in case_tables(report) if isinstance(report, CaseReport) else tables(report):
        console.print(table)


app.command()(sweep)


@app.command()
def stages() -> None:
    """Name the stages in order."""
    for name in STAGES:
        console.print(name)


def _context(
    folder: Path,
    surfaces: Path | None,
    preset: str,
    seed: int,
    threads: int,
    device: str,
    liver_label: list[int] | None = None,
) -> RunContext:
    chosen = Preset.named(_preset_name(preset))
    if liver_label:
        shape = chosen.shape.model_copy(update={"liver_labels": tuple(liver_label)})
        chosen = chosen.model_copy(update={"shape": shape})
    return RunContext(folder, surfaces or published_surfaces(), chosen, seed=seed, threads=threads, device=device)


def published_surfaces() -> Path:
    """The AMOS livers in $DISSM_TEST_DATA, or else in `shared/data` beside the checkout.

    Raises SourceError(SURFACES_MISSING).
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("DISSM_TEST_DATA", beside)) / _PUBLISHED
    if not path.exists():
        raise SourceError(SURFACES_MISSING, path=path)
    return path


def _preset_name(text: str) -> PresetName:
    names: dict[str, PresetName] = {"smoke": "smoke", "small": "small", "paper": "paper"}
    if text not in names:
        raise typer.BadParameter(f"{text} is not a preset; there are {', '.join(names)}")
    return names[text]


def _print_report(folder: Path) -> None:
    for table in tables(read_report(folder)):
        console.print(table)


def _log_handler() -> RichHandler:
    """Progress goes to the standard error, so that --json leaves nothing but JSON on the standard output."""
    return RichHandler(console=Console(stderr=True), show_path=False)


def main() -> None:
    """Entry point. Prints one plain line for an error that has a reason."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_log_handler()])
    try:
        app()
    except DissmError as error:
        Console(stderr=True).print(f"[red]{error.reason.code}[/red] {error}", highlight=False)
        sys.exit(2)
