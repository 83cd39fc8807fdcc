"""One picture of a result: three slices with their contours, and the rendered surface, everything in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from dissm_engine.atomic_file import open_atomic
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import AIR_HU, Grid, Volume, sample_at_lps

WINDOW_CENTER, WINDOW_WIDTH = 40, 400
_PIXEL_MM = 0.8
_LEVEL_STEP_MM = 5.0
_BODY_HU = -400
_MARGIN_MM = 12.0
_NEIGHBOURHOOD_MM = 70.0
_SURFACE_COLOUR, _SEG_COLOUR = "#ffb000", "#00d0e0"
_LIVER_RGB = np.array([0.76, 0.36, 0.28])
_BACKGROUND = "#101216"
_VIEW_DEGREES = 25.0
_LAMP = np.array([-0.45, -0.75, 0.5])
_EDGE_ON = 0.15
"""Triangles that look away by more than this are hidden."""
_FINE_TRIANGLES = 20_000
_PIXELS_PER_INCH = 110


@dataclass(frozen=True, slots=True)
class ViewPlane:
    """A plane through the patient. across, down: LPS axis and sign that run right and down in the picture."""

    name: str
    normal: int
    across: tuple[int, int]
    down: tuple[int, int]
    letters: tuple[str, str, str, str]
    """What stands at the left, right, top and bottom."""


VIEWS = (
    ViewPlane("axial", 2, (0, 1), (1, 1), ("R", "L", "A", "P")),
    ViewPlane("coronal", 1, (0, 1), (2, -1), ("R", "L", "H", "F")),
    ViewPlane("sagittal", 0, (1, 1), (2, -1), ("A", "P", "H", "F")),
)
_Box = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def draw_overview(
    volume: Volume, mask: npt.NDArray[np.bool_], mesh: TriangleMesh, title: str, lines: Sequence[str], file: Path
) -> None:
    """Draw the picture into a PNG file, aside and then renamed.

    mask: bool [K, J, I] on the volume's grid, not empty. mesh: LPS mm. title, lines: no patient's name belongs here.
    """
    figure = Figure(figsize=(13, 11.4), dpi=_PIXELS_PER_INCH, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    places = figure.subplots(2, 2)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.055, top=0.9, wspace=0.02, hspace=0.05)
    box = _body_box(volume, mesh)
    for place, view in zip((places[0, 0], places[0, 1], places[1, 0]), VIEWS, strict=True):
        _draw_slice(place, view, volume, mask, mesh, box)
    _draw_surface(places[1, 1], mesh)
    figure.text(0.015, 0.972, title, color="white", fontsize=17, fontweight="bold", va="center")
    figure.text(0.015, 0.937, "   ".join(lines), color="#c8ccd2", fontsize=11, va="center")
    _draw_legend(figure)
    with open_atomic(file) as stream:
        figure.savefig(stream, format="png", facecolor=_BACKGROUND)


def _body_box(volume: Volume, mesh: TriangleMesh) -> _Box:
    """LPS bounds [3] of the body around the organ, mm."""
    coarse = volume.hu[::2, ::4, ::4] > _BODY_HU
    # Lines with little body in them hold the couch or a sheet, not the patient.
    inside = np.argwhere(coarse)[:, ::-1] * np.array([4, 4, 2])
    points = volume.grid.to_lps(inside)
    low, high = np.percentile(points, 0.3, axis=0), np.percentile(points, 99.7, axis=0)
    organ_low, organ_high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    low, high = np.minimum(low, organ_low), np.maximum(high, organ_high)
    # A scan from neck to knee would leave the organ a small spot.
    low[2], high[2] = max(low[2], organ_low[2] - _NEIGHBOURHOOD_MM), min(high[2], organ_high[2] + _NEIGHBOURHOOD_MM)
    return low - _MARGIN_MM, high + _MARGIN_MM


def _draw_slice(
    place: Axes, view: ViewPlane, volume: Volume, mask: npt.NDArray[np.bool_], mesh: TriangleMesh, box: _Box
) -> None:
    level = _level_of_largest_cut(mask, volume.grid, view.normal)
    points, extent = _plane(view, level, box)
    hounsfield = np.asarray(volume.hu, dtype=np.float32)
    hu = sample_at_lps(hounsfield, volume.grid, points, outside=AIR_HU)
    seg = sample_at_lps(mask.astype(np.float32), volume.grid, points, outside=0.0)
    low = WINDOW_CENTER - WINDOW_WIDTH / 2
    place.imshow(hu, cmap="gray", vmin=low, vmax=low + WINDOW_WIDTH, extent=extent, interpolation="bilinear")
    shade = np.zeros((*seg.shape, 4))
    shade[..., :3] = (0.0, 0.82, 0.88)
    shade[..., 3] = 0.16 * (seg > 0.5)
    place.imshow(shade, extent=extent, interpolation="nearest")
    across = np.linspace(extent[0], extent[1], seg.shape[1])
    down = np.linspace(extent[3], extent[2], seg.shape[0])
    place.contour(across, down, seg, levels=[0.5], colors=_SEG_COLOUR, linewidths=0.9)
    for line in _section(mesh, view, level):
        place.plot(line[:, 0], line[:, 1], color=_SURFACE_COLOUR, linewidth=1.3)
    _finish(place, extent, f"{view.name}, {'xyz'[view.normal]} = {level:.0f} mm", view.letters)


def _level_of_largest_cut(mask: npt.NDArray[np.bool_], grid: Grid, axis: int) -> float:
    """Where a plane across an LPS axis cuts the largest area out of the mask, mm."""
    along = grid.to_lps(np.argwhere(mask)[:, ::-1])[:, axis]
    counts, edges = np.histogram(along, bins=max(1, int(np.ptp(along) / _LEVEL_STEP_MM)))
    fullest = int(np.argmax(counts))
    return float((edges[fullest] + edges[fullest + 1]) / 2)


def _plane(
    view: ViewPlane, level: float, box: _Box
) -> tuple[npt.NDArray[np.float64], tuple[float, float, float, float]]:
    """LPS points [H, W, 3] of the picture's pixels, and its extent (left, right, bottom, top) in mm."""
    (across, _), (down, sign) = view.across, view.down
    x = np.arange(box[0][across], box[1][across], _PIXEL_MM)
    y = np.arange(box[0][down], box[1][down], _PIXEL_MM)[::sign]
    points = np.empty((len(y), len(x), 3))
    points[..., view.normal] = level
    points[..., across] = x[None, :]
    points[..., down] = y[:, None]
    half = _PIXEL_MM / 2
    return points, (x[0] - half, x[-1] + half, y[-1] + sign * half, y[0] - sign * half)


def _section(mesh: TriangleMesh, view: ViewPlane, level: float) -> list[npt.NDArray[np.float64]]:
    """Closed lines [N, 2] (across, down) of the mesh in a plane."""
    normal = np.eye(3)[view.normal]
    cut = mesh.trimesh.section(plane_origin=normal * level, plane_normal=normal)
    lines = [] if cut is None else list(cut.discrete)
    return [np.asarray(line)[:, [view.across[0], view.down[0]]] for line in lines]


def _draw_surface(place: Axes, mesh: TriangleMesh) -> None:
    """Seen from the front, a little from the patient's right: triangles from far to near, lit by one lamp."""
    angle = np.radians(_VIEW_DEGREES)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    seen = (mesh.vertices - mesh.vertices.mean(axis=0)) @ turn.T
    corners, normals = _finer(seen[mesh.faces], (mesh.normals @ turn.T)[mesh.faces])
    facing = normals.mean(axis=1)
    order = np.argsort(-corners[..., 1].mean(axis=1))
    order = order[facing[order, 1] < _EDGE_ON]
    lit = np.clip(facing[order] @ _LAMP / np.linalg.norm(_LAMP), 0, 1)
    colour = np.clip(_LIVER_RGB * (0.28 + 0.72 * lit[:, None]) + 0.2 * lit[:, None] ** 24, 0, 1)
    shapes = corners[order][..., [0, 2]]
    place.add_collection(PolyCollection(list(shapes), facecolors=colour, edgecolors=colour, linewidths=0.3))
    low, high = seen[:, [0, 2]].min(axis=0) - _MARGIN_MM, seen[:, [0, 2]].max(axis=0) + _MARGIN_MM
    place.set_facecolor(_BACKGROUND)
    _finish(place, (low[0], high[0], low[1], high[1]), "surface from the front", ("R", "L", "H", "F"))


def _finer(
    corners: npt.NDArray[np.float64], normals: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Each triangle [F, 3, 3] into four until they are too small to be seen one by one; normals as between corners."""
    while len(corners) < _FINE_TRIANGLES:
        corners, normals = _quartered(corners), _quartered(normals)
    return corners, normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def _quartered(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    return np.concatenate([np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])


def _finish(place: Axes, extent: tuple[float, float, float, float], title: str, letters: Sequence[str]) -> None:
    """One scale for both directions, a bar of 50 mm, the patient's sides."""
    left, right, bottom, top = extent
    place.set_xlim(left, right)
    place.set_ylim(bottom, top)
    place.set_aspect("equal", adjustable="box")
    place.set_xticks([])
    place.set_yticks([])
    for edge in place.spines.values():
        edge.set_visible(False)
    place.set_title(title, color="white", fontsize=11, loc="left", pad=4)
    for letter, (x, y) in zip(letters, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.97), (0.5, 0.03)), strict=True):
        place.text(x, y, letter, transform=place.transAxes, color="white", fontsize=11, ha="center", va="center")
    x = left + 0.06 * (right - left)
    y = bottom + 0.05 * (top - bottom)
    place.plot([x, x + 50], [y, y], color="white", linewidth=2.5, solid_capstyle="butt")
    place.text(x + 25, y + 0.015 * (top - bottom), "50 mm", color="white", fontsize=9, ha="center", va="bottom")


def _draw_legend(figure: Figure) -> None:
    note = (
        f"window {WINDOW_CENTER}/{WINDOW_WIDTH} HU, read back from the archive. AI result, not for primary diagnosis."
    )
    figure.text(0.015, 0.022, "SEG", color=_SEG_COLOUR, fontsize=12, fontweight="bold", va="center")
    figure.text(
        0.055, 0.022, "Surface Segmentation", color=_SURFACE_COLOUR, fontsize=12, fontweight="bold", va="center"
    )
    figure.text(0.985, 0.022, note, color="#8b919a", fontsize=10, va="center", ha="right")
