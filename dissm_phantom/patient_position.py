"""How the patient lies: turned on the couch, or face down. Patient coordinates go with the couch, as in DICOM."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar, cast

import numpy as np
from scipy import ndimage

from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid
from dissm_phantom.anatomy import Anatomy
from dissm_phantom.canvas import Field
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.tissue import Labels, Tissue, is_liver
from dissm_phantom.variety import Trait

_TURN_DEGREES = (8.0, 30.0)
_LUMEN = (
    Tissue.GUT_GAS,
    Tissue.STOMACH_CONTENT,
    Tissue.STOMACH_CONTRAST,
    Tissue.BOWEL_CONTENT,
    Tissue.BOWEL_CONTRAST,
    Tissue.FOOD,
    Tissue.FATTY_FOOD,
)
_PLIABLE = (Tissue.AIR, Tissue.FAT, Tissue.SKIN)
_SKIN_MM = 2.4
_MAX_FLATTENED_MM = 14.0


def positioned(anatomy: Anatomy, drawn: ScanTraits) -> Anatomy:
    """The body as it lies: turned about its long axis (OBLIQUE), face down on the couch (PRONE), else as it is.

    A body that lies face down keeps its patient coordinates: the couch is under its belly, gas rises to its back.
    """
    if Trait.OBLIQUE in drawn:
        rng = drawn.generator(Trait.OBLIQUE)
        degrees = float(rng.choice([-1, 1]) * rng.uniform(*_TURN_DEGREES))
        anatomy = turned(replace(anatomy, labels=_without_couch(anatomy.labels)), degrees)
        anatomy = replace(anatomy, labels=_with_couch(anatomy.labels, anatomy.grid, 1, rng))
    if Trait.PRONE in drawn:
        rng = drawn.generator(Trait.PRONE)
        labels = _with_gas_at_the_back(_without_couch(anatomy.labels))
        labels = _flattened_in_front(labels, float(anatomy.grid.spacing[0]))
        anatomy = replace(anatomy, labels=_with_couch(labels, anatomy.grid, -1, rng))
    return anatomy


def turned(anatomy: Anatomy, degrees: float) -> Anatomy:
    """Turn a body about the axis along z through the middle of its grid, liver, truth and all.

    Args:
        anatomy: On an isotropic grid along the LPS axes.
        degrees: From the patient's left (x) towards the back (y).
    """
    center = anatomy.grid.center_lps
    angle = np.deg2rad(degrees)
    turned_from_body = np.eye(4)
    turned_from_body[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned_from_body[:3, 3] = center - turned_from_body[:3, :3] @ center
    corners = anatomy.grid.corners_lps() @ turned_from_body[:3, :3].T + turned_from_body[:3, 3]
    grid = axis_aligned_grid(corners.min(axis=0), corners.max(axis=0), float(anatomy.grid.spacing[0]))
    mm = _sampled(anatomy.liver.mm, anatomy.grid, grid, turned_from_body, order=1)
    labels = _sampled(anatomy.labels, anatomy.grid, grid, turned_from_body, order=0)
    return replace(
        anatomy,
        labels=_with_liver_by_truth(labels, mm),
        liver=SignedDistance(mm, grid),
        liver_mesh=anatomy.liver_mesh.moved(turned_from_body),
        body_from_liver=turned_from_body @ anatomy.body_from_liver,
    )


_Array = TypeVar("_Array", Labels, Field)


def _sampled(values: _Array, source: Grid, target: Grid, target_from_source: np.ndarray, order: int) -> _Array:
    """Values at the voxels of another grid; outside labels are air and distances those of the border."""
    voxels = source.voxel_from_lps @ np.linalg.inv(target_from_source) @ target.lps_from_voxel
    by_axis = np.ascontiguousarray(voxels[:3, :3][::-1, ::-1])
    mode = "nearest" if order else "constant"
    moved = ndimage.affine_transform(
        values, by_axis, voxels[:3, 3][::-1], output_shape=target.shape, order=order, mode=mode, cval=int(Tissue.AIR)
    )
    return cast(_Array, np.asarray(moved, dtype=values.dtype))


def _with_liver_by_truth(labels: Labels, liver_mm: Field) -> Labels:
    """Labels and truth are rounded differently by a turn: the truth decides, neighbours fill what is left."""
    result = labels.copy()
    inside, labelled = liver_mm < 0, is_liver(labels)
    result[inside & ~labelled] = Tissue.LIVER
    beyond = ~inside & labelled
    if beyond.any():
        where = np.stack(np.nonzero(beyond))
        outwards = np.stack([_slope(liver_mm, where, axis) for axis in range(3)])
        outwards /= np.maximum(np.linalg.norm(outwards, axis=0), 1e-6)
        found = np.full(where.shape[1], Tissue.FAT, dtype=np.uint8)
        missing = np.ones(where.shape[1], dtype=np.bool_)
        for far in (1.0, 1.5, 2.0, 3.0):
            at = np.rint(where + far * outwards).astype(int)
            at = np.clip(at, 0, np.array(labels.shape)[:, None] - 1)
            tissue = labels[tuple(at)]
            usable = missing & ~is_liver(tissue)
            found[usable] = tissue[usable]
            missing &= ~usable
        result[beyond] = found
    return result


def _slope(values: Field, where: np.ndarray, axis: int) -> np.ndarray:
    low, high = where.copy(), where.copy()
    low[axis] = np.maximum(low[axis] - 1, 0)
    high[axis] = np.minimum(high[axis] + 1, values.shape[axis] - 1)
    return np.asarray(values[tuple(high)] - values[tuple(low)])


def _without_couch(labels: Labels) -> Labels:
    return np.where(labels == Tissue.COUCH, np.uint8(Tissue.AIR), labels)


def _with_couch(labels: Labels, grid: Grid, side: int, rng: np.random.Generator) -> Labels:
    """One curved shell under the body, behind (side 1) or in front of it (side -1), the same in every slice."""
    result = labels.copy()
    step, origin = float(grid.spacing[0]), grid.lps_from_voxel[:3, 3]
    body = (labels != Tissue.AIR).any(axis=0)
    rows = np.flatnonzero(body.any(axis=1))
    if not len(rows):
        return result
    y = origin[1] + step * np.arange(labels.shape[1])
    x = origin[0] + step * np.arange(labels.shape[2])
    edge = y[rows[-1] if side > 0 else rows[0]]
    columns = np.flatnonzero(body.any(axis=0))
    across = x - (x[columns[0]] + x[columns[-1]]) / 2
    curve = edge + side * (rng.uniform(3, 8) - across**2 * rng.uniform(0.0002, 0.0006))
    shell = (np.abs(y[:, None] - curve[None, :]) < 2.2) & (np.abs(across) < rng.uniform(170, 230))[None, :]
    result[(result == Tissue.AIR) & shell[None]] = Tissue.COUCH
    return result


def _flattened_in_front(labels: Labels, step: float) -> Labels:
    """The belly's fat, pressed flat by the couch as far as no other tissue is in the way."""
    result = labels.copy()
    first = [np.flatnonzero(where.any(axis=(0, 2))) for where in (labels != Tissue.AIR, ~np.isin(labels, _PLIABLE))]
    if not len(first[0]) or not len(first[1]):
        return result
    flat = min(first[0][0] + int(_MAX_FLATTENED_MM / step), first[1][0] - int(np.ceil(_SKIN_MM / step)) - 1)
    if flat <= first[0][0]:
        return result
    skin = result[:, flat : flat + int(np.ceil(_SKIN_MM / step))]
    skin[skin == Tissue.FAT] = Tissue.SKIN
    result[:, :flat] = Tissue.AIR
    return result


def _with_gas_at_the_back(labels: Labels) -> Labels:
    """In every part of the gut the gas changes places with what lies behind it."""
    result = labels.copy()
    lumen = np.isin(labels, _LUMEN)
    parts, _ = ndimage.label(lumen)
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        own = parts[box] == number
        region = result[box]
        tissues = region[own]
        gas = int((tissues == Tissue.GUT_GAS).sum())
        if 0 < gas < len(tissues):
            filling = tissues[tissues != Tissue.GUT_GAS]
            from_the_back = np.argsort(-np.nonzero(own)[1], kind="stable")
            mixed = np.empty_like(tissues)
            mixed[from_the_back[:gas]] = Tissue.GUT_GAS
            mixed[from_the_back[gas:]] = filling
            region[own] = mixed
    return result
