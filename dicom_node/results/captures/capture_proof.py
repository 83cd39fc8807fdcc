"""Captures read back from the disk: every contour and every grey value against SEG and CT.

The layout of the pages is stated here again, by itself: a page that moved its image does not leave.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.results.proof_request import UNREADABLE, ProofRequest, ProvenMask, read_object, require
from dicom_node.values.facts import Facts
from dicom_node.values.results import ObjectKind
from dissm_engine.volume import Grid

_KIND = ObjectKind.CAPTURE
_CONTOUR = (255, 176, 0)
_SIDE, _ABOVE, _BELOW = 20, 52, 44
_COVER_PANELS = {"coronal": (80, 0, 0), "sagittal": (80, 512, 1)}
"""First row, first column, and the LPS axis that runs to the right; z runs upward."""
_PANEL_ROWS, _PANEL_COLUMNS = 448, 512
_COVER_TOLERANCE_PIXELS = 1
_MIN_GREY_AGREEMENT = 0.999
_Mask = npt.NDArray[np.bool_]


def prove_captures(request: ProofRequest, proven: ProvenMask) -> Facts:
    """Every slice's page shows the CT's image that it names, with the SEG's contour on it; so does the cover.

    Returns:
        How many slices were shown, how many contour pixels were compared, the share of grey values that are the CT's,
        and the largest distance (pixels) of the cover's contours from the SEG's.
    """
    cover, *pages = [read_object(_KIND, path, request.stack) for path in request.files[_KIND]]
    try:
        for dataset in (cover, *pages):
            _prove_flags(dataset)
        distance = _prove_cover(cover, proven, request.stack.volume.grid)
        contour, grey = 0, 1.0
        shown: set[int] = set()
        for dataset in pages:
            k = _slice_shown(dataset, request)
            require(k not in shown, _KIND, f"slice {k} is shown twice")
            shown.add(k)
            compared, share = _prove_page(dataset, request.stack.volume.hu[k], proven.inside[k])
            contour, grey = contour + compared, min(grey, share)
    except UNREADABLE as problem:
        require(False, _KIND, f"it cannot be read ({type(problem).__name__})")
        raise AssertionError from problem
    ends = {int(proven.voxels[0, 0]), int(proven.voxels[-1, 0])}
    require(ends <= shown, _KIND, "the first or the last slice is not shown")
    return {
        "slices": len(pages),
        "contour_pixels": contour,
        "grey_agreement": grey,
        "cover_contour_distance_pixels": distance,
    }


def _prove_flags(dataset: Dataset) -> None:
    require(dataset.BurnedInAnnotation == "YES", _KIND, "BurnedInAnnotation is not YES")
    require("not for primary diagnosis" in dataset.ImageComments, _KIND, "it does not say what it is not for")


def _slice_shown(dataset: Dataset, request: ProofRequest) -> int:
    """The CT's slice that the page names as its source."""
    (source,) = dataset.SourceImageSequence
    uids = [str(header.SOPInstanceUID) for header in request.stack.headers]
    require(source.ReferencedSOPInstanceUID in uids, _KIND, "a page names an image that is not of this CT")
    return uids.index(str(source.ReferencedSOPInstanceUID))


def _prove_page(dataset: Dataset, hu: npt.NDArray[np.generic], inside: _Mask) -> tuple[int, float]:
    """The number of contour pixels, which are exactly the mask's, and the share of grey values that are the CT's."""
    page = dataset.pixel_array
    image = page[_ABOVE : page.shape[0] - _BELOW, _SIDE : page.shape[1] - _SIDE]
    tall, wide = image.shape[0] // inside.shape[0], image.shape[1] // inside.shape[1]
    whole = (inside.shape[0] * tall, inside.shape[1] * wide) == image.shape[:2] and tall > 0 and wide > 0
    require(whole, _KIND, "a page's image is no whole multiple of the CT's")
    expected = _edge(_enlarged(inside, tall, wide))
    found = _in_contour_color(image)
    wrong = int(np.count_nonzero(expected != found))
    require(wrong == 0, _KIND, f"{wrong} pixels of a contour do not lie on the SEG's")
    share = np.clip((hu.astype(np.float32) + 160.0) / 400.0, 0, 1) * 255
    grey = _enlarged(share, tall, wide)
    near = ~found
    for channel in range(3):
        near &= np.abs(image[..., channel] - grey) <= 1
    agreement = float(np.count_nonzero(near)) / max(int(np.count_nonzero(~found)), 1)
    require(agreement >= _MIN_GREY_AGREEMENT, _KIND, f"only {agreement:.1%} of a page's image is the CT's")
    return int(np.count_nonzero(found)), agreement


def _in_contour_color(pixels: npt.NDArray[np.uint8]) -> _Mask:
    red, green, blue = _CONTOUR
    found: _Mask = (pixels[..., 0] == red) & (pixels[..., 1] == green) & (pixels[..., 2] == blue)
    return found


def _enlarged(values: npt.NDArray[np.generic], tall: int, wide: int) -> npt.NDArray[Any]:
    return values.repeat(tall, axis=0).repeat(wide, axis=1)


def _prove_cover(dataset: Dataset, proven: ProvenMask, grid: Grid) -> int:
    """The largest distance, in pixels, between the contours of the cover and those of the SEG in the same planes."""
    page = dataset.pixel_array
    scale = float(dataset.NominalScannedPixelSpacing[0])
    center = grid.lps_from_voxel[:3, :3] @ proven.voxels.mean(axis=0)[::-1] + grid.lps_from_voxel[:3, 3]
    furthest = 0
    for name, (top, left, across) in _COVER_PANELS.items():
        panel = page[top : top + _PANEL_ROWS, left : left + _PANEL_COLUMNS]
        found = _in_contour_color(panel)
        # The cover's contours are two pixels wide.
        section = _section(proven.inside, grid, center, across, scale)
        expected = _edge(section) | _edge(section & ~_edge(section))
        distance = max(_distance(found, expected), _distance(expected, found))
        require(distance <= _COVER_TOLERANCE_PIXELS, _KIND, f"the cover's {name} contour is not the SEG's")
        furthest = max(furthest, distance)
    return furthest


def _section(inside: _Mask, grid: Grid, center: npt.NDArray[np.float64], across: int, scale: float) -> _Mask:
    """The mask in the plane through `center` of LPS z (upward) and the axis `across` (to the right)."""
    v, u = np.indices((_PANEL_ROWS, _PANEL_COLUMNS), dtype=np.float64)
    lps = np.empty((_PANEL_ROWS, _PANEL_COLUMNS, 3))
    lps[...] = center
    lps[..., across] += scale * (u - _PANEL_COLUMNS / 2)
    lps[..., 2] += scale * (_PANEL_ROWS / 2 - v)
    ijk = np.rint((lps - grid.lps_from_voxel[:3, 3]) @ np.linalg.inv(grid.lps_from_voxel[:3, :3]).T).astype(int)
    within = np.asarray(((ijk >= 0) & (ijk < inside.shape[::-1])).all(axis=2))
    i, j, k = np.where(within[..., None], ijk, 0).transpose(2, 0, 1)
    section: _Mask = inside[k, j, i] & within
    return section


def _distance(these: _Mask, others: _Mask) -> int:
    """By how many pixels `others` must grow, in a square's sense, to hold all of `these`; beyond 3 it is 4."""
    for pixels in range(4):
        if not (these & ~_grown(others, pixels)).any():
            return pixels
    return 4


def _grown(mask: _Mask, pixels: int) -> _Mask:
    padded = np.pad(mask, pixels)
    rows, columns = mask.shape
    grown = np.zeros_like(mask)
    for dy in range(2 * pixels + 1):
        for dx in range(2 * pixels + 1):
            grown |= padded[dy : dy + rows, dx : dx + columns]
    return grown


def _edge(region: _Mask) -> _Mask:
    """Pixels of the region beside a pixel that is not of it, in the four directions; a border counts as one."""
    edge = np.zeros_like(region)
    edge[:, 1:] |= region[:, 1:] & ~region[:, :-1]
    edge[:, :-1] |= region[:, :-1] & ~region[:, 1:]
    edge[1:] |= region[1:] & ~region[:-1]
    edge[:-1] |= region[:-1] & ~region[1:]
    edge[[0, -1]] |= region[[0, -1]]
    edge[:, [0, -1]] |= region[:, [0, -1]]
    return edge
