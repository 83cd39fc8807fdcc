"""What a CT scanner would store of an anatomy: int16 HU on a scanner's grid, with the truth on the same grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid, Volume
from dissm_phantom.anatomy import Anatomy, Recipe
from dissm_phantom.appearance import Appearance, Phase
from dissm_phantom.appearance_randomisation import randomise_appearance
from dissm_phantom.appearance_traits import appearance_with_traits
from dissm_phantom.diaphragm import with_diaphragm
from dissm_phantom.lesions import with_lesions
from dissm_phantom.patient_position import positioned
from dissm_phantom.rendering import MAX_HU, MIN_HU, scanner_noise, with_overshoot
from dissm_phantom.scan_traits import SCAN_TRAITS, ScanTraits
from dissm_phantom.tissue import is_liver
from dissm_phantom.trait_rendering import render_without_noise
from dissm_phantom.variety import Trait

_MAX_THIN_SLICES = 450
_SPREAD_MM, _SOFT_SPREAD_MM = 0.7, 1.15
"""Most blur at the scanner's own resolution, usually and with a soft kernel (sd)."""


@dataclass(frozen=True)
class ScanProtocol:
    """How a scan is stored.

    Attributes:
        pixel_mm: In-plane spacing.
        slice_mm: Distance between slices, and their thickness.
        matrix: Maximum number of columns and of rows.
        noise_sd: Standard deviation of the noise at that resolution, HU.
        outside_hu: What is stored outside the circular field of view; None: there is no circle.
        phase: When the scan is taken after contrast.
        randomised: Whether the HU of the tissues are strongly randomised.
        lesions: Whether lesions may be drawn in the liver.
        appearance_randomisation: Whether `randomise_appearance` is applied to the appearance that was drawn.
        diaphragm: Whether `with_diaphragm` may draw a sheet of muscle on the liver.
    """

    pixel_mm: float = 0.78
    slice_mm: float = 2.5
    matrix: int = 512
    noise_sd: float = 16.0
    outside_hu: int | None = None
    phase: Phase = Phase.VENOUS
    randomised: bool = False
    lesions: bool = True
    appearance_randomisation: bool = False
    diaphragm: bool = False

    @staticmethod
    def draw(rng: np.random.Generator) -> ScanProtocol:
        """A random protocol: 0.65-0.9 mm in plane, 1-5 mm slices, noise like thin and thick reconstructions."""
        slice_mm = float(rng.choice([1.0, 1.25, 2.0, 2.5, 3.0, 5.0], p=[0.1, 0.15, 0.15, 0.3, 0.15, 0.15]))
        return ScanProtocol(
            pixel_mm=float(rng.uniform(0.65, 0.9)),
            slice_mm=slice_mm,
            noise_sd=float(np.clip(np.exp(rng.normal(np.log(20), 0.4)) * (2.0 / slice_mm) ** 0.35, 6, 45)),
            outside_hu=int(rng.choice([-1024, -2000])) if rng.random() < 0.6 else None,
            phase=Phase(str(rng.choice(list(Phase), p=[0.8, 0.12, 0.08]))),
            randomised=bool(rng.random() < 0.1),
        )


@dataclass(frozen=True)
class Phantom:
    """A stored scan and its truth.

    Attributes:
        volume: int16 HU on the CT's grid.
        mask: bool [K, J, I] on that grid, where the signed distance at the voxel's centre is negative.
        liver_mesh: The true surface, LPS mm.
        recipe: What was drawn.
    """

    volume: Volume
    mask: npt.NDArray[np.bool_]
    liver_mesh: TriangleMesh
    recipe: Recipe


def scan(anatomy: Anatomy, protocol: ScanProtocol, seed: int) -> Phantom:
    """Scan an anatomy with its traits; the same arguments give the same scan, bit for bit.

    A body that lies face down is stored as scanners do, rows and columns running against x and y.
    """
    drawn = ScanTraits(anatomy.traits & SCAN_TRAITS, seed)
    anatomy = positioned(anatomy, drawn)
    protocol = protocol_with_traits(protocol, drawn, anatomy.grid)
    rng = np.random.default_rng(seed)
    appearance = Appearance.draw(rng, protocol.phase, protocol.randomised)
    if protocol.appearance_randomisation:
        appearance = randomise_appearance(appearance, rng)
    appearance = appearance_with_traits(appearance, drawn)
    labels, step = anatomy.labels, float(anatomy.grid.spacing[0])
    if protocol.diaphragm:
        labels = with_diaphragm(labels, anatomy.liver.mm, step, rng)
    if protocol.lesions:
        labels = with_lesions(labels, anatomy.liver.mm, step, rng)
    grid = scan_grid(anatomy.grid, protocol, float(anatomy.recipe.get("trunk_mm", 0.0)))
    hu = _scanned_tissue(anatomy, labels, appearance, grid, rng, drawn)
    hu += _noise(grid, protocol, appearance, rng)
    if protocol.outside_hu is not None:
        hu[:, ~_field_of_view(grid)] = protocol.outside_hu
    stored = np.clip(np.rint(hu), min(MIN_HU, protocol.outside_hu or 0), MAX_HU).astype(np.int16)
    mask = on_scan_grid(anatomy.liver.mm, anatomy.grid, grid) < 0
    recipe = {**anatomy.recipe, "scan_seed": seed, "phase": str(appearance.phase), "randomised": appearance.randomised}
    affine = grid.lps_from_voxel
    if Trait.PRONE in drawn:
        stored, mask, affine = stored[:, ::-1, ::-1].copy(), mask[:, ::-1, ::-1].copy(), _face_down(grid)
    return Phantom(Volume(stored, affine), mask, anatomy.liver_mesh, recipe)


def protocol_with_traits(protocol: ScanProtocol, drawn: ScanTraits, body: Grid) -> ScanProtocol:
    """The protocol as slices, kernel and dose of a use change it; without such traits it is returned as it is.

    Args:
        protocol: What was drawn or asked for.
        drawn: The traits of this use.
        body: Grid of the anatomy; thin slices are never so thin that there would be more than `_MAX_THIN_SLICES`.
    """
    if Trait.THIN_SLICES in drawn:
        extent_mm = (body.shape[0] - 1) * float(body.spacing[2])
        thin = float(drawn.generator(Trait.THIN_SLICES).uniform(0.5, 1.0))
        protocol = _with_slices(protocol, max(thin, extent_mm / _MAX_THIN_SLICES))
    elif Trait.THICK_SLICES in drawn:
        protocol = _with_slices(protocol, float(drawn.generator(Trait.THICK_SLICES).uniform(4.5, 6.0)))
    if Trait.SHARP_KERNEL in drawn:
        sharper = float(drawn.generator(Trait.SHARP_KERNEL).uniform(1.2, 1.8))
        protocol = replace(protocol, noise_sd=protocol.noise_sd * sharper)
    elif Trait.SOFT_KERNEL in drawn:
        softer = float(drawn.generator(Trait.SOFT_KERNEL).uniform(0.5, 0.8))
        protocol = replace(protocol, noise_sd=protocol.noise_sd * softer)
    if Trait.LOW_DOSE in drawn:
        protocol = replace(protocol, noise_sd=float(drawn.generator(Trait.LOW_DOSE).uniform(25, 60)))
    return protocol


def _with_slices(protocol: ScanProtocol, slice_mm: float) -> ScanProtocol:
    """Thinner slices are noisier, by the same law as `ScanProtocol.draw`."""
    noise = protocol.noise_sd * (protocol.slice_mm / slice_mm) ** 0.35
    return replace(protocol, slice_mm=slice_mm, noise_sd=noise)


def scan_grid(body: Grid, protocol: ScanProtocol, trunk_mm: float) -> Grid:
    """The scanner's grid: axial, centred on the body, never larger than the matrix, slices within the body's extent.

    Args:
        body: Grid of the anatomy.
        protocol: Spacing and matrix.
        trunk_mm: Width of the trunk (0: unknown); where the matrix would not cover it, pixels grow. Arms may be cut.
    """
    extent = (np.array(body.shape[::-1]) - 1) * body.spacing
    pixel = max(protocol.pixel_mm, trunk_mm / protocol.matrix)
    side = min(protocol.matrix, int(np.ceil(float(extent[:2].max()) / pixel)))
    slices = max(1, int(np.floor((extent[2] - protocol.slice_mm) / protocol.slice_mm)) + 1)
    affine = np.diag([pixel, pixel, protocol.slice_mm, 1.0])
    center = body.center_lps
    affine[:2, 3] = center[:2] - (side - 1) * pixel / 2
    affine[2, 3] = center[2] - (slices - 1) * protocol.slice_mm / 2
    return Grid((slices, side, side), affine)


def _scanned_tissue(
    anatomy: Anatomy,
    labels: npt.NDArray[np.uint8],
    appearance: Appearance,
    grid: Grid,
    rng: np.random.Generator,
    drawn: ScanTraits,
) -> npt.NDArray[np.float32]:
    """Tissue HU averaged over the slice thickness on the scan's grid; the liver's edge is cut at scan resolution."""
    step = float(anatomy.grid.spacing[0])
    thin = _without_thickness(appearance, _SOFT_SPREAD_MM if Trait.SOFT_KERNEL in drawn else _SPREAD_MM)
    # The dome may lie beyond the end of the scan, and then motion there does not show.
    dome_k = round(float((anatomy.liver_mesh.vertices[:, 2].max() - anatomy.grid.lps_from_voxel[2, 3]) / step))
    hu = render_without_noise(labels, step, thin, rng, anatomy.liver.mm, drawn, dome_k)
    samples = max(1, round(float(grid.spacing[2]) / step))
    total = np.zeros(grid.shape, dtype=np.float32)
    for n in range(samples):
        shifted = grid.lps_from_voxel.copy()
        shifted[2, 3] += ((n + 0.5) / samples - 0.5) * float(grid.spacing[2])
        total += on_scan_grid(hu, anatomy.grid, Grid(grid.shape, shifted))
    total /= np.float32(samples)
    if appearance.sharpening > 0:
        spacing = (float(grid.spacing[2]), float(grid.spacing[1]), float(grid.spacing[0]))
        total = with_overshoot(total, spacing, appearance.sharpening)
    return total


def _without_thickness(appearance: Appearance, max_spread_mm: float) -> Appearance:
    """The same look without what belongs to the scan's own grid; its point spread is small, since sampling blurs."""
    spread = min(appearance.point_spread_mm, max_spread_mm)
    return replace(appearance, slice_mm=0.0, point_spread_mm=spread, sharpening=0.0)


def _face_down(grid: Grid) -> npt.NDArray[np.float64]:
    """The affine after rows and columns were turned round: every voxel keeps its patient coordinates."""
    affine = grid.lps_from_voxel.copy()
    affine[:3, 3] = grid.to_lps([grid.shape[2] - 1, grid.shape[1] - 1, 0])
    affine[:3, :2] *= -1
    return affine


def _noise(
    grid: Grid, protocol: ScanProtocol, appearance: Appearance, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    along, rows, columns = appearance.noise_mm
    # Appearance's noise is that of a scan resampled to 2 mm; before resampling it is correlated over less.
    native = replace(appearance, noise_sd=protocol.noise_sd, noise_mm=(0.85 * along, 0.38 * rows, 0.55 * columns))
    spacing = (float(grid.spacing[2]), float(grid.spacing[1]), float(grid.spacing[0]))
    return scanner_noise(grid.shape, spacing, native, rng)


def _field_of_view(grid: Grid) -> npt.NDArray[np.bool_]:
    """The reconstruction circle [J, I]."""
    _, rows, columns = grid.shape
    y = (np.arange(rows) - (rows - 1) / 2) / (rows / 2)
    x = (np.arange(columns) - (columns - 1) / 2) / (columns / 2)
    return np.asarray(x[None, :] ** 2 + y[:, None] ** 2 <= 1.0)


def on_scan_grid(values: npt.NDArray[np.float32], source: Grid, target: Grid) -> npt.NDArray[np.float32]:
    """Trilinear samples of `values` on `source` at the voxels of `target`; both have LPS axes; the border repeats."""
    result = values
    for array_axis, axis in ((0, 2), (1, 1), (2, 0)):
        start = (target.lps_from_voxel[axis, 3] - source.lps_from_voxel[axis, 3]) / source.lps_from_voxel[axis, axis]
        step = target.lps_from_voxel[axis, axis] / source.lps_from_voxel[axis, axis]
        at = np.clip(start + step * np.arange(target.shape[array_axis]), 0, source.shape[array_axis] - 1)
        first = np.minimum(at.astype(int), max(source.shape[array_axis] - 2, 0))
        weight = (at - first).astype(np.float32).reshape([-1 if n == array_axis else 1 for n in range(3)])
        low = result.take(first, axis=array_axis)
        high = result.take(np.minimum(first + 1, source.shape[array_axis] - 1), axis=array_axis)
        high -= low
        high *= weight
        low += high
        result = low
    return result


def content_hash(phantom: Phantom) -> str:
    """SHA-256 (hex) of the stored HU (int16, little endian, C order) followed by the affine (float64)."""
    digest = hashlib.sha256(np.ascontiguousarray(phantom.volume.hu, dtype="<i2").tobytes())
    digest.update(np.ascontiguousarray(phantom.volume.lps_from_voxel, dtype="<f8").tobytes())
    return digest.hexdigest()


def liver_share(anatomy: Anatomy) -> float:
    """Share of the liver's volume that lies inside the scan, 0..1."""
    inside = float(is_liver(anatomy.labels).sum()) * anatomy.grid.voxel_ml
    return min(1.0, inside / max(anatomy.liver_mesh.volume_ml, 1e-6))
