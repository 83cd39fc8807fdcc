"""Samples for the refinement: a painted patch, a wrong prior, the true field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dissm_engine.refine.tissues import TissueClass
from dissm_engine.volume import AIR_HU
from dissm_phantom.appearance import Appearance
from dissm_phantom.appearance_randomisation import randomise_appearance
from dissm_phantom.diaphragm import with_diaphragm
from dissm_phantom.lesions import with_lesions
from dissm_phantom.motion import dome_slice
from dissm_phantom.scan_traits import ScanTraits
from dissm_phantom.tissue import LIVER_TISSUES, Tissue
from dissm_phantom.trait_rendering import render_hu_with_traits
from training.phantom.anatomy_files import load_anatomy
from training.refine.prior_errors import PriorErrors, perturbed_prior
from training.refine.refinement_settings import RefinementPreset

_MARGIN_MM = 44.0
_CLASSES: dict[TissueClass, tuple[Tissue, ...]] = {
    TissueClass.OTHER: (Tissue.MASS, Tissue.MASS_WALL, Tissue.COLLAPSED_LUNG, Tissue.CLIP),
    TissueClass.LIVER: LIVER_TISSUES,
    TissueClass.HEART: (Tissue.HEART_BLOOD, Tissue.MYOCARDIUM),
    TissueClass.VEIN: (Tissue.IVC, Tissue.PORTAL_TRUNK),
    TissueClass.AORTA: (Tissue.AORTA,),
    TissueClass.KIDNEY: (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA, Tissue.RENAL_PELVIS),
    TissueClass.SPLEEN: (Tissue.SPLEEN,),
    TissueClass.GUT: (
        Tissue.STOMACH_WALL,
        Tissue.STOMACH_CONTENT,
        Tissue.STOMACH_CONTRAST,
        Tissue.BOWEL_WALL,
        Tissue.BOWEL_CONTENT,
        Tissue.BOWEL_CONTRAST,
        Tissue.STOOL,
        Tissue.GUT_GAS,
        Tissue.FOOD,
        Tissue.FATTY_FOOD,
    ),
    TissueClass.FLUID: (
        Tissue.ASCITES,
        Tissue.EFFUSION,
        Tissue.GALLBLADDER,
        Tissue.DENSE_BILE,
        Tissue.GALLSTONE,
        Tissue.GALLSTONE_RIM,
        Tissue.MASS_CORE,
    ),
    TissueClass.MUSCLE: (Tissue.MUSCLE, Tissue.INTERCOSTAL, Tissue.DIAPHRAGM),
}


def class_table() -> npt.NDArray[np.uint8]:
    """uint8 [256]: tissue label of the phantom to class of the auxiliary head."""
    table = np.zeros(256, dtype=np.uint8)
    for kind, tissues in _CLASSES.items():
        table[[int(t) for t in tissues]] = int(kind)
    return table


@dataclass(frozen=True)
class LiverCrop:
    """What is kept of an anatomy: labels uint8 and the liver's distance float16 (mm), [K, J, I], around the liver.

    fits: distances (float16) of pose-stage results on the same voxels, if there are any.
    """

    labels: npt.NDArray[np.uint8]
    liver_mm: npt.NDArray[np.float16]
    spacing: float
    fits: tuple[npt.NDArray[np.float16], ...] = ()

    @cached_property
    def dome_k(self) -> int:
        """The highest slice that shows the liver."""
        return dome_slice(self.liver_mm)


@dataclass(frozen=True)
class RefinementSample:
    """Tensors [1, n, n, n]: hu, prior_mm, truth_mm, in_view; tissue long [n/stride]^3."""

    hu: Tensor
    prior_mm: Tensor
    truth_mm: Tensor
    in_view: Tensor
    tissue: Tensor


def load_crops(files: Sequence[Path], tile: int, fits: Path | None = None) -> list[LiverCrop]:
    """Anatomies cut to the liver's box and a margin, at least one tile large."""
    return [_load_crop(file, tile, fits) for file in files]


def _load_crop(file: Path, tile: int, fits: Path | None) -> LiverCrop:
    anatomy = load_anatomy(file)
    spacing = float(anatomy.grid.spacing[0])
    where = _liver_box(anatomy.liver.mm, spacing, tile)
    found: list[npt.NDArray[np.float16]] = []
    for fit in sorted(fits.glob(f"{file.stem}_*.npz")) if fits else []:
        with np.load(fit) as stored:
            found.append(stored["prior_mm"][where])
    return LiverCrop(anatomy.labels[where].copy(), anatomy.liver.mm[where].astype(np.float16), spacing, tuple(found))


def _liver_box(liver_mm: npt.NDArray[np.floating], spacing: float, tile: int) -> tuple[slice, ...]:
    margin = int(_MARGIN_MM / spacing)
    inside = liver_mm < 0
    box = []
    for axis in range(3):
        line = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = max(0, line[0] - margin), min(inside.shape[axis], line[-1] + 1 + margin)
        short = max(0, tile - (high - low))
        low = max(0, low - short)
        box.append(slice(low, min(inside.shape[axis], max(high, low + tile))))
    return tuple(box)


def draw_sample(
    crops: Sequence[LiverCrop],
    preset: RefinementPreset,
    table: npt.NDArray[np.uint8],
    rng: np.random.Generator,
) -> RefinementSample:
    """One painted patch near the surface of a random liver.

    Args:
        crops: Livers to choose from.
        preset: Size of the patch, how wrong its prior may be, and how often it has which lesions, looks and artefacts.
        table: Of `class_table`.
        rng: Draws everything; without traits the same as before there were any, bit for bit.
    """
    crop = crops[int(rng.integers(len(crops)))]
    n = preset.tile
    start = _patch_start(crop, n, rng)
    where = tuple(slice(s, s + n) for s in start)
    labels, truth = _to_size(crop.labels[where], n, 0), _to_size(crop.liver_mm[where].astype(np.float32), n, 40.0)
    labels = with_diaphragm(labels, truth, crop.spacing, rng)
    with_own_lesions = with_lesions(labels, truth, crop.spacing, rng)
    look = randomise_appearance(Appearance.draw(rng), rng)
    drawn = ScanTraits.draw(preset.variety, rng)
    hu = render_hu_with_traits(with_own_lesions, crop.spacing, look, rng, truth, drawn, crop.dome_k - start[0])
    in_view = _field_of_view(n, rng) & _inside(crop.labels[where].shape, n)
    hu = np.where(in_view, hu, np.float32(AIR_HU))
    if rng.random() < 0.15:
        hu = hu + np.where(in_view, rng.normal(0, 12), 0).astype(np.float32)
    prior = _draw_prior(crop, start, preset, rng)
    cells = slice(preset.stride // 2, None, preset.stride)
    return RefinementSample(
        hu=torch.from_numpy(hu.astype(np.float32))[None],
        prior_mm=prior[None],
        truth_mm=torch.from_numpy(truth)[None],
        in_view=torch.from_numpy(in_view.astype(np.float32))[None],
        tissue=torch.from_numpy(table[labels[cells, cells, cells]].astype(np.int64)),
    )


def _draw_prior(
    crop: LiverCrop, start: tuple[int, int, int], preset: RefinementPreset, rng: np.random.Generator
) -> Tensor:
    if not crop.fits or rng.random() >= preset.fit_share:
        return perturbed_prior(
            torch.from_numpy(crop.liver_mm.astype(np.float32)), start, preset.tile, crop.spacing, preset.errors, rng
        )
    fit = torch.from_numpy(crop.fits[int(rng.integers(len(crop.fits)))].astype(np.float32))
    mild = PriorErrors(shift_mm=2, rotation_degrees=2, scale=0.02, warp_mm=4, blur_mm=3, offset_mm=0.7, lump_share=0.1)
    return perturbed_prior(fit, start, preset.tile, crop.spacing, mild, rng)


def _patch_start(crop: LiverCrop, n: int, rng: np.random.Generator) -> tuple[int, int, int]:
    near = np.flatnonzero(np.abs(crop.liver_mm.ravel()[::_STRIDE]) < 10) * _STRIDE
    middle = np.unravel_index(int(near[rng.integers(len(near))]), crop.labels.shape)
    jitter = rng.integers(-n // 4, n // 4 + 1, 3)
    start = [
        int(np.clip(m + d - n // 2, 0, max(0, size - n)))
        for m, d, size in zip(middle, jitter, crop.labels.shape, strict=True)
    ]
    return start[0], start[1], start[2]


_STRIDE = 37


def _to_size(values: npt.NDArray[Any], n: int, fill: float) -> npt.NDArray[Any]:
    short = [(0, n - size) for size in values.shape]
    return np.pad(values, short, constant_values=fill) if any(s[1] for s in short) else np.ascontiguousarray(values)


def _inside(shape: tuple[int, ...], n: int) -> npt.NDArray[np.bool_]:
    k, j, i = (np.arange(n) < size for size in shape)
    return np.asarray(k[:, None, None] & j[None, :, None] & i[None, None, :])


def _field_of_view(n: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Now and then the CT ends within the patch, most often above or below."""
    view = np.ones((n, n, n), dtype=np.bool_)
    if rng.random() < 0.12:
        axis = int(rng.choice(3, p=[0.8, 0.1, 0.1]))
        cut = int(rng.integers(n // 8, n // 2))
        hidden = [slice(None)] * 3
        hidden[axis] = slice(0, cut) if rng.random() < 0.5 else slice(n - cut, n)
        view[tuple(hidden)] = False
    return view
