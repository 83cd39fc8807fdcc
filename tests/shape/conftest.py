"""A shape model that was really trained, on bodies whose every distance is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from dissm_engine.progress import Progress, no_progress
from dissm_engine.shape.model import ShapeModel
from training.bundle_start import BundleStart
from training.context import never_stop
from training.shape.shape_settings import ShapePreset
from training.shape.shape_stage import run_shape
from training.sources.surfaces_stage import run_surfaces


@dataclass(frozen=True)
class Sections:
    shape: ShapePreset


@dataclass(frozen=True)
class ShapeRun:
    folder: Path
    surfaces: Path
    preset: Sections
    seed: int = 3
    device: str = "cpu"
    progress: Progress = field(default=no_progress)
    stop: Callable[[], bool] = never_stop
    start: BundleStart | None = None


def lobed_body(rng: np.random.Generator) -> TriangleMesh:
    """A liver-sized body without symmetry (mm): an ellipsoid, thinner to the left, with a bump; proportions vary."""
    sphere = trimesh.creation.icosphere(subdivisions=4)
    x, y, z = sphere.vertices.T
    length, depth, height = np.array([95.0, 75.0, 55.0]) * rng.uniform(0.88, 1.12, 3)
    taper = 1 - rng.uniform(0.1, 0.55) * x
    bump = 1 + rng.uniform(0.1, 0.5) * np.exp(-((x + 0.5) ** 2 + (y - 0.6) ** 2 + (z - 0.6) ** 2) * 4)
    vertices = np.stack([x * length, y * depth * taper, z * height * taper], axis=1) * bump[:, None]
    return TriangleMesh(np.asarray(vertices), np.asarray(sphere.faces, dtype=np.int64))


@pytest.fixture(scope="session")
def bodies_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    arrays: dict[str, np.ndarray] = {}
    for number in range(15):
        mesh = lobed_body(rng)
        shift = rng.uniform(-20, 20, 3)
        arrays[f"body_{number:02d}.vertices_0.01mm"] = np.round((mesh.vertices + shift) * 100).astype(np.int16)
        arrays[f"body_{number:02d}.faces"] = mesh.faces.astype(np.int32)
    path = tmp_path_factory.mktemp("bodies") / "bodies.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def preset() -> ShapePreset:
    return ShapePreset(
        simplified_share=1.0,
        extremely_simplified_share=0.08,
        align_rounds=1,
        samples_per_shape=10_000,
        layers=4,
        width=64,
        latent_size=8,
        inject_at=2,
        epochs=400,
        batch_size=6,
        samples_per_step=320,
        checkpoint_every=200,
        precision="float32",
    )


@pytest.fixture(scope="session")
def finished_run(bodies_npz: Path, preset: ShapePreset, tmp_path_factory: pytest.TempPathFactory) -> ShapeRun:
    """Surfaces and shape stages, run once: eleven bodies to learn from, one for validation, three held out."""
    run = ShapeRun(tmp_path_factory.mktemp("run"), bodies_npz, Sections(preset))
    run_surfaces(run)
    run_shape(run)
    return run


@pytest.fixture(scope="session")
def model(finished_run: ShapeRun) -> ShapeModel:
    return ShapeModel.load(finished_run.folder / "shape")
