"""The CT that the limits speak of: a phantom of 512 x 512 x 200 voxels whose liver no training has seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dissm_engine.bundle import Bundle
from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_phantom import Anatomy, Phantom, ScanProtocol, Trait, Variety, build_anatomy, scan
from training.sources.held_out import split_livers
from training.sources.source_at_path import open_source

SHAPE = (200, 512, 512)
ODD = (Trait.LEFT_LOBE_ROUND_SPLEEN, Trait.MASS_BESIDE_LIVER)
"""The traits of the patient on whom the third edition failed."""
_PIXEL_MM = 0.78
_LIVERS = "amos_livers_watertight_lps.npz"
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class BenchmarkCt:
    """phantom: the scan, its mask and surface. liver: where the surface came from."""

    phantom: Phantom
    liver: str
    seed: int

    @property
    def description(self) -> str:
        slices, rows, columns = self.phantom.volume.grid.shape
        spacing = " x ".join(f"{mm:.2f}" for mm in self.phantom.volume.grid.spacing)
        volume_ml = self.phantom.mask.sum() * self.phantom.volume.grid.voxel_ml
        return f"{columns}x{rows}x{slices}, {spacing} mm, phantom seed {self.seed}, {self.liver}, {volume_ml:.0f} ml"


def benchmark_ct(bundle: Bundle, seed: int, traits: Sequence[Trait] = ()) -> BenchmarkCt:
    """The CT of a seed, bit for bit the same wherever the shared data are the same.

    Around the held-out liver of median volume; without the shared data (DISSM_TEST_DATA, default ../shared/data)
    around one drawn from the bundle's own shape model, which is an easier input and therefore named. Every trait of
    `traits` is in it; without any it is an ordinary patient.
    """
    liver, name = benchmark_liver(bundle, seed)
    anatomy = build_anatomy(liver, seed, deform=False, whole_liver=True, variety=Variety.plain().always(*traits))
    phantom = scan(anatomy, filling_protocol(anatomy), seed)
    if phantom.volume.grid.shape != SHAPE:
        raise ValueError(f"the phantom of seed {seed} is {phantom.volume.grid.shape}, not {SHAPE}: take another seed")
    return BenchmarkCt(phantom, ", ".join([name, *traits]), seed)


def filling_protocol(anatomy: Anatomy) -> ScanProtocol:
    """The protocol whose grid over this body is SHAPE: the pixels and slices that it takes."""
    body = anatomy.grid
    extent = (np.array(body.shape[::-1]) - 1) * body.spacing
    # Half a voxel less than the number asked for, so that rounding up or down gives just that number.
    pixel = min(_PIXEL_MM, float(extent[:2].max()) / (SHAPE[2] - 0.5))
    return ScanProtocol(pixel_mm=pixel, slice_mm=float(extent[2]) / (SHAPE[0] + 0.5))


def benchmark_liver(bundle: Bundle, seed: int) -> tuple[TriangleMesh, str]:
    file = Path(os.environ.get("DISSM_TEST_DATA", _ROOT.parent / "shared" / "data")) / _LIVERS
    if file.is_file():
        livers = open_source(file).load()
        by_volume = sorted((livers[name].volume_ml, name) for name in split_livers(livers).held_out)
        name = by_volume[len(by_volume) // 2][1]
        return livers[name], f"held-out liver {name}"
    components = min(8, len(bundle.model.shape.latent_space.standard_deviation))
    loadings = np.clip(np.random.default_rng(seed).standard_normal(components), -1.5, 1.5).astype(np.float32)
    return bundle.model.shape.mesh(loadings, Pose.at(np.zeros(3))), "a liver drawn from the bundle's own shape model"
