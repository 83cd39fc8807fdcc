"""The porta hepatis: where the portal vein enters the liver, and the fissures that begin there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dissm_phantom.body_plan import BodyPlan
from dissm_phantom.canvas import Canvas, Field, Vector, tube, xyz
from dissm_phantom.variety import Trait

_FAR_MM = 50.0


@dataclass(frozen=True)
class Hilum:
    """The portal bifurcation in the fat of the porta hepatis.

    Attributes:
        center: float64 [3], where the trunk divides, LPS mm.
        right, left: float64 [N, 3], axes of the main branches from the centre to where they dive into the liver; the
            left one ends in its umbilical part.
        radius: Of the main branches, mm.
    """

    center: Vector
    right: Vector
    left: Vector
    radius: float


def porta_hepatis(canvas: Canvas, plan: BodyPlan) -> Vector:
    """The hilum (LPS mm): a point just outside the liver and deep in its visceral concavity."""
    nominal = np.array([plan.spine_x - 22, plan.spine_y - 74, plan.middle - 2])
    shift = np.arange(-28, 29, 4.0)
    points = nominal + np.stack(np.meshgrid(shift, shift, shift, indexing="ij"), -1).reshape(-1, 3)
    away = ((points - nominal) ** 2).sum(axis=1)
    cost = (canvas.liver_at(points) - 6) ** 2 / 9 + 0.008 * away
    return np.asarray(points[int(np.argmin(cost))])


def carve_hilum(canvas: Canvas, plan: BodyPlan) -> tuple[Field, Hilum]:
    """Open the porta hepatis: a bed of fat round the portal bifurcation, and the fissures of the two ligaments.

    Args:
        canvas: Knows the liver; it must hold all of it.
        plan: Of the body.

    Returns:
        The liver's distance without them (mm; true in sign, an approximation in value), and the bifurcation.
    """
    rng = plan.trait_generator(Trait.HILAR_FAT)
    hilum = _bifurcation(canvas, plan, rng)
    fat_mm = rng.uniform(2, 6)
    cut = np.full(canvas.grid.shape, _FAR_MM, dtype=np.float32)
    for knots in (hilum.right, hilum.left):
        # The fat becomes less towards the depth.
        widths = hilum.radius + np.linspace(fat_mm, 0.3 * fat_mm, len(knots))
        box, distance = tube(canvas, knots, list(widths), 0.5)
        cut[box] = np.minimum(cut[box], np.where(distance < 3.0, distance, np.float32(_FAR_MM)))
    _cut_ligamentum_teres(canvas, hilum, cut, rng)
    _cut_ligamentum_venosum(canvas, plan, hilum, cut, rng)
    near = cut < 3.0
    carved = canvas.liver_mm.copy()
    carved[near] = np.maximum(carved, -cut)[near]
    return carved, hilum


def _bifurcation(canvas: Canvas, plan: BodyPlan, rng: np.random.Generator) -> Hilum:
    center = porta_hepatis(canvas, plan)
    right = _settled(canvas, center + xyz(-rng.uniform(20, 32), rng.uniform(-4, 10), rng.uniform(0, 12)), -7.0)
    left = _settled(canvas, center + xyz(rng.uniform(20, 34), -rng.uniform(4, 16), rng.uniform(4, 14)), -5.0)
    umbilical = _settled(canvas, left + xyz(rng.uniform(0, 8), -rng.uniform(14, 24), rng.uniform(-4, 6)), -7.0)
    return Hilum(
        center=center,
        right=np.stack([center, 0.5 * (center + right), right]),
        left=np.stack([center, 0.5 * (center + left), left, umbilical]),
        radius=float(rng.uniform(4.0, 6.5)),
    )


def _settled(canvas: Canvas, nominal: Vector, depth_mm: float) -> Vector:
    """The place near a point whose distance to the liver is about `depth_mm` (negative inside)."""
    shift = np.arange(-12, 13, 3.0)
    offsets = np.stack(np.meshgrid(shift, shift, shift, indexing="ij"), -1).reshape(-1, 3)
    cost = (canvas.liver_at(nominal + offsets) - depth_mm) ** 2 / 6 + 0.03 * (offsets**2).sum(axis=1)
    return np.asarray(nominal + offsets[int(np.argmin(cost))])


def _cut_ligamentum_teres(canvas: Canvas, hilum: Hilum, cut: Field, rng: np.random.Generator) -> None:
    """A sagittal fissure, open downwards, from the umbilical part of the left branch to the front of the liver."""
    start = hilum.left[-1]
    half_mm, depth_mm, slope = rng.uniform(1.2, 4.0), rng.uniform(12, 32), rng.uniform(-0.25, 0.35)
    rows = np.flatnonzero((canvas.y < start[1] + 6) & (canvas.y > start[1] - 90))
    x_of_row = start[0] + slope * (start[1] - canvas.y[rows])
    columns = np.clip(np.rint((x_of_row - canvas.x[0]) / canvas.step).astype(int), 0, len(canvas.x) - 1)
    inside = canvas.liver_mm[:, rows, columns] < 0
    held = inside.any(axis=0)
    if not held.any():
        return
    low, thickness = _ends(canvas.z, inside[:, held])
    rows, x_of_row = rows[held], x_of_row[held]
    # Deepest beside the vein, shallow in front; never through the whole liver.
    taper = np.linspace(0.45, 1.0, len(rows))
    top = ndimage.gaussian_filter1d(low + np.minimum(depth_mm * taper, 0.55 * thickness), 1.5, mode="nearest")
    box = (slice(None), rows, slice(None))
    x, z = canvas.x[None, None, :], canvas.z[:, None, None]
    side = np.abs(x - x_of_row[None, :, None]) - half_mm
    ribbon = np.maximum(side, z - top[None, :, None]) + 0.5 * canvas.noise(canvas.everything)[box]
    cut[box] = np.minimum(cut[box], ribbon.astype(np.float32))


def _ends(z: Field, inside: np.ndarray) -> tuple[Vector, Vector]:
    """Lowest z and extent along z (mm) of each column of inside, bool [K, N], every column holding something."""
    first = np.argmax(inside, axis=0)
    last = inside.shape[0] - 1 - np.argmax(inside[::-1], axis=0)
    return z[first].astype(np.float64), (z[last] - z[first]).astype(np.float64)


def _cut_ligamentum_venosum(canvas: Canvas, plan: BodyPlan, hilum: Hilum, cut: Field, rng: np.random.Generator) -> None:
    """A coronal fissure, open to the left, between the caudate lobe behind and the left lobe in front."""
    start = hilum.left[-2]
    half_mm, depth_mm = rng.uniform(0.9, 3.0), rng.uniform(10, 28)
    top_z, top_y = plan.dome - rng.uniform(28, 45), start[1] + rng.uniform(4, 18)
    levels = np.flatnonzero((canvas.z > start[2] - 4) & (canvas.z < top_z))
    if len(levels) < 3:
        return
    y_of_level = np.interp(canvas.z[levels], [start[2], max(top_z, start[2] + 1)], [start[1], top_y])
    rows = np.clip(np.rint((y_of_level - canvas.y[0]) / canvas.step).astype(int), 0, len(canvas.y) - 1)
    inside = canvas.liver_mm[levels, rows] < 0
    edge = np.where(inside.any(axis=1), canvas.x[len(canvas.x) - 1 - np.argmax(inside[:, ::-1], axis=1)], np.nan)
    # Where the left lobe reaches back to this depth, there is no edge of the caudate lobe to open.
    held = np.abs(edge - start[0]) < 38
    if held.sum() < 3:
        return
    levels, y_of_level, edge = levels[held], y_of_level[held], edge[held]
    x, y = canvas.x[None, None, :], canvas.y[None, :, None]
    sheet = np.maximum(np.abs(y - y_of_level[:, None, None]) - half_mm, (edge - depth_mm)[:, None, None] - x)
    sheet = np.maximum(sheet, x - (edge + 8)[:, None, None]) + 0.4 * canvas.noise(canvas.everything)[levels]
    cut[levels] = np.minimum(cut[levels], sheet.astype(np.float32))
