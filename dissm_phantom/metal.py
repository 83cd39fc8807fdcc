"""Metal and plastic in the body, with the streaks they cause: drain, surgical clips, stent, pacemaker lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dissm_phantom.canvas import Box, Field
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.tissue import Labels, Tissue
from dissm_phantom.variety import Trait

Points = npt.NDArray[np.float64]
_UNDERSIDE_MM = 8.0
_STREAK_REACH_MM = 90.0
_STREAK_FALL_MM = 14.0
_HEART = (Tissue.HEART_BLOOD, Tissue.MYOCARDIUM)
_VEINS = (Tissue.HEPATIC_VEIN, Tissue.IVC)


@dataclass(frozen=True)
class Implant:
    """Something that was put into the body.

    Attributes:
        path: float64 [N, 3], voxel coordinates (k, j, i) along it, not further apart than a voxel.
        radius_mm: Of the rod, or of the tube's outer side.
        hu: Of the material before the scanner's blur, which lowers it; more than a CT can store where it is thin metal.
        lumen_hu: Of what fills the tube; None: it is a rod.
        streak_hu: Strength of its streaks close by.
    """

    path: Points
    radius_mm: float
    hu: float
    lumen_hu: float | None
    streak_hu: float


def draw_implants(labels: Labels, liver_mm: Field, spacing_mm: float, drawn: ScanTraits) -> list[Implant]:
    """The implants of a use's traits; none where the organ they belong to is out of view.

    Args:
        labels: uint8 [K, J, I] of `Tissue`.
        liver_mm: Signed distance of the liver on the same voxels (LPS axes), mm.
        spacing_mm: Of the isotropic voxels.
        drawn: The traits, and the seed of what they draw.
    """
    implants: list[Implant] = []
    if Trait.METAL in drawn:
        rng = drawn.generator(Trait.METAL)
        kind = rng.choice(["drain", "clips", "stent"], p=[0.3, 0.45, 0.25])
        if kind == "drain":
            implants += _drain(labels, liver_mm, spacing_mm, rng)
        elif kind == "clips":
            implants += _clips(labels, liver_mm, spacing_mm, rng)
        else:
            implants += _stent(labels, liver_mm, spacing_mm, rng)
    if Trait.PACEMAKER_LEAD in drawn:
        implants += _lead(labels, spacing_mm, drawn.generator(Trait.PACEMAKER_LEAD))
    return implants


def paint_implants(hu: Field, spacing_mm: float, implants: Sequence[Implant]) -> None:
    """Write the implants' HU into float32 [K, J, I], NaN elsewhere."""
    for implant in implants:
        radius = implant.radius_mm / spacing_mm
        box, distance = _around(hu.shape, implant.path, max(radius, 0.5) + 1)
        region = hu[box]
        # A rod thinner than a voxel fills only a part of it.
        filled = min(1.0, np.pi * radius**2)
        region[distance < max(radius, 0.5)] = filled * implant.hu
        if implant.lumen_hu is not None:
            region[distance < radius - 0.6] = implant.lumen_hu


def streaks(
    shape: tuple[int, ...], spacing_mm: float, implants: Sequence[Implant], rng: np.random.Generator
) -> Field | None:
    """HU to add, float32 [K, J, I]: in every slice bright and dark rays from each implant, dark bands between two.

    This is a picture of the artefact, not a model of its physics. None where nothing causes streaks.
    """
    causing = [implant for implant in implants if implant.streak_hu > 0]
    if not causing:
        return None
    result = np.zeros(shape, dtype=np.float32)
    for implant in causing:
        rays = _Rays.draw(rng)
        for k, center in _by_slice(implant.path, shape[0]).items():
            _add_rays(result[k], center, spacing_mm, implant.streak_hu, rays, rng)
    for first, second in pairwise(causing):
        _add_dark_bands(result, first, second, spacing_mm)
    return result


def _drain(labels: Labels, liver_mm: Field, spacing_mm: float, rng: np.random.Generator) -> list[Implant]:
    """A pigtail in the liver or beside it, led out through the right or front wall."""
    tip = _pick((liver_mm > -25) & (liver_mm < 4) & ~np.isin(labels, (Tissue.AIR, Tissue.LUNG)), rng)
    if tip is None:
        return []
    out = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-1.0, 0.3), -rng.uniform(0.3, 1.0)])
    out /= np.linalg.norm(out)
    run = tip + out * np.arange(0, 260 / spacing_mm, 0.7)[:, None]
    run = run[: _inside_body(labels, run)]
    side = np.cross(out, rng.normal(size=3))
    side /= np.linalg.norm(side)
    turn = np.linspace(0, 1.7 * np.pi, 40)[:, None]
    loop_radius = rng.uniform(6, 10) / spacing_mm
    loop = tip + loop_radius * (np.sin(turn) * -out + (1 - np.cos(turn)) * side)
    hu = float(rng.uniform(400, 1600))
    return [Implant(np.concatenate([loop[::-1], run]), float(rng.uniform(1.3, 2.4)), hu, None, float(hu / 30))]


def _clips(labels: Labels, liver_mm: Field, spacing_mm: float, rng: np.random.Generator) -> list[Implant]:
    """Three to nine short clips: in the gallbladder's bed, else at the liver's underside, or along a resection."""
    above = np.roll(liver_mm, -max(1, round(_UNDERSIDE_MM / spacing_mm)), axis=0)
    underside = (liver_mm > 0) & (liver_mm < _UNDERSIDE_MM) & (above < 0) & (labels == Tissue.FAT)
    bed = underside & _close_to(labels, (Tissue.GALLBLADDER, Tissue.DENSE_BILE, Tissue.PORTAL_TRUNK), spacing_mm)
    place = _pick(bed, rng)
    if place is None:
        place = _pick(underside, rng)
    if place is None:
        return []
    spread = rng.uniform(4, 22) / spacing_mm
    clips = []
    for _ in range(int(rng.integers(3, 10))):
        center = place + rng.normal(0, spread, 3) * (0.5, 1.0, 1.0)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        half = rng.uniform(2, 4.5) / spacing_mm
        path = center + direction * np.arange(-half, half + 0.01, 0.5)[:, None]
        hu, streak = float(rng.uniform(4000, 9000)), float(rng.uniform(40, 220))
        clips.append(Implant(path, float(rng.uniform(0.7, 1.2)), hu, None, streak))
    return clips


def _stent(labels: Labels, liver_mm: Field, spacing_mm: float, rng: np.random.Generator) -> list[Implant]:
    """A shunt from a portal branch to a hepatic vein, or a stent of the bile duct from the hilum downwards."""
    portal, vein = _pick(labels == Tissue.PORTAL_BRANCH, rng), _pick(np.isin(labels, _VEINS) & (liver_mm < 8), rng)
    if portal is not None and vein is not None and rng.random() < 0.5:
        bow = rng.normal(0, 6 / spacing_mm, 3)
        blood = float(rng.uniform(90, 200)) if rng.random() < 0.8 else float(rng.uniform(30, 60))
        hu, streak = float(rng.uniform(900, 2400)), float(rng.uniform(10, 50))
        return [Implant(_bowed(portal, vein, bow), float(rng.uniform(4.4, 6)), hu, blood, streak)]
    start = _pick(labels == Tissue.PORTAL_TRUNK, rng)
    if start is None:
        return []
    end = start + np.array([-rng.uniform(45, 75), rng.uniform(-10, 20), rng.uniform(-5, 25)]) / spacing_mm
    bow = rng.normal(0, 5 / spacing_mm, 3)
    filling = float(rng.uniform(0, 40)) if rng.random() < 0.5 else float(rng.uniform(-800, -300))
    wide = rng.random() < 0.6
    radius = float(rng.uniform(4, 5)) if wide else float(rng.uniform(1.3, 1.8))
    hu = float(rng.uniform(900, 2600)) if wide else float(rng.uniform(400, 900))
    return [Implant(_bowed(start, end, bow), radius, hu, filling if wide else None, hu / 50)]


def _lead(labels: Labels, spacing_mm: float, rng: np.random.Generator) -> list[Implant]:
    """From above through the heart to its underside, most often the tip of the right ventricle."""
    heart = np.isin(labels, _HEART)
    slices = np.flatnonzero(heart.any(axis=(1, 2)))
    if not len(slices):
        return []
    lowest, highest = int(slices[0]), int(slices[-1])
    depth = int(min(highest, lowest + rng.uniform(2, 14) / spacing_mm))
    tip, entry = _pick(heart, rng, slice(depth, depth + 1)), _pick(heart, rng, slice(highest, highest + 1))
    if tip is None or entry is None:
        return []
    bow = np.array([-rng.uniform(0, 8), 0.0, -rng.uniform(5, 25)]) / spacing_mm
    hu, streak = float(rng.uniform(4000, 9000)), float(rng.uniform(60, 260))
    return [Implant(_bowed(entry, tip, bow), float(rng.uniform(0.9, 1.5)), hu, None, streak)]


def _pick(where: npt.NDArray[np.bool_], rng: np.random.Generator, slices: slice | None = None) -> Points | None:
    """A random voxel (k, j, i) of those that are true; None where none is."""
    part = where if slices is None else where[slices]
    found = np.flatnonzero(part)
    if not len(found):
        return None
    voxel = np.array(np.unravel_index(int(found[rng.integers(len(found))]), part.shape), dtype=np.float64)
    if slices is not None:
        voxel[0] += slices.start
    return voxel


def _close_to(labels: Labels, tissues: tuple[Tissue, ...], spacing_mm: float) -> npt.NDArray[np.bool_]:
    """Voxels in the box around some tissues and a margin of 8 mm."""
    where = np.zeros(labels.shape, dtype=np.bool_)
    found = np.isin(labels, tissues)
    if found.any():
        margin = int(8 / spacing_mm)
        lines = [np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        box = tuple(slice(max(0, int(line[0]) - margin), int(line[-1]) + margin + 1) for line in lines)
        where[box] = True
    return where


def _inside_body(labels: Labels, path: Points) -> int:
    """How many points of a path come before it leaves the body or the array."""
    voxels = np.rint(path).astype(int)
    shape = np.array(labels.shape)
    for number, voxel in enumerate(voxels):
        if (voxel < 0).any() or (voxel >= shape).any() or labels[tuple(voxel)] in (Tissue.AIR, Tissue.COUCH):
            return max(2, number + 4)
    return len(path)


def _bowed(start: Points, end: Points, bow: Points) -> Points:
    """Points half a voxel apart from one place to another, bent by `bow` in the middle."""
    count = max(3, int(2 * np.linalg.norm(end - start)))
    along = np.linspace(0, 1, count)[:, None]
    return np.asarray(start + (end - start) * along + np.sin(np.pi * along) * bow)


def _around(shape: tuple[int, ...], path: Points, reach: float) -> tuple[Box, Field]:
    """A box around a path, and the distance to it there in voxels, limited to `reach`."""
    low = np.clip(np.floor(path.min(axis=0) - reach).astype(int), 0, shape)
    high = np.clip(np.ceil(path.max(axis=0) + reach).astype(int) + 1, low, shape)
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    distance = np.full(high - low, reach, dtype=np.float32)
    for point in path:
        first = np.clip(np.floor(point - reach).astype(int), low, high)
        last = np.clip(np.ceil(point + reach).astype(int) + 1, first, high)
        local = tuple(slice(a - c, b - c) for a, b, c in zip(first, last, low, strict=True))
        squares = [(np.arange(a, b) - p) ** 2 for a, b, p in zip(first, last, point, strict=True)]
        ball = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2]).astype(np.float32)
        np.minimum(distance[local], ball, out=distance[local])
    return box, distance


def _by_slice(path: Points, slices: int) -> dict[int, Points]:
    """Mean (j, i) of a path in every slice that it touches."""
    ks = np.rint(path[:, 0]).astype(int)
    return {int(k): path[ks == k, 1:].mean(axis=0) for k in np.unique(ks) if 0 <= k < slices}


@dataclass(frozen=True)
class _Rays:
    """Directions (radians), relative strengths and widths (mm) of the lines through one implant."""

    angles: Points
    strengths: Points
    widths_mm: Points

    @staticmethod
    def draw(rng: np.random.Generator) -> _Rays:
        count = int(rng.integers(8, 15))
        return _Rays(rng.uniform(0, np.pi, count), rng.normal(0, 0.55, count), rng.uniform(1.2, 3.5, count))


def _add_rays(
    plane: Field, center: Points, spacing_mm: float, streak_hu: float, rays: _Rays, rng: np.random.Generator
) -> None:
    reach = int(_STREAK_REACH_MM / spacing_mm)
    rows, columns = (
        slice(max(0, round(c) - reach), max(0, min(n, round(c) + reach)))
        for c, n in zip(center, plane.shape, strict=True)
    )
    dy = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(center[0]))[:, None] * np.float32(spacing_mm)
    dx = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(center[1])) * np.float32(spacing_mm)
    fall = np.float32(streak_hu) / (1 + np.sqrt(dx * dx + dy * dy) / np.float32(_STREAK_FALL_MM))
    total = np.zeros(fall.shape, dtype=np.float32)
    jitter = rng.normal(0, 0.03, len(rays.angles))
    now = rays.strengths + rng.normal(0, 0.35, len(rays.angles))
    for angle, strength, width in zip(rays.angles + jitter, now, rays.widths_mm, strict=True):
        across = (dx * np.float32(np.sin(angle)) - dy * np.float32(np.cos(angle))) / np.float32(width)
        total += np.float32(strength) * np.maximum(0, 1 - across * across)
    plane[rows, columns] += fall * total


def _add_dark_bands(result: Field, first: Implant, second: Implant, spacing_mm: float) -> None:
    """Between two implants in one slice less comes through: a dark band from one to the other."""
    others = _by_slice(second.path, len(result))
    for k, start in _by_slice(first.path, len(result)).items():
        if k not in others or np.linalg.norm(others[k] - start) < 2:
            continue
        count = int(2 * np.linalg.norm(others[k] - start))
        line = np.rint(start + (others[k] - start) * np.linspace(0, 1, count)[:, None]).astype(int)
        seen = ((line >= 0) & (line < result.shape[1:])).all(axis=1)
        result[k][tuple(line[seen].T)] -= np.float32(0.4 * min(first.streak_hu, second.streak_hu))
