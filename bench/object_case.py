"""The delineated CT of 512 x 512 x 300 voxels from which `bench.result_objects` makes every kind of object."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.synthetic_ct import benchmark_liver
from dicom_node.assemble.volume import read_volume
from dicom_node.demo.ct_images import SyntheticStudy, write_ct_images
from dicom_node.values.ct_stack import CtStack
from dissm_engine.arithmetic import Arithmetic
from dissm_engine.bundle import Bundle
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Finding, Findings, Verdict
from dissm_engine.pose.similarity import Pose
from dissm_engine.preprocessing import FIELD_SPACING_MM
from dissm_engine.surface import OrganSurface
from dissm_engine.volume import Grid, SignedDistance, Volume, axis_aligned_grid
from dissm_phantom.placement import signed_distance

SHAPE = (300, 512, 512)
CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
INPUT_DIGEST = "cd" * 32
REASONS = ("the liver is cut at the lower end of the scan", "the contrast phase is arterial, not venous")
_SPACING_MM = (0.78, 0.78, 1.0)
_TISSUE_HU, _LIVER_HU, _NOISE_HU = 40, 110, 12
_AROUND_MM = 20.0


def make_case(folder: Path, seed: int) -> str:
    """Write the CT's images, the mask and the delineation; returns what the liver is.

    The delineation is the field of the liver's own surface on the engine's grid, not found by the engine: nothing
    that is measured here depends on how it was found.
    """
    bundle = Bundle.load(None)
    mesh, name = benchmark_liver(bundle, seed)
    affine = np.diag([*_SPACING_MM, 1.0])
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    affine[:3, 3] = middle - affine[:3, :3] @ (np.array(SHAPE[::-1]) - 1) / 2
    grid = Grid(SHAPE, affine)
    low, high = mesh.vertices.min(axis=0) - _AROUND_MM, mesh.vertices.max(axis=0) + _AROUND_MM
    field_grid = axis_aligned_grid(low, high, FIELD_SPACING_MM)
    surface = OrganSurface.of(SignedDistance(signed_distance(mesh, field_grid), field_grid), grid)
    delineation = _delineation(surface, grid, bundle)
    noise = np.random.default_rng(seed).normal(0, _NOISE_HU, SHAPE).astype(np.int16)
    hu = noise + np.where(surface.mask, np.int16(_LIVER_HU), np.int16(_TISSUE_HU))
    write_ct_images(Volume(hu, affine), SyntheticStudy(seed), folder / "ct")
    (folder / "delineation.pickle").write_bytes(pickle.dumps(delineation))
    _write_nrrd(surface.mask, grid, folder / "mask.nrrd")
    return name


def load_case(folder: Path) -> tuple[CtStack, Delineation]:
    """The CT, read from its files as a worker reads it, and the delineation."""
    stack = read_volume(sorted((folder / "ct").iterdir()))
    delineation: Delineation = pickle.loads((folder / "delineation.pickle").read_bytes())
    return stack, delineation


def _delineation(surface: OrganSurface, grid: Grid, bundle: Bundle) -> Delineation:
    item = Finding("volume", float(surface.mask.sum() * grid.voxel_ml), "ml", 600.0, 3000.0)
    return Delineation(
        field=surface.field,
        ct_grid=grid,
        mask=surface.mask,
        mesh=surface.mesh,
        pose=Pose.at(grid.center_lps),
        loadings=np.zeros(4, np.float32),
        findings=Findings((item,), 0.9, Verdict.REVIEW, REASONS),
        stage_seconds={},
        bundle_digest=bundle.digest,
        bundle_name=bundle.name,
        bundle_version=bundle.version,
        tissue_hu={"liver": float(_LIVER_HU), "spleen": 115.0},
        arithmetic=Arithmetic.current(),
        rounds=(),
    )


def _write_nrrd(mask: np.ndarray, grid: Grid, path: Path) -> None:
    """The mask as dcmqi reads it: one byte a voxel, the space is LPS."""
    directions = " ".join("(" + ",".join(f"{v:.9g}" for v in grid.lps_from_voxel[:3, axis]) + ")" for axis in range(3))
    origin = ",".join(f"{v:.9g}" for v in grid.lps_from_voxel[:3, 3])
    lines = [
        "NRRD0004",
        "type: uint8",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(str(n) for n in mask.shape[::-1]),
        f"space directions: {directions}",
        f"space origin: ({origin})",
        "encoding: raw",
    ]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + mask.astype(np.uint8).tobytes())
