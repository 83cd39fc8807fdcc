"""One SeriesInstanceUID may hold several stacks: split it, but only where that makes a consistent one (C3)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dicom_node.assemble.geometry import ORIENTATION_TOLERANCE, StackGeometry, check_geometry
from dicom_node.assemble.plane import ImagePlane
from dicom_node.reasons import RefusalError
from dicom_node.settings import AssembleSettings

WHOLE = "whole series"


@dataclass(frozen=True)
class Part:
    """Images that belong together. geometry: how they lie, or the refusal that says why they make no volume."""

    label: str
    planes: tuple[ImagePlane, ...]
    geometry: StackGeometry | RefusalError


def split_into_stacks(planes: Sequence[ImagePlane], settings: AssembleSettings, label: str = WHOLE) -> tuple[Part, ...]:
    """Parts of a series, each judged by itself.

    A consistent set stays whole, unless it is two interleaved ones: two phases half a step apart are as even as one
    stack. Otherwise the first attribute whose values part it so that at least one consistent stack appears decides;
    where none does, the set stays whole and is refused by its own reason.
    """
    whole = Part(label, tuple(planes), _judge(planes, settings))
    consistent = isinstance(whole.geometry, StackGeometry)
    for name, key in _ATTRIBUTES:
        groups = _grouped(planes, key(planes))
        if len(groups) < 2 or (consistent and not _are_interleaved(groups.values(), settings)):
            continue
        if not consistent and max(map(len, groups.values())) < settings.min_slices:
            continue
        parts = [
            part
            for value, group in groups.items()
            for part in split_into_stacks(group, settings, _label(label, f"{name} {value}"))
        ]
        if consistent or any(isinstance(part.geometry, StackGeometry) for part in parts):
            return tuple(parts)
    return (whole,)


def _are_interleaved(groups: Iterable[Sequence[ImagePlane]], settings: AssembleSettings) -> bool:
    """Whether two groups of a consistent set are even stacks by themselves that cover the same part of the patient.

    How many slices a group has or how far apart they are does not matter: half of an interleaved set is coarse.
    Groups that follow one another, as the table moved, are not interleaved.
    """
    coarse = settings.model_copy(update={"min_slices": 2, "max_spacing_mm": math.inf})
    ranges = sorted(_range_along_normal(group) for group in groups if isinstance(_judge(group, coarse), StackGeometry))
    return any(low < high for (_, high), (low, _) in pairwise(ranges))


def _range_along_normal(planes: Sequence[ImagePlane]) -> tuple[float, float]:
    distances = [float(np.dot(planes[0].normal, np.asarray(plane.position))) for plane in planes]
    return min(distances), max(distances)


def _judge(planes: Sequence[ImagePlane], settings: AssembleSettings) -> StackGeometry | RefusalError:
    try:
        return check_geometry(planes, settings)
    except RefusalError as refusal:
        return refusal


def _label(parent: str, own: str) -> str:
    return own if parent == WHOLE else f"{parent}, {own}"


def _grouped(planes: Sequence[ImagePlane], keys: Sequence[Hashable]) -> dict[Hashable, list[ImagePlane]]:
    groups: dict[Hashable, list[ImagePlane]] = defaultdict(list)
    for plane, key in zip(planes, keys, strict=True):
        groups[key].append(plane)
    return dict(sorted(groups.items(), key=lambda item: str(item[0])))


def _by_orientation(planes: Sequence[ImagePlane]) -> list[Hashable]:
    """Number of the first orientation met that is the same within the tolerance; 0 for none at all."""
    known: list[np.ndarray] = []
    keys: list[Hashable] = []
    for plane in planes:
        if plane.orientation is None:
            keys.append(0)
            continue
        same = [n for n, one in enumerate(known) if np.abs(one - plane.orientation).max() <= ORIENTATION_TOLERANCE]
        if not same:
            known.append(plane.orientation)
        keys.append(same[0] + 1 if same else len(known))
    return keys


def _by_size(planes: Sequence[ImagePlane]) -> list[Hashable]:
    return [
        f"{plane.columns}x{plane.rows}"
        + (f" at {plane.pixel_spacing[0]:.4f}x{plane.pixel_spacing[1]:.4f} mm" if plane.pixel_spacing else "")
        for plane in planes
    ]


def _by_pass(planes: Sequence[ImagePlane]) -> list[Hashable]:
    """How often the position was met before, in the order of InstanceNumber.

    Only where every number is taken once and each pass runs through the patient in one direction; else passes could
    be mixed up, and all get one key.
    """
    one_key: list[Hashable] = [1] * len(planes)
    if any(p.position is None or p.orientation is None or p.instance_number is None for p in planes):
        return one_key
    if len({p.instance_number for p in planes}) < len(planes):
        return one_key
    normal = planes[0].normal
    distances = [round(float(np.dot(normal, np.asarray(plane.position))), 1) for plane in planes]
    times_met: dict[float, int] = defaultdict(int)
    keys = list(one_key)
    walks: dict[int, list[float]] = defaultdict(list)
    for index in sorted(range(len(planes)), key=lambda n: planes[n].instance_number or 0):
        times_met[distances[index]] += 1
        keys[index] = times_met[distances[index]]
        walks[times_met[distances[index]]].append(distances[index])
    steps = [np.diff(walk) for walk in walks.values()]
    return keys if all((step > 0).all() or (step < 0).all() for step in steps) else one_key


_ATTRIBUTES: tuple[tuple[str, Callable[[Sequence[ImagePlane]], Sequence[Hashable]]], ...] = (
    ("class", lambda planes: [plane.sop_class_uid for plane in planes]),
    ("orientation", _by_orientation),
    ("size", _by_size),
    ("frame", lambda planes: [_numbered(planes, plane.frame_of_reference) for plane in planes]),
    ("acquisition", lambda planes: [plane.acquisition_number for plane in planes]),
    ("kernel", lambda planes: [plane.kernel for plane in planes]),
    ("acquisition time", lambda planes: [plane.acquisition_time for plane in planes]),
    ("content time", lambda planes: [plane.content_time for plane in planes]),
    ("pass", _by_pass),
)


def _numbered(planes: Sequence[ImagePlane], frame: str | None) -> int:
    """A frame of reference as a short number: labels are read by people."""
    return sorted({plane.frame_of_reference or "" for plane in planes}).index(frame or "") + 1
