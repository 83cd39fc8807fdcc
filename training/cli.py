"""`dissm-train`: run a preset, evaluate a bundle."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from dissm_engine.errors import DissmError
from training.context import RunContext
from training.evaluate.stage import read_report, run_evaluate
from training.pipeline import STAGES
from training.pipeline import run as run_stages
from training.presets import Preset, PresetName

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make and judge DISSM model bundles.")
console = Console()


@app.command()
def run(
    surfaces: Annotated[Path, typer.Option(help="npz or folder of liver meshes, or folder of label maps")],
    preset: Annotated[str, typer.Option(help="smoke, small or paper")] = "small",
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/PRESET")] = None,
    seed: Annotated[int, typer.Option(help="of everything random")] = 2026,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    liver_label: Annotated[
        list[int] | None, typer.Option(help="liver's number in label maps; AMOS 6 (default), MSD Task03 1 and 2")
    ] = None,
    first: Annotated[str | None, typer.Option(help="start at this stage")] = None,
    last: Annotated[str | None, typer.Option(help="stop after this stage")] = None,
) -> None:
    """Train every stage of a preset. Goes on where it was stopped."""
    folder = out or Path("runs") / preset
    context = _context(folder, surfaces, preset, seed, threads, device, liver_label)
    folder.mkdir(parents=True, exist_ok=True)
    run_stages(context, first, last)
    if (folder / "evaluation.json").exists():
        _print_report(folder)


@app.command()
def evaluate(
    surfaces: Annotated[Path, typer.Option(help="where the livers kept out come from")],
    out: Annotated[Path, typer.Option(help="run folder with a bundle")] = Path("runs/small"),
    preset: Annotated[str, typer.Option()] = "small",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    liver_label: Annotated[list[int] | None, typer.Option(help="liver's number in label maps")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Judge a run's bundle on the frozen phantoms and the livers kept out."""
    run_evaluate(_context(out, surfaces, preset, 2026, threads, device, liver_label))
    if as_json:
        sys.stdout.write(json.dumps(read_report(out), indent=1) + "\n")
    else:
        _print_report(out)


@app.command()
def stages() -> None:
    """Name the stages in order."""
    for name in STAGES:
        console.print(name)


def _context(
    folder: Path,
    surfaces: Path,
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
    return RunContext(folder, surfaces, chosen, seed=seed, threads=threads, device=device)


def _preset_name(text: str) -> PresetName:
    names: dict[str, PresetName] = {"smoke": "smoke", "small": "small", "paper": "paper"}
    if text not in names:
        raise typer.BadParameter(f"{text} is not a preset; there are {', '.join(names)}")
    return names[text]


def _print_report(folder: Path) -> None:
    report = read_report(folder)
    title = f"{report['phantoms']} test phantoms, {report['frozen_phantoms']} of them the frozen ones: mean (worst)"
    console.print(_stages_table(title, report["summary"]))
    if len(report["summary_by_edition"]) > 1:
        for edition, summary in report["summary_by_edition"].items():
            console.print(_stages_table(f"those of them that were frozen with edition {edition}", summary))
    shapes = Table(title="shape model on the livers kept out, pose and code fitted to the true surface")
    shapes.add_column("code")
    shapes.add_column("ASSD mm, mean (worst)")
    for name, row in report["shape_model"].items():
        shapes.add_row(name, f"{row['mean_assd_mm']:.2f} ({row['worst_assd_mm']:.2f})")
    console.print(shapes)


def _stages_table(title: str, summary: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title=title)
    for heading in ("after", "DSC %", "ASSD mm", "HD95 mm"):
        table.add_column(heading)
    for stage, row in summary.items():
        table.add_row(
            stage, f"{100 * row['dsc']:.1f} ({100 * row['dsc_worst']:.1f})",
            f"{row['assd_mm']:.2f} ({row['assd_mm_worst']:.2f})", f"{row['hd95_mm']:.1f} ({row['hd95_mm_worst']:.1f})",
        )  # fmt: skip
    return table


def main() -> None:
    """Entry point. Prints one plain line for an error that has a reason."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    try:
        app()
    except DissmError as error:
        Console(stderr=True).print(f"[red]{error.reason.code}[/red] {error}", highlight=False)
        sys.exit(2)
