"""The test phantoms of the fourth edition: the table, the open third, freezing, the truth of a scan that cuts."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dissm_engine.mesh import TriangleMesh
from dissm_engine.surface import mesh_of
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid
from dissm_phantom.variety import LIVER_SHAPES, Trait, Variety
from training.errors import RunError
from training.evaluate import freeze_phantoms, frozen_phantoms
from training.evaluate.frozen_phantoms import EvaluationPhantom, make_phantom
from training.evaluate.phantom_table import ORDINARY, PhantomSet, phantom_table
from training.evaluate.visible_surface import visible_surface
from training.sources.held_out import split_livers
from training.sources.meshes import write_mesh


def test_twenty_ordinary_and_forty_odd_ones_in_twenty_categories_of_two() -> None:
    table = phantom_table()
    assert Counter(recipe.set for recipe in table) == {PhantomSet.ORDINARY: 20, PhantomSet.ODD: 40}
    odd = Counter(recipe.category for recipe in table if recipe.set is PhantomSet.ODD)
    assert len(odd) == 20
    assert set(odd.values()) == {2}
    assert {recipe.category for recipe in table if recipe.set is PhantomSet.ORDINARY} == {ORDINARY}
    assert len({recipe.name for recipe in table}) == len({recipe.seed for recipe in table}) == 60


def test_every_liver_is_kept_out_of_training_and_all_sixteen_are_used_by_either_set() -> None:
    split = split_livers({recipe.liver for recipe in phantom_table()})
    assert len(split.held_out) == 16
    assert not split.training
    assert not split.validation
    for which in PhantomSet:
        assert len({recipe.liver for recipe in phantom_table() if recipe.set is which}) == 16


def test_a_third_of_either_set_is_open_and_no_category_altogether() -> None:
    table = phantom_table()
    assert Counter(recipe.set for recipe in table if recipe.open) == {PhantomSet.ORDINARY: 7, PhantomSet.ODD: 13}
    assert max(Counter(r.category for r in table if r.open and r.set is PhantomSet.ODD).values()) == 1


def test_a_body_has_the_traits_of_its_recipe_and_no_other() -> None:
    for recipe in phantom_table():
        assert Variety.plain().always(*recipe.traits).draw(recipe.seed) == set(recipe.traits)
        assert len(set(recipe.traits) & set(LIVER_SHAPES)) <= 1


def test_seeds_lie_below_those_of_training_and_apart_from_the_earlier_editions() -> None:
    earlier = {phantom.seed for phantom in frozen_phantoms.frozen_phantoms(final=True) if phantom.edition < 4}
    seeds = {recipe.seed for recipe in phantom_table()}
    assert len(earlier) == 36
    assert not seeds & earlier
    assert max(seeds) < 100_000


def test_what_is_frozen_is_the_table_and_closed_phantoms_come_only_in_the_end() -> None:
    everything = frozen_phantoms.frozen_phantoms(final=True)
    assert Counter(each.edition for each in everything if each.edition < 4) == {1: 20, 2: 8, 3: 8}
    fourth = [each for each in everything if each.edition == 4]
    if fourth:
        assert [replace(each, sha256=None) for each in fourth] == list(
            map(EvaluationPhantom.of_recipe, phantom_table())
        )
        assert len({each.sha256 for each in fourth}) == 60
    assert frozen_phantoms.frozen_phantoms() == [each for each in everything if each.open]


def test_json_gives_back_a_phantom() -> None:
    phantom = EvaluationPhantom.of_recipe(phantom_table()[23], "ab")
    assert EvaluationPhantom.from_json(json.loads(json.dumps(phantom.to_json()))) == phantom
    old = EvaluationPhantom("amos_001", 101, 1, "cd")
    assert EvaluationPhantom.from_json(json.loads(json.dumps(old.to_json()))) == old
    assert old.name == "amos_001_101"


def ball(radius_mm: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> TriangleMesh:
    grid = axis_aligned_grid(np.array(center) - radius_mm - 8, np.array(center) + radius_mm + 8, 3.0)
    distance = np.linalg.norm(grid.points_lps() - center, axis=-1) - radius_mm
    return mesh_of(SignedDistance(distance.astype(np.float32), grid))


def test_the_truth_ends_where_the_scan_ends() -> None:
    mesh = ball(50.0)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = (-100.0, -100.0, -7.5)
    cut = visible_surface(mesh, Grid((41, 101, 101), affine))
    assert cut.closed
    assert cut.vertices[:, 2].min() == pytest.approx(-10.0, abs=0.3)
    height = 60.0
    segment_ml = np.pi * height**2 * (50.0 - height / 3) / 1000
    assert cut.volume_ml == pytest.approx(segment_ml, rel=0.01)


def test_a_truth_within_the_scan_stays_as_it_is() -> None:
    mesh = ball(50.0)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = (-100.0, -100.0, -100.0)
    assert visible_surface(mesh, Grid((41, 101, 101), affine)) is mesh


@pytest.mark.slow
def test_freezing_goes_on_after_a_kill_writes_once_and_never_again(tmp_path: Path) -> None:
    recipes = [replace(recipe, liver="ball") for recipe in phantom_table()[:2]]
    livers, target, progress = tmp_path / "livers", tmp_path / "frozen.json", tmp_path / "progress"
    livers.mkdir()
    write_mesh(livers / "ball.npz", ball(55.0))
    freeze_phantoms.freeze(recipes[:1], livers, tmp_path / "first.json", progress)
    (first,) = json.loads((tmp_path / "first.json").read_text())["phantoms"]
    progress.mkdir()
    (progress / f"{recipes[1].name}.json").write_text('"kept from before the kill"')
    freeze_phantoms.freeze(recipes, livers, target, progress)
    again, kept = json.loads(target.read_text())["phantoms"]
    assert again == first
    assert kept["sha256"] == "kept from before the kill"
    with pytest.raises(RunError, match="already"):
        freeze_phantoms.freeze(recipes, livers, target, progress)


@pytest.mark.slow
def test_a_trait_makes_another_phantom() -> None:
    recipe = phantom_table()[0]
    plain = EvaluationPhantom.of_recipe(recipe)
    odd = replace(plain, traits=(Trait.CUT_ABOVE,))
    liver = ball(55.0)
    made, other = make_phantom(plain, liver), make_phantom(odd, liver)
    assert made.recipe["traits"] == ""
    freeze_phantoms.require_one_truth("plain", made)
    freeze_phantoms.require_one_truth("cut", other)
    moved = np.eye(4)
    moved[2, 3] = 12.0
    with pytest.raises(RunError, match="middles lie 12"):
        freeze_phantoms.require_one_truth("moved", replace(made, liver_mesh=made.liver_mesh.moved(moved)))
    assert other.recipe["traits"] == str(Trait.CUT_ABOVE)
