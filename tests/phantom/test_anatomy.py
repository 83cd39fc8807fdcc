"""The phantom generator: truth, determinism, contacts."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from dissm_engine.errors import GeometryError
from dissm_engine.mesh import TriangleMesh
from dissm_phantom import (
    Anatomy,
    Appearance,
    Phase,
    ScanProtocol,
    Tissue,
    build_anatomy,
    content_hash,
    head,
    is_liver,
    render_hu,
    scan,
    with_lesions,
    without_liver,
)


def wedge_liver() -> TriangleMesh:
    """A liver-like solid of the usual size: a big ellipsoid on the right, a flat one reaching to the left."""
    right = trimesh.creation.icosphere(4)
    vertices = np.asarray(right.vertices) * [95, 75, 72]
    left = np.clip(vertices[:, 0] / 95, 0, 1)
    vertices[:, 1] = vertices[:, 1] * (1 - 0.6 * left) - 28 * left
    vertices[:, 2] = vertices[:, 2] * (1 - 0.5 * left) + 12 * left
    return TriangleMesh(vertices, np.asarray(right.faces, dtype=np.int64))


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return build_anatomy(wedge_liver(), 3, deform=True, whole_liver=True)


@pytest.fixture(scope="module")
def bodies() -> list[Anatomy]:
    return [build_anatomy(wedge_liver(), seed, deform=False, whole_liver=True) for seed in (11, 12, 13)]


def test_the_same_seed_gives_the_same_body_and_scan_bit_for_bit(anatomy: Anatomy) -> None:
    again = build_anatomy(wedge_liver(), 3, deform=True, whole_liver=True)
    assert np.array_equal(again.labels, anatomy.labels)
    assert np.array_equal(again.liver.mm, anatomy.liver.mm)
    protocol = ScanProtocol(pixel_mm=1.6, slice_mm=5.0, matrix=256)
    first, second, other = scan(anatomy, protocol, 1), scan(again, protocol, 1), scan(anatomy, protocol, 2)
    assert content_hash(first) == content_hash(second)
    assert content_hash(first) != content_hash(other)


def test_the_liver_labels_are_exactly_the_inside_of_the_surface(anatomy: Anatomy) -> None:
    assert np.array_equal(is_liver(anatomy.labels), anatomy.liver.mm < 0)
    volume_ml = is_liver(anatomy.labels).sum() * anatomy.grid.voxel_ml
    assert volume_ml == pytest.approx(anatomy.liver_mesh.volume_ml, rel=0.01)


def test_the_signed_distance_is_true_near_the_surface(anatomy: Anatomy) -> None:
    at_surface = anatomy.liver.at(anatomy.liver_mesh.vertices)
    assert np.abs(at_surface).max() < 1.0
    outside = anatomy.liver.at(anatomy.liver_mesh.vertices + 5 * anatomy.liver_mesh.normals)
    assert np.median(np.abs(outside - 5)) < 0.3


def test_without_deformation_the_surface_is_the_given_one_moved_by_body_from_liver() -> None:
    liver = wedge_liver()
    anatomy = build_anatomy(liver, 5, deform=False, whole_liver=True)
    moved = liver.moved(anatomy.body_from_liver)
    assert np.allclose(moved.vertices, anatomy.liver_mesh.vertices)
    assert np.linalg.det(anatomy.body_from_liver[:3, :3]) > 0


@pytest.mark.parametrize(
    "tissue", [Tissue.LUNG, Tissue.DIAPHRAGM, Tissue.MYOCARDIUM, Tissue.KIDNEY_CORTEX, Tissue.INTERCOSTAL, Tissue.IVC]
)
def test_neighbours_touch_the_liver_in_most_bodies(tissue: Tissue, bodies: list[Anatomy]) -> None:
    touching = 0
    for body in bodies:
        near = (body.liver.mm > 0) & (body.liver.mm < 6)
        touching += bool((body.labels[near] == tissue).sum() > 20)
    assert touching >= 2


def test_an_open_mesh_is_refused() -> None:
    liver = wedge_liver()
    with pytest.raises(GeometryError, match="not closed"):
        build_anatomy(TriangleMesh(liver.vertices, liver.faces[1:]), 0)


def test_organs_lie_on_their_side_of_the_body(anatomy: Anatomy) -> None:
    def center(*tissues: Tissue) -> np.ndarray:
        k, j, i = np.nonzero(np.isin(anatomy.labels, tissues))
        return anatomy.grid.to_lps(np.stack([i, j, k], axis=1)).mean(axis=0)

    liver, spleen, heart = center(Tissue.LIVER), center(Tissue.SPLEEN), center(Tissue.MYOCARDIUM)
    spine = center(Tissue.SPINAL_CANAL)
    assert liver[0] < spine[0] < spleen[0]
    assert heart[2] > liver[2]
    assert spine[1] > liver[1]


def test_the_scan_mask_has_the_volume_of_the_mesh_and_its_hu_are_int16(anatomy: Anatomy) -> None:
    phantom = scan(anatomy, ScanProtocol(pixel_mm=1.5, slice_mm=2.5, matrix=320, outside_hu=-2000), 4)
    assert phantom.volume.hu.dtype == np.int16
    assert phantom.mask.shape == phantom.volume.hu.shape
    assert phantom.mask.sum() * phantom.volume.grid.voxel_ml == pytest.approx(phantom.liver_mesh.volume_ml, rel=0.01)
    assert phantom.volume.hu[0, 0, 0] == -2000


def test_paint_places_the_liver_edge_by_the_signed_distance_not_by_the_voxel_faces() -> None:
    mm = np.broadcast_to((np.arange(24, dtype=np.float32) - 11.3) * 2, (24, 24, 24)).copy()
    labels = np.where(mm < 0, Tissue.LIVER, Tissue.FAT).astype(np.uint8)
    plain = Appearance.draw(np.random.default_rng(0), Phase.VENOUS, randomised=False)
    hu = render_hu(labels, 2.0, plain, np.random.default_rng(1), mm)
    share = (hu - plain.hu[Tissue.FAT]) / (plain.hu[Tissue.LIVER] - plain.hu[Tissue.FAT])
    profile = share[4:-4, 4:-4].mean(axis=(0, 1))
    edge = np.interp(0.5, profile[14:8:-1], np.arange(14, 8, -1))
    assert edge == pytest.approx(11.3, abs=0.25)


def test_lesions_stay_inside_the_liver_and_the_given_labels_are_kept(anatomy: Anatomy) -> None:
    before = anatomy.labels.copy()
    drawn = with_lesions(anatomy.labels, anatomy.liver.mm, 2.0, np.random.default_rng(2), healthy_share=0.0)
    assert np.array_equal(anatomy.labels, before)
    changed = drawn != before
    assert changed.any()
    assert (anatomy.liver.mm[changed] < 0).all()
    assert np.array_equal(is_liver(drawn), is_liver(before))


def test_the_variant_without_liver_holds_none(anatomy: Anatomy) -> None:
    empty = without_liver(anatomy, 1)
    assert not is_liver(empty.labels).any()
    assert not scan(empty, ScanProtocol(pixel_mm=2.0, slice_mm=5.0, matrix=200), 1).mask.any()
    changed = empty.labels != anatomy.labels
    assert np.array_equal(changed, is_liver(anatomy.labels))


def test_a_head_has_a_skull_round_a_brain() -> None:
    volume = head(1, 4.0)
    middle = volume.hu[tuple(n // 2 for n in volume.hu.shape)]
    assert volume.hu.max() > 300
    assert -20 < middle < 90
