"""Stored anatomies, frozen test phantoms and the figure of realism."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.special import erf

from dissm_engine.mesh import TriangleMesh
from dissm_engine.phantom import Anatomy, Phantom, ScanProtocol, build_anatomy, scan
from dissm_engine.volume import Volume
from training.phantom.realism import Specimen, draw_realism, edge_width, measure, specimen_of
from training.phantom.settings import PhantomPreset
from training.phantom.stage import build_anatomies
from training.phantom.storage import load_anatomy, save_anatomy
from training.phantom.test_phantoms import content_hash, make_test_phantom, scanned


def ball() -> TriangleMesh:
    sphere = trimesh.creation.icosphere(4)
    return TriangleMesh(np.asarray(sphere.vertices) * [80, 65, 60], np.asarray(sphere.faces, dtype=np.int64))


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return build_anatomy(ball(), 8, deform=True, whole_liver=True)


@pytest.fixture(scope="module")
def phantom(anatomy: Anatomy) -> Phantom:
    return scan(anatomy, ScanProtocol(pixel_mm=1.2, slice_mm=2.5, noise_sd=12.0, lesions=False), 1)


def test_a_stored_anatomy_comes_back_as_it_was(anatomy: Anatomy, tmp_path: Path) -> None:
    save_anatomy(tmp_path / "0000.npz", anatomy, "ball", 8)
    assert [path.name for path in tmp_path.iterdir()] == ["0000.npz"]
    stored = load_anatomy(tmp_path / "0000.npz")
    assert np.array_equal(stored.labels, anatomy.labels)
    assert np.array_equal(stored.body_from_liver, anatomy.body_from_liver)
    assert np.abs(stored.liver.mm - np.clip(anatomy.liver.mm, -60, 60)).max() < 0.04
    assert (stored.liver_name, stored.seed, stored.recipe) == ("ball", 8, dict(anatomy.recipe))
    assert scanned(stored, 3).hu.dtype == np.int16


def test_the_stage_keeps_the_bodies_that_are_there_and_draws_the_missing(tmp_path: Path) -> None:
    livers, preset = {"a": ball(), "b": ball()}, PhantomPreset(bodies_per_liver=1)
    (tmp_path / "0000.npz").write_bytes(b"drawn before")
    build_anatomies(livers, preset, 1, tmp_path, lambda stage, done: None)
    assert (tmp_path / "0000.npz").read_bytes() == b"drawn before"
    assert load_anatomy(tmp_path / "0001.npz").liver_name == "b"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_test_phantom_is_the_same_every_time_and_holds_the_whole_liver() -> None:
    first, second = make_test_phantom(ball(), 21), make_test_phantom(ball(), 21)
    assert content_hash(first) == content_hash(second)
    inside = first.mask.sum() * first.volume.grid.voxel_ml
    assert inside == pytest.approx(first.liver_mesh.volume_ml, rel=0.02)


def test_edge_width_of_a_gaussian_edge_is_2_56_sd() -> None:
    x = np.arange(80, dtype=np.float32) * 0.5
    sd = 2.0
    line = -100 + 100 * (1 - erf((x - 20) / (sd * np.sqrt(2))))
    volume = Volume(np.broadcast_to(line.astype(np.float32), (20, 20, 80)).copy(), np.diag([0.5, 0.5, 0.5, 1.0]))
    points = np.stack([np.full(30, 20.7), np.linspace(2, 8, 30), np.linspace(2, 8, 30)], axis=1)
    normals = np.tile([1.0, 0.0, 0.0], (30, 1))
    assert edge_width(volume, points, normals) == pytest.approx(2.56 * sd, abs=0.4)


def test_measured_noise_is_the_noise_that_was_put_in(phantom: Phantom) -> None:
    likeness = measure(specimen_of(phantom, "phantom"))
    assert likeness.noise_sd["liver"] == pytest.approx(12.0, rel=0.35)
    assert likeness.edge_mm is not None
    assert 1.0 < likeness.edge_mm < 9.0


def test_the_figure_of_realism_is_written_whole(phantom: Phantom, tmp_path: Path) -> None:
    specimen = specimen_of(phantom, "one")
    other = Specimen("two", phantom.volume, specimen.boxes)
    likeness = draw_realism([other], [specimen], tmp_path / "realism.png")
    assert set(likeness) == {"one", "two"}
    assert [path.name for path in tmp_path.iterdir()] == ["realism.png"]
    assert (tmp_path / "realism.png").read_bytes().startswith(b"\x89PNG")
