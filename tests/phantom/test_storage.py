"""Stored anatomies and frozen test phantoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from dissm_phantom import Anatomy, Phantom, ScanProtocol, Variety, build_anatomy, scan
from training.phantom.anatomies_stage import Bodies, build_anatomies
from training.phantom.anatomy_files import load_anatomy, save_anatomy
from training.phantom.scanned_phantoms import content_hash, make_test_phantom, scanned


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
    livers, bodies = {"a": ball(), "b": ball()}, Bodies(1, Variety.plain(), 100_001)
    (tmp_path / "0000.npz").write_bytes(b"drawn before")
    build_anatomies(livers, bodies, tmp_path, lambda stage, done: None)
    assert (tmp_path / "0000.npz").read_bytes() == b"drawn before"
    assert load_anatomy(tmp_path / "0001.npz").liver_name == "b"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_test_phantom_is_the_same_every_time_and_holds_the_whole_liver() -> None:
    first, second = make_test_phantom(ball(), 21), make_test_phantom(ball(), 21)
    assert content_hash(first) == content_hash(second)
    inside = first.mask.sum() * first.volume.grid.voxel_ml
    assert inside == pytest.approx(first.liver_mesh.volume_ml, rel=0.02)
