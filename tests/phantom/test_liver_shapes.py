"""Every known variant of the liver's shape: a solid, really that variant, the same from the same seed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Grid
from dissm_phantom import LIVER_SHAPES, Trait, Variety, build_anatomy, trait_generator
from dissm_phantom.liver_landmarks import landmarks_of
from dissm_phantom.liver_shapes import liver_of_shape
from dissm_phantom.placement import change_of_size
from dissm_phantom.shape_deformation import field_of, noise_on

SEEDS = (1, 2)


def ordinary_liver() -> TriangleMesh:
    """A solid of about 1700 ml with a thick right lobe that reaches far back and a flat left one in front."""
    sphere = trimesh.creation.icosphere(subdivisions=5)
    x, y, z = sphere.vertices.T
    left = np.clip((x + 0.2) / 1.2, 0, 1)
    vertices = np.stack(
        [100 * x, 78 * y * (1 - 0.62 * left) - 40 * left + 12 * (x < 0) * x * x, 68 * z * (1 - 0.5 * left) + 20 * left],
        axis=1,
    )
    return TriangleMesh(vertices, np.asarray(sphere.faces, dtype=np.int64))


@pytest.fixture(scope="module")
def liver() -> TriangleMesh:
    return ordinary_liver()


@pytest.fixture(scope="module")
def changed(liver: TriangleMesh) -> Callable[[Trait], list[TriangleMesh]]:
    known: dict[Trait, list[TriangleMesh]] = {}

    def of_shape(shape: Trait) -> list[TriangleMesh]:
        if shape not in known:
            known[shape] = [liver_of_shape(liver, shape, trait_generator(seed, shape)) for seed in SEEDS]
        return known[shape]

    return of_shape


Changed = Callable[[Trait], list[TriangleMesh]]


@pytest.mark.parametrize("shape", LIVER_SHAPES)
def test_a_changed_liver_is_one_closed_solid_with_outward_faces(shape: Trait, changed: Changed) -> None:
    for mesh in changed(shape):
        assert mesh.closed
        assert mesh.volume_ml > 0
        assert mesh.trimesh.body_count == 1
        # A surface that ran through itself would enclose more than the voxels inside it.
        field = field_of(mesh)
        assert (field.mm < 0).sum() * field.grid.voxel_ml == pytest.approx(mesh.volume_ml, rel=0.02)


@pytest.mark.parametrize("shape", LIVER_SHAPES)
def test_the_same_seed_gives_the_same_mesh_within_three_seconds(
    shape: Trait, liver: TriangleMesh, changed: Changed
) -> None:
    start = time.process_time()
    again = liver_of_shape(liver, shape, trait_generator(SEEDS[0], shape))
    assert time.process_time() - start < 3
    first, second = changed(shape)
    assert np.array_equal(again.vertices, first.vertices)
    assert np.array_equal(again.faces, first.faces)
    assert first.vertices.shape != second.vertices.shape or not np.allclose(first.vertices, second.vertices)


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [
        (Trait.LEFT_LOBE_ROUND_SPLEEN, 1.01, 1.2),
        (Trait.RIEDEL_LOBE, 1.05, 1.45),
        (Trait.LARGE_LEFT_LOBE, 0.8, 1.5),
        (Trait.LARGE_CAUDATE_LOBE, 1.005, 1.15),
        (Trait.DEEP_FISSURES, 0.93, 0.995),
        (Trait.CIRRHOSIS, 0.55, 1.05),
        (Trait.RIGHT_RESECTION, 0.5, 0.9),
        (Trait.LEFT_RESECTION, 0.6, 0.99),
    ],
)
def test_the_volume_changes_as_much_as_the_variant_says(
    shape: Trait, low: float, high: float, liver: TriangleMesh, changed: Changed
) -> None:
    for mesh in changed(shape):
        assert low < mesh.volume_ml / liver.volume_ml < high


def test_very_large_and_very_small_livers_have_their_volumes(changed: Changed) -> None:
    assert all(2190 < mesh.volume_ml < 3510 for mesh in changed(Trait.VERY_LARGE_LIVER))
    assert all(499 < mesh.volume_ml < 801 for mesh in changed(Trait.VERY_SMALL_LIVER))


def test_the_left_lobe_reaches_to_beside_the_spleen(liver: TriangleMesh, changed: Changed) -> None:
    marks = landmarks_of(liver)
    for mesh in changed(Trait.LEFT_LOBE_ROUND_SPLEEN):
        beside = mesh.vertices[mesh.vertices[:, 0] > marks.spine_x + 0.6 * marks.half_width]
        before = liver.vertices[liver.vertices[:, 0] > marks.high[0] - 30]
        assert beside[:, 1].max() > before[:, 1].max() + 30
        assert beside[:, 1].max() > marks.cavity_y
        assert mesh.vertices[:, 0].max() > liver.vertices[:, 0].max() + 15


def test_riedels_lobe_reaches_down_on_the_right_only(liver: TriangleMesh, changed: Changed) -> None:
    low, left = liver.vertices[:, 2].min(), liver.vertices[:, 0].max()
    for mesh in changed(Trait.RIEDEL_LOBE):
        below = mesh.vertices[mesh.vertices[:, 2] < low - 20]
        assert below[:, 2].min() < low - 45
        assert below[:, 0].max() < 0
        assert mesh.vertices[:, 0].max() == pytest.approx(left, abs=3)


def test_the_left_lobe_grows_while_the_right_one_shrinks(liver: TriangleMesh, changed: Changed) -> None:
    for mesh in changed(Trait.LARGE_LEFT_LOBE):
        assert mesh.vertices[:, 0].max() > liver.vertices[:, 0].max() + 10
        assert _volume_right_of(mesh, -20) < 0.85 * _volume_right_of(liver, -20)
        assert mesh.volume_ml - _volume_right_of(mesh, 30) > 1.3 * (liver.volume_ml - _volume_right_of(liver, 30))


def test_the_caudate_lobe_stands_out_of_the_back_before_the_spine(liver: TriangleMesh, changed: Changed) -> None:
    marks = landmarks_of(liver)
    for mesh in changed(Trait.LARGE_CAUDATE_LOBE):
        added = mesh.vertices[field_of(liver).at(mesh.vertices) > 8]
        assert len(added) > 200
        assert np.abs(added[:, 0].mean() - marks.spine_x) < 40
        assert added[:, 1].mean() < marks.spine_y


def test_fissures_are_deep_and_narrow(liver: TriangleMesh, changed: Changed) -> None:
    for mesh in changed(Trait.DEEP_FISSURES):
        depth = -field_of(liver).at(mesh.vertices)
        assert depth.max() > 12
        assert mesh.area_cm2 > 1.02 * liver.area_cm2


def test_a_cirrhotic_outline_is_uneven(liver: TriangleMesh, changed: Changed) -> None:
    for mesh in changed(Trait.CIRRHOSIS):
        assert _unevenness(mesh) > 2 * _unevenness(liver)


def test_a_resection_leaves_its_own_side_empty(liver: TriangleMesh, changed: Changed) -> None:
    marks = landmarks_of(liver)
    behind = liver.vertices[:, 1].max()
    for mesh in changed(Trait.RIGHT_RESECTION):
        assert mesh.vertices[:, 1].max() < behind - 10
    for mesh in changed(Trait.LEFT_RESECTION):
        assert mesh.vertices[:, 0].max() < marks.high[0] - 30


def test_only_a_shape_can_be_asked_for(liver: TriangleMesh) -> None:
    with pytest.raises(ValueError, match="not a shape"):
        liver_of_shape(liver, Trait.GALLSTONES, np.random.default_rng(0))


def test_the_change_of_size_maps_a_liver_upon_the_very_large_one(liver: TriangleMesh) -> None:
    change = np.diag([1.3, 1.3, 1.3, 1.0])
    change[:3, 3] = [4, -7, 20]
    np.testing.assert_allclose(change_of_size(liver, liver.moved(change)), change, atol=1e-6)


def test_noise_has_about_the_length_that_was_asked_for() -> None:
    grid = Grid((90, 90, 90), np.diag([2.0, 2.0, 2.0, 1.0]))
    for length in (12.0, 30.0, 60.0):
        noise = noise_on(grid, length, np.random.default_rng(1))
        inner = noise[1:-1, 1:-1, 1:-1]
        peaks = np.ones(inner.shape, dtype=bool)
        for axis in range(3):
            peaks &= (inner > np.roll(noise, 1, axis)[1:-1, 1:-1, 1:-1]) & (
                inner >= np.roll(noise, -1, axis)[1:-1, 1:-1, 1:-1]
            )
        apart = (inner.size * 8.0 / peaks.sum()) ** (1 / 3)
        assert 0.5 * length < apart < 1.6 * length


def test_a_body_without_its_right_lobe_keeps_its_spine_and_says_so() -> None:
    liver = ordinary_liver()
    plain = Variety.plain().always(Trait.GALLSTONES)
    ordinary = build_anatomy(liver, 5, variety=plain)
    resected = build_anatomy(liver, 5, variety=plain.always(Trait.RIGHT_RESECTION))
    assert resected.traits == {Trait.GALLSTONES, Trait.RIGHT_RESECTION}
    assert resected.recipe["traits"] == "after resection on the right; gallstones"
    assert resected.recipe["trunk_mm"] == ordinary.recipe["trunk_mm"]
    assert np.array_equal(resected.body_from_liver, ordinary.body_from_liver)
    assert resected.liver_mesh.volume_ml < 0.95 * ordinary.liver_mesh.volume_ml


@pytest.mark.parametrize(
    ("traits", "truncated"),
    [
        ((Trait.CUT_ABOVE,), "dome"),
        ((Trait.CUT_BELOW,), "tip"),
        ((Trait.CUT_ABOVE, Trait.CUT_BELOW, Trait.RIEDEL_LOBE), "dome and tip"),
    ],
)
def test_a_scan_ends_within_the_liver_where_a_trait_says_so(traits: tuple[Trait, ...], truncated: str) -> None:
    body = build_anatomy(ordinary_liver(), 8, whole_liver=True, variety=Variety.plain().always(*traits))
    assert body.recipe["truncated"] == truncated
    ends = body.liver.mm[[-1, 0]].min(axis=(1, 2)) < 0
    assert ends.tolist() == [Trait.CUT_ABOVE in traits, Trait.CUT_BELOW in traits]
    assert body.liver.mm.min() < 0


def _volume_right_of(mesh: TriangleMesh, x: float) -> float:
    """ml of the solid whose x is below."""
    field = field_of(mesh)
    columns = field.grid.to_lps(np.stack([np.arange(field.grid.shape[2])] + [np.zeros(field.grid.shape[2])] * 2, 1))
    return float((field.mm[:, :, columns[:, 0] < x] < 0).sum() * field.grid.voxel_ml)


def _unevenness(mesh: TriangleMesh) -> float:
    """Mean angle between the normals of neighbouring faces, per mm of the edges' mean length."""
    return float(np.mean(mesh.trimesh.face_adjacency_angles) / np.mean(mesh.trimesh.edges_unique_length))
