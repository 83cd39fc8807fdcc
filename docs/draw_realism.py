"""Phantoms beside real CTs: what is measured on both, and how both look. Writes realism.png, phantoms.png, a table.

python docs/draw_realism.py LIVERS.npz OUT_FOLDER FOLDER[:ACQUISITION] FOLDER[:ACQUISITION]

The real CTs have no masks. The bundle finds liver and muscle in them; aorta, spleen and kidney are balls that were
placed by eye in `hcc_048` and in the second phase of `hcc_002_two_phases`, which have to be given in this order.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from draw_sheet import sorted_files
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dicom_node.assemble.volume import read_volume
from dissm_engine.atomic_file import open_atomic
from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.refine.tissues import TissueClass
from dissm_engine.volume import Grid
from training.phantom.realism import (
    LAGS_MM,
    PROFILE_MM,
    SCALES_MM,
    RealismMeasurements,
    Specimen,
    measure,
    phantom_specimen,
)
from training.sources.source_at_path import open_source

PHANTOMS = {
    "amos_010": 9102,
    "amos_030": 9103,
    "amos_052": 9104,
    "amos_078": 9105,
    "amos_102": 9106,
    "amos_110": 9107,
}
"""Livers that are not held out, and seeds that are not those of the frozen phantoms."""
AORTA, SPLEEN, KIDNEY = TissueClass.AORTA, TissueClass.SPLEEN, TissueClass.KIDNEY
PLACED_LPS = {
    "real a": {AORTA: (19, 14, -237), SPLEEN: (99, 8, -255), KIDNEY: (57, 40, -269)},
    "real b": {AORTA: (-1, 8, -156), SPLEEN: (95, 48, -146), KIDNEY: (55, 30, -206)},
}
"""Middles of organs, mm. Within 14 mm of a place found by eye, the ball of least sd whose mean exceeds a floor that
kept it in the organ (100 HU; aorta 180 and 125 HU), then looked at again. Which part of a kidney it is, is chance."""
BALL_MM = 10.0
GRIDS = ("native", "2 mm")
REAL_COLOURS = ("#d62728", "#1f77b4")
PHANTOM_COLOUR = "0.55"
WINDOW = (-160.0, 240.0)
GREYS = 32
LEVELS = (0.25, 0.5, 0.75)

Real = Mapping[str, RealismMeasurements]
Number = Callable[[RealismMeasurements], float]


def main() -> None:
    """Read the arguments, delineate, draw phantoms, measure, draw figures."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("livers", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("real", nargs=2)
    given = arguments.parse_args()
    engine = Delineator(Bundle.load())
    real = [real_specimen(f"real {letter}", text, engine) for letter, text in zip("ab", given.real, strict=True)]
    livers = open_source(given.livers).load()
    phantoms = [phantom_specimen(name, livers[name], seed) for name, seed in PHANTOMS.items()]
    report(real, phantoms, given.out)


def real_specimen(name: str, text: str, engine: Delineator) -> Specimen:
    """A CT with what the engine finds in it. text: folder, then `:` and an AcquisitionNumber if only that is meant."""
    folder, _, acquisition = text.partition(":")
    volume = read_volume(sorted_files(Path(folder), int(acquisition) if acquisition else None)).volume
    found = engine.delineate(volume)
    tissue = engine.refine_from(volume, found.pose, found.loadings).refinement.tissue
    tissue = with_placed(tissue, found.field.grid, PLACED_LPS[name])
    return Specimen(name, volume, found.field, tissue, found.mesh)


def with_placed(tissue: np.ndarray, grid: Grid, middles: Mapping[TissueClass, tuple[int, int, int]]) -> np.ndarray:
    """Tissue classes [K, J, I] with balls in the place of everything the engine took for these organs."""
    points, placed = grid.points_lps(), tissue.copy()
    placed[np.isin(tissue, [int(kind) for kind in middles])] = TissueClass.OTHER
    for kind, middle in middles.items():
        placed[np.linalg.norm(points - middle, axis=-1) < BALL_MM] = kind
    return placed


def report(real: Sequence[Specimen], phantoms: Sequence[Specimen], out: Path) -> None:
    """Measure all, print the table, write both pictures."""
    of_real = {specimen.name: measure(specimen) for specimen in real}
    of_phantoms = [measure(specimen) for specimen in phantoms]
    print(table(of_real, of_phantoms))
    out.mkdir(parents=True, exist_ok=True)
    _save(likeness_figure(of_real, of_phantoms), out / "realism.png", 75)
    _save(views_figure([*phantoms[:3], *real]), out / "phantoms.png", 95, GREYS)


def numbers() -> dict[str, Number]:
    """Rows of the table."""
    axes, organs = "ijk", ("liver", "spleen", "aorta", "kidney", "muscle")
    return {
        **{f"noise sd, {g}, HU": partial(_noise, g) for g in GRIDS},
        **{f"neighbours' correlation along {axes[n]}, {g}": partial(_neighbour, g, n) for g in GRIDS for n in range(3)},
        **{f"sd in the liver smoothed by {mm:g} mm, HU": partial(_texture, n) for n, mm in enumerate(SCALES_MM)},
        **{f"{organ}, HU": partial(_organ, organ) for organ in organs},
        **{f"edge to {side}, {g}, mm": partial(_edge, g, side) for g in GRIDS for side in ("lung", "fat")},
    }


def _noise(grid: str, one: RealismMeasurements) -> float:
    return one.noise[grid].sd


def _neighbour(grid: str, axis: int, one: RealismMeasurements) -> float:
    return one.noise[grid].neighbours[axis]


def _texture(scale: int, one: RealismMeasurements) -> float:
    return one.texture_sd[scale]


def _organ(name: str, one: RealismMeasurements) -> float:
    return one.organ_hu[name]


def _edge(grid: str, side: str, one: RealismMeasurements) -> float:
    return one.edges[grid, side].width_mm


def _native_profile(side: str, one: RealismMeasurements) -> np.ndarray:
    return one.edges["native", side].profile


def table(real: Real, phantoms: Sequence[RealismMeasurements]) -> str:
    """Markdown: a row per number, the real CTs, the phantoms' least, median and most."""
    lines = [f"| | {' | '.join(real)} | phantoms: least, median, most | |", "|---|" + "---|" * (len(real) + 2)]
    for row, number in numbers().items():
        values = np.array([number(one) for one in phantoms])
        values = values[np.isfinite(values)]
        low, middle, high = (values.min(), np.median(values), values.max()) if len(values) else [np.nan] * 3
        digits = 2 if "correlation" in row else 1
        theirs = [number(one) for one in real.values()]
        beyond = "" if all(low <= value <= high or np.isnan(value) for value in theirs) else "outside"
        cells = [f"{value:.{digits}f}" for value in theirs]
        cells.append(", ".join(f"{value:.{digits}f}" for value in (low, middle, high)))
        lines.append(f"| {row} | {' | '.join(cells)} | {beyond} |")
    return "\n".join(lines)


def likeness_figure(real: Real, phantoms: Sequence[RealismMeasurements]) -> Figure:
    """Eight panels: noise, its correlation, texture, HU, edges; real CTs over the range of the phantoms."""
    figure = Figure(figsize=(17, 8.2))
    panels = figure.subplots(2, 4)
    rows = numbers()

    def strip(axes: Axes, title: str, unit: str, chosen: Mapping[str, str]) -> None:
        _strip(axes, {label: rows[row] for label, row in chosen.items()}, real, phantoms)
        axes.set(title=title, ylabel=unit)

    strip(panels[0, 0], "noise in the liver", "HU (sd)", {g: f"noise sd, {g}, HU" for g in GRIDS})
    panels[0, 0].set_ylim(bottom=0)
    _curves(panels[0, 1], LAGS_MM, lambda one: one.noise["native"].in_plane, real, phantoms)
    panels[0, 1].set(title="noise correlation in the slice, native", xlabel="distance, mm", ylabel="correlation")
    along = {f"{axis}\n{g}": f"neighbours' correlation along {axis}, {g}" for g in GRIDS for axis in "ijk"}
    strip(panels[0, 2], "correlation of adjacent voxels", "correlation", along)
    _curves(panels[0, 3], np.array(SCALES_MM), lambda one: np.array(one.texture_sd), real, phantoms)
    panels[0, 3].set(title="texture: what smoothing leaves", xlabel="sd of the filter, mm", ylabel="HU (sd)")
    panels[0, 3].set_ylim(bottom=0)
    organs = {organ: f"{organ}, HU" for organ in ("liver", "spleen", "aorta", "kidney", "muscle")}
    strip(panels[1, 0], "organs", "HU (median)", organs)
    for axes, side in ((panels[1, 1], "lung"), (panels[1, 2], "fat")):
        _curves(axes, PROFILE_MM, partial(_native_profile, side), real, phantoms)
        axes.set(title=f"edge liver to {side}, native", xlabel="outwards, mm", ylabel="share of the step", xlim=(-8, 8))
    widths = {f"{side}\n{g}": f"edge to {side}, {g}, mm" for g in GRIDS for side in ("lung", "fat")}
    strip(panels[1, 3], "10-90 % width of the edge", "mm", widths)
    panels[1, 3].set_ylim(bottom=0)
    handles, labels = panels[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return figure


def _strip(axes: Axes, chosen: Mapping[str, Number], real: Real, phantoms: Sequence[RealismMeasurements]) -> None:
    for x, number in enumerate(chosen.values()):
        values = [number(one) for one in phantoms]
        axes.plot([x, x], [np.nanmin(values), np.nanmax(values)], color=PHANTOM_COLOUR, linewidth=9, alpha=0.35)
        axes.plot([x] * len(values), values, "_", color="0.3", markersize=9)
        for side, colour, one in zip((-0.2, 0.2), REAL_COLOURS, real.values(), strict=True):
            axes.plot(x + side, number(one), "D", color=colour, markersize=6)
    axes.set_xticks(range(len(chosen)), list(chosen), fontsize=8)
    axes.set_xlim(-0.6, len(chosen) - 0.4)
    axes.grid(axis="y", alpha=0.3)


def _curves(
    axes: Axes,
    x: np.ndarray,
    curve: Callable[[RealismMeasurements], np.ndarray],
    real: Real,
    phantoms: Sequence[RealismMeasurements],
) -> None:
    lines = np.array([curve(one) for one in phantoms])
    lines = lines[np.isfinite(lines).all(axis=1)]
    if len(lines):
        axes.fill_between(x, lines.min(axis=0), lines.max(axis=0), color=PHANTOM_COLOUR, alpha=0.35, linewidth=0)
        axes.plot(x, lines.T, color="0.3", linewidth=0.6)
    axes.fill_between([], [], color=PHANTOM_COLOUR, alpha=0.35, label=f"{len(phantoms)} phantoms (range, each)")
    for colour, (name, one) in zip(REAL_COLOURS, real.items(), strict=True):
        axes.plot(x, curve(one), "o-" if len(x) < 20 else "-", color=colour, markersize=4, label=name)
    axes.grid(alpha=0.3)


def views_figure(specimens: Sequence[Specimen]) -> Figure:
    """A row per specimen: three axial levels of the liver from dome to tip, then a coronal cut."""
    figure = Figure(figsize=(10.4, 2.05 * len(specimens)))
    rows = figure.subplots(len(specimens), len(LEVELS) + 1)
    for row, specimen in zip(rows, specimens, strict=True):
        for axes, (cut, aspect) in zip(row, _cuts(specimen), strict=True):
            axes.imshow(cut, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=aspect)
            axes.set_axis_off()
        row[0].text(0.02, 0.95, specimen.name, color="white", fontsize=8, va="top", transform=row[0].transAxes)
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    return figure


def _cuts(specimen: Specimen) -> list[tuple[np.ndarray, float]]:
    hu, grid = specimen.volume.hu, specimen.volume.grid
    ijk = grid.to_voxel(specimen.surface.vertices)
    low, high = ijk.min(axis=0), ijk.max(axis=0)
    body = np.argwhere(hu[int(ijk[:, 2].mean())] > -300)
    first, last = body.min(axis=0), body.max(axis=0) + 1
    rows, columns = slice(first[0], last[0]), slice(first[1], last[1])
    up = slice(None, None, -1 if grid.lps_from_voxel[2, 2] > 0 else 1)
    ks = [round(high[2] + (low[2] - high[2]) * level) for level in LEVELS]
    j = int(ijk[:, 1].mean())
    axial = [(hu[k, rows, columns], float(grid.spacing[1] / grid.spacing[0])) for k in ks]
    return [*axial, (hu[up, j, columns], float(grid.spacing[2] / grid.spacing[0]))]


def _save(figure: Figure, path: Path, dpi: int, greys: int | None = None) -> None:
    """Write a PNG. greys: shades kept (noise makes large files)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, facecolor="black" if greys else "white")
    image: Any = Image.open(buffer).convert("L").quantize(greys) if greys else Image.open(buffer).quantize(64)
    with open_atomic(path) as stream:
        image.save(stream, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
