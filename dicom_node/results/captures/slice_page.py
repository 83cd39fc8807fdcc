"""One source image with the contour of its mask: what is drawn around it stands in bars beside the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicom_node.results.captures.canvas import (
    FAINT_RGB,
    NOT_FOR_DIAGNOSIS,
    TEXT_RGB,
    WARNING_RGB,
    Rgb,
    blank_page,
    font,
    grey_of,
    shortened,
    with_contour,
    write_line,
)

SIDE_BAR, HEADER, FOOTER = 20, 52, 44
"""Pixels of the bars left and right, above and below the image. The proof finds the image by them."""
MIN_COLUMNS = 512


@dataclass(frozen=True, slots=True)
class SliceTexts:
    """What stands around one image, without the patient's name.

    Attributes:
        result: Volume and verdict.
        where: Which image it is.
        why: Why a person should look; empty where nothing is remarkable.
        letters: The patient's directions at the left, right, top and bottom edge.
    """

    result: str
    where: str
    why: str
    letters: tuple[str, str, str, str]


def enlargement(shape: tuple[int, int], spacing: tuple[float, float]) -> tuple[int, int]:
    """By which whole numbers rows and columns are repeated so that the image is legible and keeps its proportions.

    Args:
        shape: Rows and columns of the source image.
        spacing: Millimetres between its rows, and between its columns.
    """
    narrowest = min(spacing)
    tall, wide = spacing[0] / narrowest, spacing[1] / narrowest
    scale = max(1, math.ceil(MIN_COLUMNS / (shape[1] * wide)))
    return max(1, round(scale * tall)), max(1, round(scale * wide))


def draw_slice(
    hu: npt.NDArray[np.floating] | npt.NDArray[np.integer],
    inside: npt.NDArray[np.bool_],
    factors: tuple[int, int],
    texts: SliceTexts,
) -> Rgb:
    """The page of one image. hu, inside: [rows, columns]. factors: as `enlargement` says."""
    large = np.repeat(np.repeat(grey_of(hu), factors[0], axis=0), factors[1], axis=1)
    large_inside = np.repeat(np.repeat(inside, factors[0], axis=0), factors[1], axis=1)
    rows, columns = large.shape
    page = blank_page(rows + HEADER + FOOTER, columns + 2 * SIDE_BAR)
    page.paste(Image.fromarray(with_contour(large, large_inside)), (SIDE_BAR, HEADER))
    draw = ImageDraw.Draw(page)
    right, bottom = page.width - 8, HEADER + rows
    room = page.width - 16
    write_line(draw, (8, 14), NOT_FOR_DIAGNOSIS, font(15, bold=True), WARNING_RGB)
    write_line(draw, (8, 36), texts.result, font(15), TEXT_RGB)
    write_line(draw, (8, bottom + 12), texts.where, font(13), FAINT_RGB)
    write_line(draw, (8, bottom + 31), shortened(texts.why, font(13), room), font(13), WARNING_RGB)
    left_letter, right_letter, top_letter, bottom_letter = texts.letters
    middle = HEADER + rows / 2
    for place, letter in (
        ((SIDE_BAR / 2, middle), left_letter),
        ((page.width - SIDE_BAR / 2, middle), right_letter),
        ((right - 6, HEADER - 12), top_letter),
        ((right - 6, bottom + 12), bottom_letter),
    ):
        write_line(draw, place, letter, font(15, bold=True), TEXT_RGB, anchor="mm")
    return np.asarray(page)
