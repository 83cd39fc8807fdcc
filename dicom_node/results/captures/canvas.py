"""Pixels and words of a capture: grey values of a window, contours, fonts, lines that fit."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Rgb = npt.NDArray[np.uint8]
"""[rows, columns, 3]."""
WINDOW_LOW_HU, WINDOW_HIGH_HU = -160.0, 240.0
"""The usual window of the abdomen: centre 40, width 400."""
CONTOUR_RGB = (255, 176, 0)
"""Far from every grey, and told from grey by the colour-blind, too."""
BACKGROUND_RGB = (16, 18, 22)
TEXT_RGB = (236, 236, 236)
FAINT_RGB = (168, 172, 178)
WARNING_RGB = (255, 208, 96)
NOT_FOR_DIAGNOSIS = "AI result, not for primary diagnosis"


def grey_of(hu: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Hounsfield units as grey values of the abdominal window."""
    share = (hu.astype(np.float32) - WINDOW_LOW_HU) / (WINDOW_HIGH_HU - WINDOW_LOW_HU)
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), dtype=np.uint8)


def with_contour(grey: npt.NDArray[np.uint8], inside: npt.NDArray[np.bool_], width: int = 1) -> Rgb:
    """The grey picture with the outermost pixels of `inside` in the contour's colour; both [rows, columns]."""
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    for _ in range(width):
        line = outline(inside)
        rgb[line] = CONTOUR_RGB
        inside = inside & ~line
    return rgb


def outline(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels inside that have a neighbour outside, above, below, left or right; beyond the picture is outside."""
    padded = np.pad(inside, 1)
    within = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~within


def blank_page(rows: int, columns: int) -> Image.Image:
    """A page in the background's colour."""
    return Image.new("RGB", (columns, rows), BACKGROUND_RGB)


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib ships, so that pages look alike on every machine. size: pixels."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)


def wrapped(text: str, chosen: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines of at most `width` pixels; a word that is longer stands alone."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and chosen.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shortened(text: str, chosen: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut at a word and with dots where it is wider than `width` pixels."""
    if chosen.getlength(text) <= width:
        return text
    words = text.split()
    while words and chosen.getlength(" ".join(words) + " ...") > width:
        words.pop()
    return " ".join(words) + " ..."


def write_line(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    chosen: ImageFont.FreeTypeFont,
    rgb: tuple[int, int, int] = TEXT_RGB,
    anchor: str = "lm",
) -> None:
    """One line of text. place: x, y in pixels of the anchor (Pillow's letters: left, middle ...)."""
    draw.text(place, text, font=chosen, fill=rgb, anchor=anchor)
