"""Is this set of images one volume? The checks of C3, in their order, one reason each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_node.assemble.plane import ImagePlane
from dicom_node.dicom.header_reading import ENHANCED_CT
from dicom_node.reasons import (
    ENHANCED_MULTIFRAME,
    GANTRY_TILT,
    GAP,
    MIXED_FRAMES_OF_REFERENCE,
    MIXED_ORIENTATION,
    MIXED_SIZE,
    NO_FRAME_OF_REFERENCE,
    NO_POSITIONS,
    ORIENTATION_NOT_ORTHONORMAL,
    POSITION_CLASH,
    POSITIONS_NOT_IN_LINE,
    SPACING_TOO_WIDE,
    TOO_FEW_SLICES,
    TOO_SHORT,
    UNEVEN_SPACING,
    UNREADABLE_HEADER,
    VOLUME_TOO_LARGE,
    RefusalError,
)
from dicom_node.settings import AssembleSettings

ORIENTATION_TOLERANCE = 1e-3
SAME_POSITION_MM = 0.05
GAP_STEPS = 1.5
LINE_TOLERANCE_MM = 0.5
TILT_TOLERANCE_DEGREES = 0.3
MAX_VOXELS = 1 << 30
"""1000 images of 1024 x 1024, 2 GiB as a volume: beyond, a worker would be killed for its memory."""
# The checks below ask `not x <= limit`, so that what is not a number is refused too.

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StackGeometry:
    """A regular stack of parallel planes.

    order: indices into the planes it was made from, ascending along the normal.
    lps_from_voxel: float64 [4, 4], maps (i, j, k, 1) to LPS mm; sheared where the gantry is tilted.
    spacing_mm: distance between planes along their normal. extent_mm: from the first plane's centre to the last's,
    and one spacing. tilt_degrees: angle between the line of positions and the normal.
    """

    order: tuple[int, ...]
    lps_from_voxel: FloatArray
    spacing_mm: float
    extent_mm: float
    tilt_degrees: float


@dataclass(frozen=True, slots=True)
class GeometryLimits:
    """What a site accepts of a consistent stack. allow_gantry_tilt: planes may be shifted against each other."""

    allow_gantry_tilt: bool
    min_slices: int
    min_extent_mm: float
    max_spacing_mm: float

    @staticmethod
    def of(settings: AssembleSettings) -> GeometryLimits:
        """The limits that the settings state."""
        return GeometryLimits(
            allow_gantry_tilt=settings.gantry_tilt == "resample",
            min_slices=settings.min_slices,
            min_extent_mm=settings.min_extent_mm,
            max_spacing_mm=settings.max_spacing_mm,
        )

    @staticmethod
    def consistency_only(*, allow_gantry_tilt: bool) -> GeometryLimits:
        """Any two planes that lie evenly, however far they reach."""
        return GeometryLimits(allow_gantry_tilt, min_slices=2, min_extent_mm=0.0, max_spacing_mm=math.inf)


def check_geometry(planes: Sequence[ImagePlane], limits: GeometryLimits) -> StackGeometry:
    """The geometry of a stack, or RefusalError with the first reason in the order of C3."""
    for check in _HEADER_CHECKS:
        check(planes)
    if len(planes) < 2:
        raise RefusalError(TOO_FEW_SLICES, count=len(planes), least=limits.min_slices)
    geometry = _stack_along_normal(planes)
    _check_pixels(planes)
    if not limits.allow_gantry_tilt and geometry.tilt_degrees > TILT_TOLERANCE_DEGREES:
        raise RefusalError(GANTRY_TILT, degrees=geometry.tilt_degrees)
    if len(planes) < limits.min_slices:
        raise RefusalError(TOO_FEW_SLICES, count=len(planes), least=limits.min_slices)
    if geometry.extent_mm < limits.min_extent_mm:
        raise RefusalError(TOO_SHORT, extent=geometry.extent_mm, least=limits.min_extent_mm)
    if geometry.spacing_mm > limits.max_spacing_mm:
        raise RefusalError(SPACING_TOO_WIDE, spacing=geometry.spacing_mm, most=limits.max_spacing_mm)
    return geometry


def _check_single_frame(planes: Sequence[ImagePlane]) -> None:
    if any(plane.sop_class_uid in ENHANCED_CT for plane in planes):
        raise RefusalError(ENHANCED_MULTIFRAME)


def _check_frame_of_reference(planes: Sequence[ImagePlane]) -> None:
    frames = {plane.frame_of_reference for plane in planes}
    if None in frames:
        raise RefusalError(NO_FRAME_OF_REFERENCE)
    if len(frames) > 1:
        raise RefusalError(MIXED_FRAMES_OF_REFERENCE, count=len(frames))


def _check_positions(planes: Sequence[ImagePlane]) -> None:
    count = sum(plane.position is None or plane.orientation is None for plane in planes)
    if count:
        raise RefusalError(NO_POSITIONS, count=count)


def _check_orientation(planes: Sequence[ImagePlane]) -> None:
    orientations = np.array([plane.orientation for plane in planes])
    if not np.abs(orientations - orientations[0]).max() <= ORIENTATION_TOLERANCE:
        raise RefusalError(MIXED_ORIENTATION)


def _check_size(planes: Sequence[ImagePlane]) -> None:
    first = planes[0]
    for plane in planes:
        if plane.pixel_spacing is None or min(plane.rows, plane.columns) < 2:
            raise RefusalError(UNREADABLE_HEADER, instance=plane.instance_id, problem="no pixel matrix or spacing")
    for plane in planes:
        same = np.allclose(np.array([plane.pixel_spacing]), np.array([first.pixel_spacing]), rtol=0, atol=1e-4)
        if not same or (plane.rows, plane.columns) != (first.rows, first.columns):
            raise RefusalError(MIXED_SIZE)


def _check_volume(planes: Sequence[ImagePlane]) -> None:
    """What the headers promise will be allocated: compressed pixels may be far fewer than they say."""
    first = planes[0]
    if len(planes) * first.rows * first.columns > MAX_VOXELS:
        raise RefusalError(
            VOLUME_TOO_LARGE, count=len(planes), columns=first.columns, rows=first.rows, most=MAX_VOXELS >> 20
        )


def _check_orthonormal(planes: Sequence[ImagePlane]) -> None:
    axes = np.asarray(planes[0].orientation).reshape(2, 3)
    error = float(np.abs(axes @ axes.T - np.eye(2)).max())
    if not error <= ORIENTATION_TOLERANCE:
        raise RefusalError(ORIENTATION_NOT_ORTHONORMAL, error=error)


_HEADER_CHECKS: tuple[Callable[[Sequence[ImagePlane]], None], ...] = (
    _check_single_frame,
    _check_frame_of_reference,
    _check_positions,
    _check_orientation,
    _check_size,
    _check_volume,
    _check_orthonormal,
)


def _check_pixels(planes: Sequence[ImagePlane]) -> None:
    for plane in planes:
        if plane.problem is not None:
            raise plane.problem


def _stack_along_normal(planes: Sequence[ImagePlane]) -> StackGeometry:
    """Sort by position along the normal and measure the steps."""
    positions = np.array([plane.position for plane in planes])
    normal = planes[0].normal / np.linalg.norm(planes[0].normal)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    spacing = _even_step(positions @ normal)
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    _check_line(positions, step)
    in_plane = step - (step @ normal) * normal
    return StackGeometry(
        order=tuple(int(index) for index in order),
        lps_from_voxel=_affine(planes[int(order[0])], positions[0], step),
        spacing_mm=spacing,
        extent_mm=spacing * len(planes),
        tilt_degrees=math.degrees(math.atan2(float(np.linalg.norm(in_plane)), float(step @ normal))),
    )


def _even_step(distances: FloatArray) -> float:
    """The distance between neighbours along the normal, mm. Raises on clashes, gaps and uneven steps."""
    steps = np.diff(distances)
    clashes = int((~(steps >= SAME_POSITION_MM)).sum())
    if clashes:
        raise RefusalError(POSITION_CLASH, count=clashes)
    usual = float(np.median(steps))
    wide = np.flatnonzero(steps > GAP_STEPS * usual)
    if len(wide):
        raise RefusalError(GAP, before=float(distances[wide[0]]), after=float(distances[wide[0] + 1]))
    if not np.abs(steps - usual).max() <= max(0.1, 0.02 * usual):
        raise RefusalError(UNEVEN_SPACING, low=float(steps.min()), high=float(steps.max()))
    return float((distances[-1] - distances[0]) / len(steps))


def _check_line(positions: FloatArray, step: FloatArray) -> None:
    """Small deviations that add up, or planes shifted in themselves: both would misplace the result."""
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    distance = float(np.linalg.norm(positions - expected, axis=1).max())
    if not distance <= LINE_TOLERANCE_MM:
        raise RefusalError(POSITIONS_NOT_IN_LINE, distance=distance)


def _affine(plane: ImagePlane, origin: FloatArray, step: FloatArray) -> FloatArray:
    """PS3.3 C.7.6.2.1.1, with the step between planes as third column."""
    if plane.orientation is None or plane.pixel_spacing is None:
        raise RefusalError(NO_POSITIONS, count=1)
    affine = np.eye(4)
    affine[:3, 0] = plane.orientation[:3] * plane.pixel_spacing[1]
    affine[:3, 1] = plane.orientation[3:] * plane.pixel_spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return affine
