"""`dissm-train sweep`: which settings of the refinement learn most in the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from dissm_engine.atomic_file import write_text
from training.bundle_start import BundleStart
from training.context import LoggedProgress
from training.presets import Preset, PresetName
from training.refine.crops import load_crops
from training.refine.settings_sweep import sweep as run_sweep
from training.refine.settings_sweep import sweep_table, variants
from training.refine.validation import ValidationPatches


def sweep(
    anatomies: Annotated[Path, typer.Option(help="folder of bodies to learn from")],
    validation: Annotated[Path, typer.Option(help="folder of other bodies to be measured on")],
    vary: Annotated[list[str], typer.Option(help="setting=value,value of the refinement; may be given again")],
    out: Annotated[Path, typer.Option(help="folder of the results; a sweep that was killed goes on")] = Path("sweep"),
    preset: Annotated[PresetName, typer.Option()] = "small",
    minutes: Annotated[float, typer.Option(help="of processor time for each value")] = 2.0,
    patches: Annotated[int, typer.Option(min=1, help="on which each value is measured")] = 24,
    seed: Annotated[int, typer.Option(help="of everything random")] = 2026,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    from_bundle: Annotated[str | None, typer.Option(help="begin with this bundle's weights, or 'shipped'")] = None,
) -> None:
    """Compare settings of the refinement at the same processor time."""
    torch.set_num_threads(threads)
    base = Preset.named(preset).refine
    held = ValidationPatches.draw(load_crops(sorted(validation.glob("*.npz")), base.tile), base, patches)
    start = None
    if from_bundle is not None:
        start = BundleStart.read(from_bundle).bundle.model.refiner.state_tensors()
    files = sorted(anatomies.glob("*.npz"))
    out.mkdir(parents=True, exist_ok=True)
    rows = run_sweep(variants(base, vary), files, held, 60 * minutes, out, seed, LoggedProgress(30), start)
    write_text(out / "sweep.md", sweep_table(rows))
    Console().print(sweep_table(rows), highlight=False, markup=False)
