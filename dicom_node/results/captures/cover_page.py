"""The first page: a coronal and a sagittal slice, the surface, the numbers, and what a person should look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from dicom_node.results.captures.canvas import (
    CONTOUR_RGB,
    FAINT_RGB,
    NOT_FOR_DIAGNOSIS,
    TEXT_RGB,
    WARNING_RGB,
    Rgb,
    blank_page,
    font,
    grey_of,
    with_contour,
    wrapped,
    write_line,
)
from dicom_node.results.captures.surface_picture import draw_surface
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import AIR_HU, Volume

PAGE = (1024, 1024)
"""Rows and columns."""
PANEL = (448, 512)
CORONAL, SAGITTAL, SURFACE, TEXT = (80, 0), (80, 512), (528, 0), (528, 512)
"""Row and column at which each panel begins. The proof finds the slices by them."""
_ROOM_AROUND = 1.45
"""The panels show so much more than the liver's largest extent."""
_MIN_MM_PER_PIXEL = 0.2


@dataclass(frozen=True, slots=True)
class CoverTexts:
    """What the cover says, without the patient's name.

    Attributes:
        title: The result in a few words.
        verdict: How far to trust it, in words.
        numbers: One line each.
        findings: What a person should look at, one sentence each; empty where nothing is remarkable.
        made_by: Program and model.
        warn: Whether verdict and findings are warnings.
    """

    title: str
    verdict: str
    numbers: Sequence[str]
    findings: Sequence[str]
    made_by: str
    warn: bool


@dataclass(frozen=True, slots=True)
class CoverView:
    """What the panels show.

    Attributes:
        center_lps: The middle of every panel, LPS mm: the mask's centroid, through which both slices go.
        mm_per_pixel: Of every panel.
    """

    center_lps: npt.NDArray[np.float64]
    mm_per_pixel: float


def mm_per_pixel(points_lps: npt.NDArray[np.float64], center_lps: npt.NDArray[np.float64]) -> float:
    """The scale of the panels around the center: all points, [N, 3] LPS mm, and their surroundings fit."""
    reach = np.maximum(points_lps.max(axis=0) - center_lps, center_lps - points_lps.min(axis=0)) * 2
    needed = max(reach[0] / PANEL[1], reach[1] / PANEL[1], reach[2] / PANEL[0])
    return round(max(float(needed) * _ROOM_AROUND, _MIN_MM_PER_PIXEL), 4)


def draw_cover(
    volume: Volume, mask: npt.NDArray[np.bool_], mesh: TriangleMesh, view: CoverView, texts: CoverTexts
) -> Rgb:
    """The page. mask: bool [K, J, I] on the volume's grid, not empty."""
    center, scale = view.center_lps, view.mm_per_pixel
    page = blank_page(*PAGE)
    for place, across in ((CORONAL, 0), (SAGITTAL, 1)):
        points = _plane(center, across, scale)
        hu = _sampled(volume, points)
        page.paste(Image.fromarray(with_contour(grey_of(hu), _nearest(mask, volume, points), 2)), place[::-1])
    page.paste(Image.fromarray(draw_surface(mesh, center, scale, PANEL)), SURFACE[::-1])
    draw = ImageDraw.Draw(page)
    _draw_header(draw, texts)
    for place, name, letters in (
        (CORONAL, "coronal", ("R", "L", "H", "F")),
        (SAGITTAL, "sagittal", ("A", "P", "H", "F")),
        (SURFACE, "surface, from the front", ("R", "L", "H", "F")),
    ):
        _draw_letters(draw, place, name, letters)
    _draw_texts(draw, texts)
    write_line(draw, (16, 1000), texts.made_by, font(15), FAINT_RGB)
    return np.asarray(page)


def _plane(center: npt.NDArray[np.float64], across: int, scale: float) -> npt.NDArray[np.float64]:
    """LPS points [rows, columns, 3] of a panel: `across` (0: x, 1: y) runs to the right, z upward."""
    rows, columns = np.meshgrid(np.arange(PANEL[0]), np.arange(PANEL[1]), indexing="ij")
    points = np.broadcast_to(center, (*PANEL, 3)).copy()
    points[..., across] += (columns - PANEL[1] / 2) * scale
    points[..., 2] -= (rows - PANEL[0] / 2) * scale
    return points


def _sampled(volume: Volume, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """HU at LPS points [..., 3], trilinear; air beyond the CT. The volume is read where it is, and not converted."""
    kji = np.moveaxis(volume.grid.to_voxel(points)[..., ::-1], -1, 0)
    hu = ndimage.map_coordinates(volume.hu, kji, np.float32, order=1, mode="constant", cval=AIR_HU)
    return np.asarray(hu)


def _nearest(mask: npt.NDArray[np.bool_], volume: Volume, points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """The mask's voxel that holds each point; beyond the CT there is none."""
    kji = np.floor(volume.grid.to_voxel(points)[..., ::-1] + 0.5).astype(np.int64)
    known = ((kji >= 0) & (kji < np.array(mask.shape))).all(axis=-1)
    inside = np.zeros(points.shape[:-1], dtype=np.bool_)
    inside[known] = mask[tuple(kji[known].T)]
    return inside


def _draw_header(draw: ImageDraw.ImageDraw, texts: CoverTexts) -> None:
    write_line(draw, (16, 26), texts.title, font(32, bold=True), TEXT_RGB)
    write_line(draw, (16, 60), NOT_FOR_DIAGNOSIS, font(21, bold=True), WARNING_RGB)
    write_line(draw, (1008, 60), "contour", font(19), TEXT_RGB, anchor="rm")
    draw.line([(880, 60), (918, 60)], fill=CONTOUR_RGB, width=4)


def _draw_letters(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], name: str, letters: tuple[str, str, str, str]
) -> None:
    top, left = place
    middle = (left + PANEL[1] / 2, top + PANEL[0] / 2)
    bold = font(22, bold=True)
    write_line(draw, (left + 8, middle[1]), letters[0], bold)
    write_line(draw, (left + PANEL[1] - 8, middle[1]), letters[1], bold, anchor="rm")
    write_line(draw, (middle[0], top + 16), letters[2], bold, anchor="mm")
    write_line(draw, (middle[0], top + PANEL[0] - 16), letters[3], bold, anchor="mm")
    write_line(draw, (left + 10, top + PANEL[0] - 16), name, font(18), FAINT_RGB)


def _draw_texts(draw: ImageDraw.ImageDraw, texts: CoverTexts) -> None:
    """Verdict, numbers, findings, as many as there is room for; how many more there are is said."""
    left, width, bottom = TEXT[1] + 20, PANEL[1] - 36, TEXT[0] + PANEL[0] - 8
    y = TEXT[0] + 22.0
    loud = WARNING_RGB if texts.warn else TEXT_RGB
    for line in wrapped(texts.verdict, font(24, bold=True), width):
        write_line(draw, (left, y), line, font(24, bold=True), loud)
        y += 32
    y += 4
    for line in texts.numbers:
        write_line(draw, (left, y), line, font(20))
        y += 28
    y += 8
    body = font(19)
    for number, finding in enumerate(texts.findings):
        lines = wrapped(finding, body, width - 18)
        room = bottom - 26 * (number + 1 < len(texts.findings))
        if y + 25 * (len(lines) - 1) > room:
            more = len(texts.findings) - number
            write_line(draw, (left, y), f"and {more} more: see the report", body, loud)
            return
        write_line(draw, (left, y), "-", body, loud)
        for line in lines:
            write_line(draw, (left + 18, y), line, body, loud)
            y += 25
