"""How good a refinement network is while it is trained: fixed patches of bodies that it does not learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.spatial import KDTree
from torch import nn

from dissm_engine.refine.refiner import input_channels
from training.refine.crops import LiverCrop, RefinementSample, class_table, draw_sample
from training.refine.refinement_settings import RefinementPreset

WATCHED = "validation_dsc"
"""The figure whose growth decides whether the training goes on."""
_SEED = 4231
_MARGIN_MM = 10.0
"""A surface point closer to the patch's border may have its nearest neighbour beyond it and is not measured."""


@dataclass(frozen=True, slots=True)
class PatchAgreement:
    """How well one refined patch agrees with the truth, where the network may change anything.

    Attributes:
        dsc: Of the insides, within the band around the prior and the field of view.
        distance_mm: Mean distance between the two surfaces, of both directions.
        bias_mm: The same with a sign: positive where the refined surface lies outside the true one.
    """

    dsc: float
    distance_mm: float
    bias_mm: float


@dataclass(frozen=True)
class ValidationPatches:
    """Patches that are always the same.

    Attributes:
        drawn: With priors of drawn errors.
        fitted: With priors that the pose stage ended with; empty as long as there are none.
        spacing: Of their voxels, mm.
        band_mm: Only there does the network change the prior.
    """

    drawn: tuple[RefinementSample, ...]
    fitted: tuple[RefinementSample, ...]
    spacing: float
    band_mm: float

    @staticmethod
    def draw(crops: Sequence[LiverCrop], preset: RefinementPreset, count: int) -> ValidationPatches:
        """Draw patches of some bodies, in turn; half as many with fitted priors where the crops have any.

        Args:
            crops: Of bodies that no training sees.
            preset: Says how samples are drawn; its share of fitted priors does not count.
            count: How many patches have drawn errors.
        """
        drawn = tuple(_samples(crops, preset.model_copy(update={"fit_share": 0.0}), count))
        with_fits = [crop for crop in crops if crop.fits]
        fitted = tuple(_samples(with_fits, preset.model_copy(update={"fit_share": 1.0}), count // 2))
        return ValidationPatches(drawn, fitted, crops[0].spacing, preset.band_mm)

    def measure(self, network: nn.Module, device: str = "cpu", half: bool = False) -> Mapping[str, float]:
        """Means over the patches, by the names that they have in `metrics.jsonl`; one network pass for each patch.

        Where there are fitted priors, `validation_dsc` is theirs and that of drawn ones is `validation_drawn_dsc`.
        """
        drawn = _means([self._agreement(network, sample, device, half) for sample in self.drawn])
        if not self.fitted:
            return {f"validation_{name}": value for name, value in drawn.items()}
        fitted = _means([self._agreement(network, sample, device, half) for sample in self.fitted])
        return {
            **{f"validation_{name}": value for name, value in fitted.items()},
            **{f"validation_drawn_{name}": value for name, value in drawn.items()},
        }

    @torch.no_grad()
    def _agreement(self, network: nn.Module, sample: RefinementSample, device: str, half: bool) -> PatchAgreement:
        channels = input_channels(sample.hu[None], sample.prior_mm[None], sample.in_view[None]).to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            change, _ = network.eval()(channels)
        prior = sample.prior_mm[0].numpy()
        where = (np.abs(prior) <= self.band_mm) & (sample.in_view[0].numpy() > 0)
        field = prior + np.where(where, change[0, 0].float().cpu().numpy(), np.float32(0))
        return agreement(field, sample.truth_mm[0].numpy(), where, self.spacing)


def agreement(
    field_mm: npt.NDArray[np.float32],
    truth_mm: npt.NDArray[np.float32],
    where: npt.NDArray[np.bool_],
    spacing: float,
) -> PatchAgreement:
    """Compare two fields, mm on isotropic voxels of `spacing` mm, within `where`. Shapes [n, n, n]."""
    found, true = (field_mm < 0) & where, (truth_mm < 0) & where
    dsc = 2.0 * float((found & true).sum()) / max(1.0, float(found.sum() + true.sum()))
    found_points, true_points = (_crossings(mm, spacing) for mm in (field_mm, truth_mm))
    size = (field_mm.shape[0] - 1) * spacing
    directions = []
    for points, surface, mm, outward in (
        (found_points, true_points, truth_mm, 1.0),
        (true_points, found_points, field_mm, -1.0),
    ):
        measured = points[_measured(points, where, spacing, size)]
        if len(measured) and len(surface):
            directions.append(outward * _signed_distances(measured, surface, mm, spacing))
    if not directions:
        return PatchAgreement(dsc, 0.0, 0.0)
    mean = float(np.mean([np.abs(signed).mean() for signed in directions]))
    return PatchAgreement(dsc, mean, float(np.mean([signed.mean() for signed in directions])))


def _signed_distances(
    points: npt.NDArray[np.float64], surface: npt.NDArray[np.float64], mm: npt.NDArray[np.float32], spacing: float
) -> npt.NDArray[np.float64]:
    """Distance of each point to a surface given by points on it, positive outside of it; mm.

    The nearest point of the surface lies up to a voxel beside the foot of the perpendicular: where it lies that near,
    the distance to the plane through it counts.
    """
    _, nearest = KDTree(surface).query(points)
    apart = points - surface[nearest]
    place = surface[nearest].T / spacing
    normal = np.stack([ndimage.map_coordinates(part, place, order=1, mode="nearest") for part in np.gradient(mm)], 1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    along = (apart * normal).sum(axis=1)
    distance = np.linalg.norm(apart, axis=1)
    beside = np.sqrt(np.maximum(distance**2 - along**2, 0))
    sign = np.sign(ndimage.map_coordinates(mm, points.T / spacing, order=1, mode="nearest"))
    return np.asarray(sign * np.where(beside <= spacing, np.abs(along), distance))


def _samples(crops: Sequence[LiverCrop], preset: RefinementPreset, count: int) -> Iterator[RefinementSample]:
    classes = class_table()
    for number in range(count if crops else 0):
        yield draw_sample([crops[number % len(crops)]], preset, classes, np.random.default_rng([_SEED, number]))


def _crossings(mm: npt.NDArray[np.float32], spacing: float) -> npt.NDArray[np.float64]:
    """Points [N, 3] (k, j, i in mm) where the field is zero between two neighbouring voxels, by straight lines."""
    points = []
    for axis in range(3):
        low, high = (np.moveaxis(mm, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        index = np.argwhere((low < 0) != (high < 0))
        a, b = low[tuple(index.T)].astype(np.float64), high[tuple(index.T)].astype(np.float64)
        place = index.astype(np.float64)
        place[:, 0] += a / (a - b)
        # The moved axis came first; the other two follow in their order.
        order = np.argsort([axis, *(other for other in range(3) if other != axis)])
        points.append(place[:, order] * spacing)
    return np.concatenate(points)


def _measured(
    points: npt.NDArray[np.float64], where: npt.NDArray[np.bool_], spacing: float, size_mm: float
) -> npt.NDArray[np.bool_]:
    """Which points lie where the network may change anything, and not at the patch's border."""
    voxel = tuple(np.round(points / spacing).astype(int).T)
    inner = ((points >= _MARGIN_MM) & (points <= size_mm - _MARGIN_MM)).all(axis=1)
    return np.asarray(inner & where[voxel])


def _means(found: Sequence[PatchAgreement]) -> dict[str, float]:
    return {
        "dsc": float(np.mean([one.dsc for one in found])),
        "mm": float(np.mean([one.distance_mm for one in found])),
        "bias_mm": float(np.mean([one.bias_mm for one in found])),
    }
