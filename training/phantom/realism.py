"""How alike phantoms and CTs are: noise, its correlation, HU of the organs and the width of the liver's edge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dissm_engine.phantom import Phantom
from dissm_engine.volume import Volume, sample_at_lps

Box = tuple[slice, slice, slice]
_WINDOW = {"cmap": "gray", "vmin": -160, "vmax": 240}
_PROFILE_MM = np.arange(-12.0, 12.01, 0.25)


@dataclass(frozen=True)
class Specimen:
    """A CT to look at.

    boxes: flat regions (k, j, i slices) by organ's name. edge: LPS mm points [N, 3] on the liver's edge towards lung or
    fat and unit normals [N, 3] pointing out of the liver, or None.
    """

    name: str
    volume: Volume
    boxes: Mapping[str, Box]
    edge: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Likeness:
    """Median HU and noise sd by organ; correlation of neighbours (i, j, k) and 10-90 % edge width (mm) of the liver."""

    median_hu: Mapping[str, float]
    noise_sd: Mapping[str, float]
    correlation: tuple[float, float, float]
    edge_mm: float | None = field(default=None)


def measure(specimen: Specimen) -> Likeness:
    """Measure a specimen; the box named "liver" gives the noise's correlation. Raises KeyError without it."""
    medians, noises = {}, {}
    for organ, box in specimen.boxes.items():
        values = specimen.volume.hu[box].astype(np.float32)
        medians[organ] = float(np.median(values))
        noises[organ] = float(residual(values).std())
    liver = residual(specimen.volume.hu[specimen.boxes["liver"]].astype(np.float32))
    correlation = (neighbour_correlation(liver, 2), neighbour_correlation(liver, 1), neighbour_correlation(liver, 0))
    edge = None if specimen.edge is None else edge_width(specimen.volume, *specimen.edge)
    return Likeness(medians, noises, correlation, edge)


def residual(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What is left of a flat region [K, J, I] after its slow part is taken away."""
    return np.asarray(values - ndimage.gaussian_filter(values, (1.5, 6.0, 6.0)), dtype=np.float32)


def neighbour_correlation(noise: npt.NDArray[np.float32], axis: int) -> float:
    """Correlation of voxels next to each other along an axis."""
    first, second = np.delete(noise, -1, axis), np.delete(noise, 0, axis)
    return float((first * second).mean() / max(float((noise * noise).mean()), 1e-9))


def edge_width(volume: Volume, points: npt.NDArray[np.float64], normals: npt.NDArray[np.float64]) -> float:
    """Distance (mm) over which the mean profile across an edge falls from 90 % to 10 % of its step.

    points: LPS mm [N, 3] near the edge; every profile is centred on its own half height first, so that an error of
    the points does not count as blur. normals: [N, 3], pointing to the darker side.
    """
    along = points[:, None, :] + normals[:, None, :] * _PROFILE_MM[None, :, None]
    profiles = sample_at_lps(volume.hu.astype(np.float32), volume.grid, along)
    bright, dark = np.median(profiles[:, :16], axis=1), np.median(profiles[:, -16:], axis=1)
    share = (profiles - dark[:, None]) / np.where(bright > dark + 60, bright - dark, np.nan)[:, None]
    share = share[np.isfinite(share).all(axis=1)]
    if len(share) == 0:
        return float("nan")
    middle = np.argmin(np.abs(ndimage.gaussian_filter1d(share, 3, axis=1) - 0.5), axis=1) - len(_PROFILE_MM) // 2
    rows = np.arange(len(_PROFILE_MM))
    centred = np.array([np.interp(rows + m, rows, line) for m, line in zip(middle, share, strict=True)])
    mean = np.minimum.accumulate(np.median(centred, axis=0))
    step = _PROFILE_MM[1] - _PROFILE_MM[0]
    return float(np.count_nonzero((mean < 0.9) & (mean > 0.1)) * step)


def specimen_of(phantom: Phantom, name: str, seed: int = 0) -> Specimen:
    """A phantom as a specimen: a flat box deep in its liver, edge points where the dark side is lung or fat."""
    depth = ndimage.distance_transform_edt(phantom.mask, sampling=phantom.volume.grid.spacing[::-1])
    k, j, i = (int(n) for n in np.unravel_index(int(np.argmax(depth)), depth.shape))
    box = (slice(max(k - 4, 0), k + 5), slice(j - 14, j + 15), slice(i - 14, i + 15))
    chosen = np.random.default_rng(seed).choice(len(phantom.liver_mesh.vertices), 800, replace=False)
    edge = (phantom.liver_mesh.vertices[chosen], phantom.liver_mesh.normals[chosen])
    return Specimen(name, phantom.volume, {"liver": box}, edge)


def draw_realism(real: Sequence[Specimen], phantoms: Sequence[Specimen], out: Path) -> dict[str, Likeness]:
    """One figure (PNG) with axial, coronal and sagittal cuts of every specimen and what was measured on it.

    The cuts go through the middle of the box "liver". Returns the measurements by specimen's name.
    """
    specimens = [*real, *phantoms]
    likeness = {specimen.name: measure(specimen) for specimen in specimens}
    figure, axes = plt.subplots(3, len(specimens), figsize=(4 * len(specimens), 11), squeeze=False)
    for column, specimen in zip(axes.T, specimens, strict=True):
        _draw_cuts(column, specimen)
        column[0].set_title(_caption(specimen.name, likeness[specimen.name]), fontsize=8)
    figure.tight_layout()
    aside = out.with_suffix(".partial.png")
    figure.savefig(aside, dpi=80)
    plt.close(figure)
    aside.replace(out)
    return likeness


def _draw_cuts(axes: npt.NDArray[np.object_], specimen: Specimen) -> None:
    hu, spacing = specimen.volume.hu, specimen.volume.grid.spacing
    k, j, i = ((part.start + part.stop) // 2 for part in specimen.boxes["liver"])
    for axis, cut, aspect in (
        (axes[0], hu[k], 1.0),
        (axes[1], hu[::-1, j], spacing[2] / spacing[0]),
        (axes[2], hu[::-1, :, i], spacing[2] / spacing[1]),
    ):
        axis.imshow(cut, aspect=aspect, **_WINDOW)
        axis.axis("off")


def _caption(name: str, likeness: Likeness) -> str:
    organs = ", ".join(f"{organ} {hu:.0f}±{likeness.noise_sd[organ]:.0f}" for organ, hu in likeness.median_hu.items())
    neighbours = " ".join(f"{value:.2f}" for value in likeness.correlation)
    edge = "" if likeness.edge_mm is None else f"; edge {likeness.edge_mm:.1f} mm"
    return f"{name}\nHU {organs}\nneighbours i j k {neighbours}{edge}"
