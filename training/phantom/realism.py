"""How alike phantoms and CTs are: noise, texture, HU of the organs, the liver's edge; measured alike on both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize, special

from dissm_engine.mesh import TriangleMesh
from dissm_engine.refine.tissues import TissueClass
from dissm_engine.volume import Grid, SignedDistance, Volume, resample, sample_at_lps
from dissm_phantom import Phase, ScanProtocol, build_anatomy, scan
from training.refine.crops import class_table

WORKING_MM = 2.0
SCALES_MM = (0.0, 1.0, 2.0, 4.0, 8.0)
LAGS_MM = np.arange(0.0, 6.01, 0.5)
PROFILE_MM = np.arange(-12.0, 12.01, 0.25)
NEIGHBOURS: Mapping[str, tuple[float, float]] = {"lung": (-1000.0, -650.0), "fat": (-140.0, -60.0)}
"""HU between which the dark side of an edge must lie."""
_ORGANS = (TissueClass.AORTA, TissueClass.SPLEEN, TissueClass.KIDNEY, TissueClass.MUSCLE)
_CORE_MM = 12.0
_ORGAN_RIM_VOXELS = 2
_HIGH_PASS_MM = 3.0
_VESSEL_HU = 25.0
_MIN_VOXELS = 40
_MIN_PROFILES = 30
_MAX_VERTICES = 4000
_TEN_TO_NINETY = 2.563
"""Width of a Gaussian edge from 10 % to 90 % of its step, in standard deviations."""


@dataclass(frozen=True)
class Specimen:
    """A CT, a liver in it, and the tissues around the liver.

    liver: signed distance (mm) and tissue: `TissueClass` uint8 [K, J, I], both on `liver.grid` (isotropic, LPS axes).
    surface: the liver's, LPS mm. A phantom's are its truth; a CT without a mask has what was found in it.
    """

    name: str
    volume: Volume
    liver: SignedDistance
    tissue: npt.NDArray[np.uint8]
    surface: TriangleMesh

    @cached_property
    def native(self) -> Volume:
        """The scan's own voxels, float32, within the box of the liver."""
        ijk = self.volume.grid.to_voxel(self.surface.vertices)
        low = np.maximum(np.floor(ijk.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(ijk.max(axis=0)).astype(int) + 1, np.array(self.volume.hu.shape[::-1]))
        part = self.volume.hu[low[2] : high[2], low[1] : high[1], low[0] : high[0]].astype(np.float32)
        grid = self.volume.grid.crop((int(low[2]), int(low[1]), int(low[0])), _shape(part))
        return Volume(part, grid.lps_from_voxel)

    @cached_property
    def working(self) -> Volume:
        """The scan on the grid of the tissues, as the engine sees it."""
        return resample(self.volume, self.liver.grid)


@dataclass(frozen=True)
class Edge:
    """Mean profile over `PROFILE_MM`, 1 in the liver and 0 beyond; 10-90 % width (mm); how many profiles."""

    profile: npt.NDArray[np.float64]
    width_mm: float
    count: int


@dataclass(frozen=True)
class Noise:
    """Noise of the liver on one grid.

    sd: of the high-passed HU. neighbours: correlation of adjacent voxels along (i, j, k). in_plane: correlation at
    `LAGS_MM` along i and j. spacing: mm along (i, j, k).
    """

    sd: float
    neighbours: tuple[float, float, float]
    in_plane: npt.NDArray[np.float64]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class RealismMeasurements:
    """What is measured on a specimen, on its "native" voxels and at "2 mm".

    texture_sd: HU sd left in the liver after smoothing by each of `SCALES_MM` (sd of the filter), at 2 mm. organ_hu:
    medians. edges: by grid and by neighbour of the liver. A missing organ is NaN, an edge seldom seen has width NaN.
    """

    noise: Mapping[str, Noise]
    texture_sd: tuple[float, ...]
    organ_hu: Mapping[str, float]
    edges: Mapping[tuple[str, str], Edge]


def phantom_specimen(name: str, liver: TriangleMesh, seed: int) -> Specimen:
    """A scan as the latest frozen phantoms are made, in the venous phase and without randomised HU, with its truth."""
    anatomy = build_anatomy(liver, seed, deform=False, whole_liver=True)
    drawn = ScanProtocol.draw(np.random.default_rng(seed))
    protocol = replace(drawn, phase=Phase.VENOUS, randomised=False, appearance_randomisation=True, diaphragm=True)
    phantom = scan(anatomy, protocol, seed)
    return Specimen(name, phantom.volume, anatomy.liver, class_table()[anatomy.labels], anatomy.liver_mesh)


def measure(specimen: Specimen) -> RealismMeasurements:
    """Everything that is compared."""
    scans = {"native": specimen.native, "2 mm": specimen.working}
    return RealismMeasurements(
        noise={
            grid: measure_noise(volume, _depth(specimen.liver, volume.grid) > _CORE_MM)
            for grid, volume in scans.items()
        },
        texture_sd=texture(specimen.working, specimen.liver.mm),
        organ_hu=organ_hu(specimen),
        edges={
            (grid, neighbour): edge(volume, specimen.surface, limits)
            for grid, volume in (("native", specimen.volume), ("2 mm", specimen.working))
            for neighbour, limits in NEIGHBOURS.items()
        },
    )


def measure_noise(volume: Volume, core: npt.NDArray[np.bool_]) -> Noise:
    """Noise inside `core` [K, J, I], away from vessels and lesions.

    Only what varies within a slice over less than about 3 mm counts, whatever the voxels' size.
    """
    hu = np.asarray(volume.hu, dtype=np.float32)
    spacing = volume.grid.spacing
    slow = ndimage.gaussian_filter(hu, (0.0, _HIGH_PASS_MM / spacing[1], _HIGH_PASS_MM / spacing[0]))
    parenchyma = core & (np.abs(slow - np.median(slow[core])) < _VESSEL_HU)
    noise = np.where(parenchyma, hu - slow, np.float32(0))
    variance = float((noise * noise).sum() / parenchyma.sum())

    def correlation(axis: int, lag: int) -> float:
        both = _pair(parenchyma, axis, lag)
        products = _pair(noise, axis, lag)
        return float((products[0] * products[1]).sum() / max(np.count_nonzero(both[0] & both[1]), 1) / variance)

    lags = range(1, int(np.ceil(LAGS_MM[-1] / spacing[:2].min())) + 1)
    curves = [
        np.interp(LAGS_MM, [0.0, *(n * spacing[axis] for n in lags)], [1.0, *(correlation(2 - axis, n) for n in lags)])
        for axis in (0, 1)
    ]
    neighbours = (correlation(2, 1), correlation(1, 1), correlation(0, 1))
    return Noise(variance**0.5, neighbours, np.mean(curves, axis=0), (spacing[0], spacing[1], spacing[2]))


def texture(volume: Volume, liver_mm: npt.NDArray[np.float32]) -> tuple[float, ...]:
    """HU sd in the liver after smoothing by each of `SCALES_MM`; robust, so that vessels and lesions weigh little."""
    inside = liver_mm < -WORKING_MM
    core = liver_mm < -_CORE_MM
    hu = np.where(inside, volume.hu - np.median(volume.hu[core]), 0).astype(np.float32)
    spreads = []
    for scale in SCALES_MM:
        sd = scale / volume.grid.spacing[::-1]
        share = ndimage.gaussian_filter(inside.astype(np.float32), sd)
        smooth = ndimage.gaussian_filter(hu, sd)[core] / share[core]
        low, high = np.percentile(smooth, [15.87, 84.13])
        spreads.append(float(high - low) / 2)
    return tuple(spreads)


def organ_hu(specimen: Specimen) -> dict[str, float]:
    """Median HU at 2 mm of the liver's core and of other tissues without their rim; NaN where too little is seen."""
    hu, away = specimen.working.hu, specimen.liver.mm > 6
    medians = {"liver": float(np.median(hu[specimen.liver.mm < -_CORE_MM]))}
    for kind in _ORGANS:
        inner = ndimage.binary_erosion((specimen.tissue == kind) & away, iterations=_ORGAN_RIM_VOXELS)
        seen = np.count_nonzero(inner) >= _MIN_VOXELS
        medians[kind.name.lower()] = float(np.median(hu[inner])) if seen else float("nan")
    return medians


def edge(volume: Volume, surface: TriangleMesh, beyond_hu: tuple[float, float]) -> Edge:
    """The liver's edge where what lies 6-12 mm beyond it has an HU within `beyond_hu`.

    surface: LPS mm, near the edge. Every profile is centred on its own half height, so that an error of the surface
    does not count as blur.
    """
    chosen = np.random.default_rng(0).permutation(len(surface.vertices))[:_MAX_VERTICES]
    along = surface.vertices[chosen, None] + surface.normals[chosen, None] * PROFILE_MM[:, None]
    profiles = sample_at_lps(volume.hu, volume.grid, along, outside=np.nan).astype(np.float64)
    profiles = profiles[np.isfinite(profiles).all(axis=1)]
    bright, dark = profiles[:, PROFILE_MM < -6].mean(axis=1), profiles[:, PROFILE_MM > 6].mean(axis=1)
    unlike = np.abs(bright - np.median(bright)) > _VESSEL_HU
    uneven = np.ptp(ndimage.gaussian_filter1d(profiles[:, PROFILE_MM > 6], 4, axis=1), axis=1) > 0.25 * (bright - dark)
    wanted = (dark > beyond_hu[0]) & (dark < beyond_hu[1]) & ~unlike & ~uneven
    if np.count_nonzero(wanted) < _MIN_PROFILES:
        return Edge(np.full(len(PROFILE_MM), np.nan), float("nan"), int(np.count_nonzero(wanted)))
    share = (profiles[wanted] - dark[wanted, None]) / (bright - dark)[wanted, None]
    mean = np.mean([_centred(line) for line in share], axis=0)
    return Edge(mean, edge_width(mean), len(share))


def edge_width(profile: npt.NDArray[np.float64]) -> float:
    """10-90 % width (mm) of the error function that fits a falling profile over `PROFILE_MM`."""

    def model(x: npt.NDArray[np.float64], middle: float, sd: float, top: float, foot: float) -> npt.NDArray[np.float64]:
        return np.asarray(foot + (top - foot) * special.erfc((x - middle) / (np.sqrt(2) * sd)) / 2)

    limits = ([-6.0, 0.1, 0.5, -0.5], [6.0, 8.0, 1.5, 0.5])
    fitted, _ = optimize.curve_fit(model, PROFILE_MM, profile, p0=[0.0, 1.5, 1.0, 0.0], bounds=limits)
    return float(_TEN_TO_NINETY * fitted[1])


def _centred(line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A profile moved so that it passes half of its step in the middle; the crossing nearest to the middle counts."""
    smooth = ndimage.gaussian_filter1d(line, 4) - 0.5
    falls = np.flatnonzero((smooth[:-1] >= 0) & (smooth[1:] < 0))
    if len(falls) == 0:
        return line
    at = falls[np.argmin(np.abs(PROFILE_MM[falls]))]
    step = PROFILE_MM[1] - PROFILE_MM[0]
    middle = PROFILE_MM[at] + step * smooth[at] / (smooth[at] - smooth[at + 1])
    return np.asarray(np.interp(PROFILE_MM + middle, PROFILE_MM, line))


def _depth(liver: SignedDistance, grid: Grid) -> npt.NDArray[np.float32]:
    """How deep in the liver every voxel of a grid lies, mm, float32 [K, J, I]."""
    if grid is liver.grid or np.array_equal(grid.lps_from_voxel, liver.grid.lps_from_voxel):
        return -liver.mm
    planes = [grid.crop((k, 0, 0), (1, *grid.shape[1:])).points_lps()[0] for k in range(grid.shape[0])]
    return np.stack([-sample_at_lps(liver.mm, liver.grid, points) for points in planes])


def _pair(values: npt.NDArray[np.generic], axis: int, lag: int) -> tuple[npt.NDArray, npt.NDArray]:  # type: ignore[type-arg]
    """Views of the voxels that have one `lag` further along an axis, and of those."""
    moved = np.moveaxis(values, axis, 0)
    return moved[:-lag], moved[lag:]


def _shape(array: npt.NDArray[np.generic]) -> tuple[int, int, int]:
    k, j, i = array.shape
    return k, j, i
