"""Traits of the liver's neighbours: each does in a built body what its name says, and nothing without it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy import ndimage

from dissm_engine.mesh import TriangleMesh
from dissm_engine.refine.tissues import TissueClass
from dissm_phantom import Anatomy, Appearance, Phase, Tissue, Trait, Variety, build_anatomy, is_liver
from dissm_phantom.body_plan import BodyPlan, draw_plan, with_traits
from dissm_phantom.carving import carve_liver
from dissm_phantom.filling import filled_to_volume
from dissm_phantom.masses import Mass
from tests.phantom.test_anatomy import wedge_liver
from training.refine.crops import class_table

MASS = (Tissue.MASS, Tissue.MASS_WALL, Tissue.MASS_CORE)
BILE = (Tissue.GALLBLADDER, Tissue.DENSE_BILE)
STONES = (Tissue.GALLSTONE, Tissue.GALLSTONE_RIM)
FIRST_LATER_TISSUE = 48


def crossing_liver() -> TriangleMesh:
    """A liver whose left lobe reaches far beyond the spine, in front of it."""
    liver = wedge_liver()
    vertices = liver.vertices.copy()
    left = np.clip(vertices[:, 0] / 40, 0, 1)
    vertices[:, 0] *= 1 + 0.5 * left
    vertices[:, 1] = vertices[:, 1] * (1 - 0.5 * left) - 25 * left
    return TriangleMesh(vertices, liver.faces)


def body(seed: int, *traits: Trait) -> Anatomy:
    variety = Variety.plain().always(*traits)
    return build_anatomy(crossing_liver(), seed, deform=False, whole_liver=True, variety=variety)


def ml(anatomy: Anatomy, *tissues: Tissue) -> float:
    return float(np.isin(anatomy.labels, tissues).sum() * anatomy.grid.voxel_ml)


def plan_of(liver: TriangleMesh, seed: int, *traits: Trait) -> BodyPlan:
    return with_traits(draw_plan(liver, np.random.default_rng(seed)), seed, frozenset(traits))


@pytest.fixture(scope="module")
def plain() -> Anatomy:
    """Of the same edition as the others; its trait concerns the look of the liver only."""
    return body(21, Trait.STEATOSIS)


@pytest.fixture(scope="module")
def solid() -> Anatomy:
    """With a mass and a large spleen."""
    return body(21, Trait.MASS_BESIDE_LIVER, Trait.SPLENOMEGALY)


@pytest.fixture(scope="module")
def full() -> Anatomy:
    """With a large dense gallbladder, stones in it, and food in the stomach."""
    return body(24, Trait.LARGE_GALLBLADDER, Trait.DENSE_GALLBLADDER, Trait.GALLSTONES, Trait.STOMACH_WITH_FOOD)


@pytest.fixture(scope="module")
def wet() -> Anatomy:
    return body(22, Trait.MUCH_ASCITES, Trait.PLEURAL_EFFUSION, Trait.ATELECTASIS, Trait.NO_GALLBLADDER)


@pytest.fixture(scope="module")
def carved() -> Anatomy:
    return body(23, Trait.ENCLOSED_VENA_CAVA, Trait.HILAR_FAT)


def test_a_plain_body_has_no_tissue_of_the_later_editions(plain: Anatomy) -> None:
    assert plain.labels.max() < FIRST_LATER_TISSUE


def test_the_surface_and_the_labels_agree_whatever_lies_beside_the_liver(
    solid: Anatomy, full: Anatomy, wet: Anatomy, carved: Anatomy
) -> None:
    for anatomy in (solid, full, wet, carved):
        assert np.array_equal(is_liver(anatomy.labels), anatomy.liver.mm < 0)
        assert anatomy.liver_mesh.closed
        volume_ml = is_liver(anatomy.labels).sum() * anatomy.grid.voxel_ml
        assert volume_ml == pytest.approx(anatomy.liver_mesh.volume_ml, rel=0.01)


def test_neighbours_leave_the_liver_as_it_is(plain: Anatomy, solid: Anatomy) -> None:
    assert np.array_equal(plain.liver_mesh.vertices, solid.liver_mesh.vertices)
    assert np.array_equal(is_liver(plain.labels), is_liver(solid.labels))


@pytest.mark.parametrize("seed", [31, 32, 33])
def test_a_mass_lies_on_the_liver_with_no_more_than_a_good_third_of_its_surface(seed: int) -> None:
    anatomy = body(seed, Trait.MASS_BESIDE_LIVER)
    mass = np.isin(anatomy.labels, MASS)
    assert 15 < ml(anatomy, *MASS) < 1550
    surface = mass & ~ndimage.binary_erosion(mass)
    near = ndimage.binary_dilation(is_liver(anatomy.labels), iterations=2)
    assert 0.03 < near[surface].mean() < 0.42
    assert ndimage.label(mass)[1] == 1


def test_organs_give_way_to_a_mass() -> None:
    mass = Mass("renal", "solid", np.array([0.0, 0.0, 0.0]), 50.0, 0.2)
    down = np.array([0.0, 0.0, -1.0])
    moved = mass.made_room(np.array([10.0, 0.0, -20.0]), 30.0, down)
    assert np.linalg.norm(moved) == pytest.approx(80.0, abs=1e-6) or moved[2] == pytest.approx(-80.0)
    assert moved[2] < -20
    far = np.array([100.0, 0.0, 0.0])
    assert mass.made_room(far, 30.0, down) is far


def test_a_large_spleen_lies_on_the_left_lobe(plain: Anatomy, solid: Anatomy) -> None:
    spleen = solid.labels == Tissue.SPLEEN
    assert 400 < ml(solid, Tissue.SPLEEN) < 1850
    assert ml(solid, Tissue.SPLEEN) > 1.5 * ml(plain, Tissue.SPLEEN)
    on_liver = spleen & (solid.liver.mm < 4)
    assert on_liver.sum() * solid.grid.voxel_ml > 2.0


def test_a_large_dense_gallbladder_holds_stones_where_gravity_takes_them(full: Anatomy) -> None:
    assert ml(full, *BILE, *STONES) > 55
    assert ml(full, Tissue.DENSE_BILE) > 40
    assert ml(full, *STONES) > 0
    bile, stones = (np.argwhere(np.isin(full.labels, kinds)) for kinds in (BILE, STONES))
    assert stones[:, 1].mean() > bile[:, 1].mean()


def test_a_stomach_with_food_holds_meat_fat_and_little_gas(full: Anatomy) -> None:
    food = ml(full, Tissue.FOOD, Tissue.FATTY_FOOD)
    assert food > 25
    assert ml(full, Tissue.FOOD) > 5
    assert ml(full, Tissue.FATTY_FOOD) > 1


def test_without_a_gallbladder_there_are_clips_and_no_bile(wet: Anatomy) -> None:
    assert ml(wet, *BILE) == 0
    assert 0 < ml(wet, Tissue.CLIP) < 3
    assert wet.liver.mm[wet.labels == Tissue.CLIP].min() > 0


def test_much_ascites_holds_the_liver_off_the_wall(plain: Anatomy, wet: Anatomy) -> None:
    assert ml(wet, Tissue.ASCITES) > 500
    shell = (wet.liver.mm > 0) & (wet.liver.mm < 4)
    assert (wet.labels[shell] == Tissue.ASCITES).mean() > 0.3


def test_an_effusion_lies_behind_and_collapsed_lung_upon_it_or_on_the_dome(wet: Anatomy) -> None:
    assert ml(wet, Tissue.EFFUSION) > 30
    assert ml(wet, Tissue.COLLAPSED_LUNG) > 10
    fluid, lung = wet.labels == Tissue.EFFUSION, wet.labels == Tissue.LUNG
    middle = int(np.argwhere(wet.labels == Tissue.SPINAL_CANAL)[:, 2].mean())
    sides = (slice(None, middle), slice(middle, None))
    wetter = max(sides, key=lambda side: int(fluid[:, :, side].sum()))
    rows = [float(np.argwhere(part[:, :, wetter])[:, 1].mean()) for part in (fluid, lung)]
    assert (rows[0] - rows[1]) * wet.grid.spacing[1] > 10


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_liver_encloses_the_carved_vein_by_more_than_half(seed: int) -> None:
    liver = wedge_liver()
    made = carve_liver(liver, plan_of(liver, seed, Trait.ENCLOSED_VENA_CAVA))
    assert made.cava is not None
    assert made.cava.enclosed >= 0.6
    assert made.mesh.closed
    removed = liver.volume_ml - made.mesh.volume_ml
    whole = np.pi * made.cava.radius**2 * np.ptp(made.cava.knots[:, 2]) / 1000
    assert 0.15 * whole < removed < 1.5 * whole


def test_the_vein_fills_its_bed_and_is_not_liver(carved: Anatomy) -> None:
    whole = crossing_liver().moved(carved.body_from_liver)
    assert carved.liver_mesh.volume_ml < whole.volume_ml
    before = whole.trimesh.contains(carved.grid.to_lps(np.argwhere(carved.labels == Tissue.IVC)[::7, ::-1]))
    # Of the vein a part lies where liver was.
    assert before.sum() * 7 * carved.grid.voxel_ml > 5
    vein = carved.labels == Tissue.IVC
    assert (carved.liver.mm[vein] > 0).all()


def test_the_portal_bifurcation_lies_in_fat_outside_of_the_liver() -> None:
    liver = wedge_liver()
    made = carve_liver(liver, plan_of(liver, 5, Trait.HILAR_FAT))
    assert made.hilum is not None
    assert made.mesh.closed
    branches = np.concatenate([made.hilum.right, made.hilum.left])
    assert not made.mesh.trimesh.contains(branches).any()
    assert liver.trimesh.contains(branches).any()
    assert 0.9 * liver.volume_ml < made.mesh.volume_ml < liver.volume_ml


def test_without_its_traits_nothing_is_carved() -> None:
    liver = wedge_liver()
    assert carve_liver(liver, plan_of(liver, 5, Trait.GALLSTONES)).mesh is liver


def test_the_same_seed_draws_the_same_traits_bit_for_bit(carved: Anatomy) -> None:
    again = body(23, Trait.ENCLOSED_VENA_CAVA, Trait.HILAR_FAT)
    assert np.array_equal(again.labels, carved.labels)
    assert np.array_equal(again.liver.mm, carved.liver.mm)


def test_filling_takes_the_volume_asked_for_in_one_piece() -> None:
    axes = np.ogrid[-30:31, -30:31, -30:31]
    rank = np.sqrt(sum(np.asarray(axis, dtype=np.float32) ** 2 for axis in axes)).astype(np.float32)
    room = np.ones(rank.shape, dtype=bool)
    room[:, :25] = False
    filled = filled_to_volume(rank, room, 20000)
    assert filled.sum() == pytest.approx(20000, rel=0.02)
    assert not filled[~room].any()
    assert not filled_to_volume(rank, np.zeros_like(room), 10).any()


def test_every_later_tissue_has_hu_texture_and_a_class() -> None:
    look = Appearance.draw(np.random.default_rng(1), Phase.VENOUS, randomised=False)
    table = class_table()
    outside = [tissue for tissue in Tissue if tissue >= FIRST_LATER_TISSUE]
    assert all(table[tissue] != TissueClass.LIVER for tissue in outside)
    assert table[Tissue.FOOD] == TissueClass.GUT
    assert table[Tissue.DENSE_BILE] == TissueClass.FLUID
    assert 40 <= look.hu[Tissue.DENSE_BILE] <= 150
    assert 30 <= look.hu[Tissue.COLLAPSED_LUNG] <= 90
    assert look.hu[Tissue.CLIP] > 1000


def test_masses_often_look_like_lesions_of_the_liver() -> None:
    looks = [Appearance.draw(np.random.default_rng(seed), Phase.VENOUS, randomised=False) for seed in range(60)]
    alike = [abs(float(look.hu[Tissue.MASS] - look.hu[Tissue.LESION_HYPO])) < 7 for look in looks]
    assert 0.25 < np.mean(alike) < 0.75


@pytest.mark.parametrize("randomised", [False, True])
def test_later_tissues_take_nothing_from_the_generator_of_an_image(
    randomised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_them, without = np.random.default_rng(9), np.random.default_rng(9)
    first = Appearance.draw(with_them, Phase.VENOUS, randomised)
    monkeypatch.setattr("dissm_phantom.appearance.neighbour_hu", lambda *_: {})
    monkeypatch.setattr("dissm_phantom.appearance.neighbour_texture", lambda *_: {})
    second = Appearance.draw(without, Phase.VENOUS, randomised)
    assert with_them.random() == without.random()
    for field in fields(Appearance):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            one, other = one[:FIRST_LATER_TISSUE], other[:FIRST_LATER_TISSUE]
        assert np.array_equal(one, other)
