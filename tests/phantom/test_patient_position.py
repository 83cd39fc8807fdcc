"""Turned and face-down patients: truth, couch and gas; and what whole scans make of traits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import SignedDistance, axis_aligned_grid
from dissm_phantom import Anatomy, ScanProtocol, ScanTraits, Tissue, Trait, content_hash, is_liver, scan
from dissm_phantom.patient_position import positioned, turned
from dissm_phantom.scanner import protocol_with_traits

PROTOCOL = ScanProtocol(pixel_mm=1.5, slice_mm=3.0, matrix=160, noise_sd=12.0)
CENTER = np.array([-25.0, -10.0, 5.0])
RADIUS = 40.0


@pytest.fixture(scope="module")
def body() -> Anatomy:
    """A fat cylinder on a couch, a ball of liver on its right, a stomach with gas in front on its left."""
    grid = axis_aligned_grid([-110, -110, -60], [110, 110, 60], 2.0)
    points = grid.points_lps().astype(np.float32)
    x, y = points[..., 0], points[..., 1]
    labels = np.where(x**2 + y**2 < 90**2, Tissue.FAT, Tissue.AIR).astype(np.uint8)
    labels[(x**2 + y**2 < 90**2) & (x**2 + y**2 > 87**2)] = Tissue.SKIN
    labels[(x**2 + y**2 < 70**2) & (x**2 + y**2 > 62**2)] = Tissue.MUSCLE
    labels[(y > 98) & (y < 102)] = Tissue.COUCH
    stomach = np.linalg.norm(points - np.array([42, -15, 0], dtype=np.float32), axis=-1) < 16
    labels[stomach] = Tissue.STOMACH_CONTENT
    labels[stomach & (y < -18)] = Tissue.GUT_GAS
    mm = (np.linalg.norm(points - CENTER.astype(np.float32), axis=-1) - RADIUS).astype(np.float32)
    labels[mm < 0] = Tissue.LIVER
    ball = trimesh.creation.icosphere(4, RADIUS)
    mesh = TriangleMesh(np.asarray(ball.vertices) + CENTER, np.asarray(ball.faces, dtype=np.int64))
    return Anatomy(labels, SignedDistance(mm, grid), mesh, np.eye(4), {"seed": 1})


def with_traits(body: Anatomy, *traits: Trait) -> Anatomy:
    return replace(body, traits=frozenset(traits))


def test_a_turned_body_keeps_liver_truth_and_mesh_together(body: Anatomy) -> None:
    result = turned(body, 25.0)
    assert np.array_equal(is_liver(result.labels), result.liver.mm < 0)
    assert np.abs(result.liver.at(result.liver_mesh.vertices)).max() < 0.5
    assert is_liver(result.labels).sum() == pytest.approx(is_liver(body.labels).sum(), rel=0.01)
    direction = CENTER[:2] - body.grid.center_lps[:2]
    angle = np.deg2rad(25.0)
    expected = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] @ direction
    assert np.allclose(result.liver_mesh.vertices.mean(axis=0)[:2], body.grid.center_lps[:2] + expected, atol=0.1)
    assert np.allclose(result.body_from_liver[:3, :3] @ result.body_from_liver[:3, :3].T, np.eye(3))


def test_an_oblique_body_lies_on_a_level_couch_and_is_turned_by_8_to_30_degrees(body: Anatomy) -> None:
    for seed in range(4):
        result = positioned(body, ScanTraits(frozenset({Trait.OBLIQUE}), seed))
        turn = result.body_from_liver
        assert 8 <= abs(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0]))) <= 30
        rows, columns = np.nonzero((result.labels == Tissue.COUCH)[0])
        assert len(rows)
        assert rows.min() > result.labels.shape[1] / 2
        assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2


def test_face_down_the_couch_is_in_front_and_gas_behind(body: Anatomy) -> None:
    result = positioned(body, ScanTraits(frozenset({Trait.PRONE}), 2))
    middle = body.labels.shape[1] / 2
    assert np.nonzero(result.labels == Tissue.COUCH)[1].max() < middle
    gas, filling = (np.nonzero(result.labels == t)[1] for t in (Tissue.GUT_GAS, Tissue.STOMACH_CONTENT))
    assert gas.mean() > filling.mean() + 5
    assert len(gas) == (body.labels == Tissue.GUT_GAS).sum()
    assert np.array_equal(is_liver(result.labels), is_liver(body.labels))
    assert (
        np.flatnonzero((result.labels == Tissue.SKIN).any(axis=(0, 2)))[0]
        > np.flatnonzero((body.labels == Tissue.SKIN).any(axis=(0, 2)))[0]
    )


def test_without_such_traits_the_body_is_the_given_one(body: Anatomy) -> None:
    assert positioned(body, ScanTraits(frozenset({Trait.LOW_DOSE}), 1)) is body


@pytest.mark.parametrize("trait", [Trait.PRONE, Trait.OBLIQUE, Trait.DOME_MOTION, Trait.METASTASES, Trait.THICK_SLICES])
def test_the_mask_of_a_scan_is_the_inside_of_its_surface(body: Anatomy, trait: Trait) -> None:
    phantom = scan(with_traits(body, trait), PROTOCOL, 3)
    assert phantom.mask.sum() * phantom.volume.grid.voxel_ml == pytest.approx(phantom.liver_mesh.volume_ml, rel=0.02)
    k, j, i = np.nonzero(phantom.mask)
    middle = phantom.volume.grid.to_lps(np.stack([i, j, k], axis=1)).mean(axis=0)
    assert np.allclose(middle, phantom.liver_mesh.vertices.mean(axis=0), atol=0.5)


def test_face_down_rows_and_columns_run_against_x_and_y(body: Anatomy) -> None:
    phantom = scan(with_traits(body, Trait.PRONE), PROTOCOL, 3)
    assert (np.diag(phantom.volume.lps_from_voxel)[:3] < [0, 0, 9]).all()
    assert phantom.volume.lps_from_voxel[2, 2] > 0


def test_a_scan_with_every_trait_is_the_same_twice_and_unlike_the_plain_one(body: Anatomy) -> None:
    odd = with_traits(body, *(set(Trait) - {Trait.THIN_SLICES}))
    first, second = scan(odd, PROTOCOL, 5), scan(odd, PROTOCOL, 5)
    assert content_hash(first) == content_hash(second)
    assert first.volume.hu.dtype == np.int16
    assert content_hash(first) != content_hash(scan(body, PROTOCOL, 5))


def test_traits_of_the_body_alone_change_nothing_in_its_scan(body: Anatomy) -> None:
    shaped = with_traits(body, Trait.RIEDEL_LOBE, Trait.MASS_BESIDE_LIVER)
    assert content_hash(scan(shaped, PROTOCOL, 5)) == content_hash(scan(body, PROTOCOL, 5))


def test_slices_and_dose_follow_the_traits(body: Anatomy) -> None:
    def changed(trait: Trait) -> ScanProtocol:
        return protocol_with_traits(PROTOCOL, ScanTraits(frozenset({trait}), 4), body.grid)

    assert 0.5 <= changed(Trait.THIN_SLICES).slice_mm <= 1.0
    assert changed(Trait.THIN_SLICES).noise_sd > PROTOCOL.noise_sd
    assert 4.5 <= changed(Trait.THICK_SLICES).slice_mm <= 6.0
    assert 25 <= changed(Trait.LOW_DOSE).noise_sd <= 60
    assert protocol_with_traits(PROTOCOL, ScanTraits(), body.grid) is PROTOCOL
