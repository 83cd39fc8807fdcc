"""Pictures of a result beside the truth: axial, coronal and sagittal slices with both outlines."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dissm_engine.volume import Volume

FOUND_COLOUR = "#ff3030"
TRUE_COLOUR = "#30e060"
_COLUMNS = 5
_MARGIN_MM = 25.0
_WINDOW_HU = (-110, 240)
_PLANES = ("axial", "coronal", "sagittal")

Mask = npt.NDArray[np.bool_]


def draw_result(
    folder: Path, name: str, title: str, volume: Volume, found: Mask, true: Mask, max_columns: int = _COLUMNS
) -> None:
    """Write `NAME.png`: one row of slices for each plane, the slice with the largest error among them.

    Args:
        folder: Where it goes.
        name: Of the case.
        title: Stands above the slices.
        volume: The CT; array axes along S, P and L or nearly so.
        found: bool [K, J, I], outlined in red.
        true: bool [K, J, I], outlined in green; it has an inside.
        max_columns: Slices a row.
    """
    box = _box(found | true, volume.grid.spacing[::-1])
    hu, found, true = volume.hu[box], found[box], true[box]
    spacing = volume.grid.spacing[::-1]
    figure = Figure(figsize=(3.2 * max_columns, 8.5))
    for axis, plane in enumerate(_PLANES):
        for column, number in enumerate(_slices(found, true, axis, max_columns)):
            axes = figure.add_subplot(len(_PLANES), max_columns, axis * max_columns + column + 1)
            _draw_slice(axes, *(np.take(each, number, axis) for each in (hu, found, true)))
            rows, columns = (spacing[each] for each in range(3) if each != axis)
            axes.set_aspect(rows / columns)
            if axis > 0:
                # The head is up.
                axes.invert_yaxis()
            axes.set_title(f"{plane} {number + box[axis].start}", fontsize=7, pad=1)
    figure.suptitle(f"{title}\nfound: red; true: green", fontsize=9)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.91, 0.02, 0.06)
    figure.savefig(folder / f"{name}.png", dpi=75)


def keep_pictures(folder: Path, names: Collection[str]) -> None:
    """Remove the pictures of all cases but the named ones."""
    kept = set(names)
    for picture in folder.glob("*.png"):
        if picture.stem not in kept:
            picture.unlink()


def _box(inside: Mask, spacing_kji: npt.NDArray[np.float64]) -> tuple[slice, slice, slice]:
    bounds = []
    for axis in range(3):
        across = tuple(other for other in range(3) if other != axis)
        where = np.flatnonzero(inside.any(axis=across))
        margin = round(_MARGIN_MM / float(spacing_kji[axis]))
        bounds.append(slice(max(0, int(where[0]) - margin), int(where[-1]) + margin + 1))
    return (bounds[0], bounds[1], bounds[2])


def _slices(found: Mask, true: Mask, axis: int, count: int) -> list[int]:
    """Slices spread over the organ; the one with most wrong voxels takes the place of its nearest neighbour."""
    across = tuple(other for other in range(3) if other != axis)
    where = np.flatnonzero((found | true).any(axis=across))
    chosen = [int(n) for n in np.linspace(where[0], where[-1], count + 2)[1:-1]]
    worst = int((found ^ true).sum(axis=across).argmax())
    nearest = min(range(len(chosen)), key=lambda each: abs(chosen[each] - worst))
    return [worst if each == nearest else number for each, number in enumerate(chosen)]


def _draw_slice(axes: Axes, hu: npt.NDArray[np.generic], found: Mask, true: Mask) -> None:
    axes.imshow(hu, cmap="gray", vmin=_WINDOW_HU[0], vmax=_WINDOW_HU[1])
    for mask, colour in ((true, TRUE_COLOUR), (found, FOUND_COLOUR)):
        if mask.any() and min(mask.shape) > 1:
            axes.contour(mask, [0.5], colors=colour, linewidths=0.8)
    axes.set_axis_off()
