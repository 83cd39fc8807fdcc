"""What was left out of an outline and taken into it, on balls whose tissues are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dissm_engine.findings import Finding, Findings, Side, Verdict
from dissm_engine.place import place_of
from dissm_engine.refine.refiner import Refinement
from dissm_engine.refine.tissues import TissueClass
from dissm_engine.rounds import at_rho, at_rho_share
from dissm_engine.surface import mesh_of
from dissm_engine.tissue_regions import TissueRegions
from dissm_engine.volume import Grid, SignedDistance, axis_aligned_grid

GRID = axis_aligned_grid([-70] * 3, [70] * 3, 2.0)
POINTS = GRID.points_lps()
Mask = npt.NDArray[np.bool_]


def ball(radius_mm: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> SignedDistance:
    return SignedDistance((np.linalg.norm(POINTS - np.array(center), axis=-1) - radius_mm).astype(np.float32), GRID)


def ball_ml(radius_mm: float) -> float:
    return 4 / 3 * np.pi * radius_mm**3 / 1000


def seen(found: SignedDistance, liver: Mask, in_view: Mask | None = None) -> TissueRegions:
    """A final field with a tissue head that is right about the liver."""
    tissue = np.where(liver, TissueClass.LIVER, TissueClass.OTHER).astype(np.uint8)
    view = np.ones(GRID.shape, dtype=np.bool_) if in_view is None else in_view
    return TissueRegions(found, Refinement(found, np.zeros(GRID.shape, dtype=np.float32), tissue, view))


def tip() -> SignedDistance:
    """A tip of the liver on the patient's left, towards the head; it reaches into the ball of 40 mm."""
    return ball(18, (38.0, 0.0, 25.0))


def test_a_right_outline_leaves_nothing_out_and_takes_nothing_in() -> None:
    regions = seen(ball(40), ball(40).mm < 0)
    mass, difference = regions.mass(np.full(GRID.shape, 110, dtype=np.float32))
    assert (regions.left_out().ml, regions.taken_in().ml, mass.ml, difference) == (0, 0, 0, 0)
    assert regions.tissue_dsc == 1.0


def test_a_tip_that_is_missing_is_left_out_with_its_volume_side_and_slices() -> None:
    liver = (ball(40).mm < 0) | (tip().mm < 0)
    regions = seen(ball(40), liver)
    left_out = regions.left_out()
    missing = float(((tip().mm < 0) & (ball(40).mm > 0)).sum() * GRID.voxel_ml)
    # What lies within 3 mm of the outline does not count.
    assert 0.6 * missing < left_out.ml <= missing
    assert left_out.main_part_ml == left_out.ml
    place = place_of(left_out.points_lps, mesh_of(ball(40)), GRID)
    assert place.sides == (Side.LEFT, Side.TOP)
    shown = np.flatnonzero(((tip().mm < 0) & (ball(40).mm > 3)).any(axis=(1, 2))) + 1
    assert abs(place.first_slice - shown[0]) <= 2
    assert abs(place.last_slice - shown[-1]) <= 2
    assert np.linalg.norm(place.point_lps) == pytest.approx(40, abs=0.5)
    assert place.point_lps[0] > 20
    assert regions.tissue_dsc < 0.98


def test_liver_like_tissue_that_does_not_reach_the_outline_is_not_left_out() -> None:
    spleen = ball(12, (60.0, 0.0, 0.0)).mm < 0
    assert seen(ball(40), (ball(40).mm < 0) | spleen).left_out().ml == 0


def test_a_rim_as_thin_as_the_tissue_heads_cells_is_not_left_out() -> None:
    assert seen(ball(40), ball(44.5).mm < 0).left_out().ml == 0


def test_what_the_ct_does_not_show_is_neither_left_out_nor_taken_in() -> None:
    above = POINTS[..., 2] > 0
    liver = (ball(40).mm < 0) | (tip().mm < 0)
    assert seen(ball(40), liver, in_view=~above).left_out().ml == pytest.approx(0, abs=0.1)
    assert seen(ball(40), (ball(40).mm < 0) & ~above, in_view=~above).taken_in().ml == 0
    assert seen(ball(40), (ball(40).mm < 0) & ~above).taken_in().ml > 50


def test_a_neighbour_that_is_taken_in_is_found_with_its_volume_and_side() -> None:
    neighbour = ball(20, (-45.0, 0.0, 0.0)).mm < 0
    both = np.minimum(ball(40).mm, ball(20, (-45.0, 0.0, 0.0)).mm)
    regions = seen(SignedDistance(both, GRID), (ball(40).mm < 0) & ~neighbour)
    taken_in = regions.taken_in()
    assert 0.5 * ball_ml(20) < taken_in.ml < ball_ml(20)
    assert place_of(taken_in.points_lps, mesh_of(ball(40)), GRID).sides == (Side.RIGHT,)


@pytest.mark.parametrize("difference", [-60.0, 60.0])
def test_a_mass_inside_is_found_with_its_volume_and_its_hu_whatever_the_tissue_head_says(difference: float) -> None:
    mass = ball(15, (0.0, 15.0, 0.0)).mm < 0
    noise = np.random.default_rng(0).normal(0, 15, GRID.shape)
    hu = (110 + difference * mass + noise).astype(np.float32)
    found, found_hu = seen(ball(40), ball(40).mm < 0).mass(hu)
    assert found.main_part_ml == pytest.approx(ball_ml(15), rel=0.3)
    assert found_hu == pytest.approx(difference, abs=10)
    assert np.linalg.norm(found.points_lps.mean(axis=0) - [0, 15, 0]) < 2


def test_vessels_and_noise_are_no_masses() -> None:
    vessel = np.linalg.norm(POINTS[..., 1:], axis=-1) < 4
    hu = (110 + 50 * vessel + np.random.default_rng(1).normal(0, 25, GRID.shape)).astype(np.float32)
    assert seen(ball(40), ball(40).mm < 0).mass(hu)[0].ml == 0


def test_where_the_refinement_went_as_far_as_it_may_is_known() -> None:
    field = ball(40)
    change = np.where(POINTS[..., 0] > 0, np.float32(19.5), np.float32(2.0))
    refinement = seen(field, field.mm < 0).refinement
    moved = Refinement(field, change, refinement.tissue, refinement.in_view)
    assert at_rho_share(moved, 20.0) == pytest.approx(0.5, abs=0.05)
    assert (POINTS[at_rho(moved, 20.0)][:, 0] > 0).all()


AFFINES = {
    "feet first in the array": np.diag([0.8, 0.8, 3.0, 1.0]),
    "head first": np.diag([0.8, 0.8, -3.0, 1.0]),
    "prone, rows and columns run the other way": np.diag([-0.8, -0.8, 3.0, 1.0]),
    "sagittal": np.array([[0, 0, 3.0, 0], [0.8, 0, 0, 0], [0, -0.8, 0, 0], [0, 0, 0, 1.0]]),
    "oblique": np.array(
        [
            [0.8 * np.cos(0.3), 0, 3.0 * np.sin(0.3), 0],
            [0, 0.8, 0, 0],
            [-0.8 * np.sin(0.3), 0, 3.0 * np.cos(0.3), 0],
            [0, 0, 0, 1.0],
        ]
    ),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_side_and_slices_are_right_however_the_ct_is_stored(affine: npt.NDArray[np.float64]) -> None:
    shape = (50, 176, 176)
    centred = affine.copy()
    centred[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    ct = Grid(shape, centred)
    points = np.array([[32.0, -4.0, 24.0], [34.0, 0.0, 25.0], [36.0, 4.0, 26.0]])
    place = place_of(points, mesh_of(ball(40)), ct)
    assert place.sides == (Side.LEFT, Side.TOP)
    k = (
        np.round(np.linalg.inv(centred) @ np.append(points[0], 1))[2],
        np.round(np.linalg.inv(centred) @ np.append(points[2], 1))[2],
    )
    assert (place.first_slice, place.last_slice) == (min(k) + 1, max(k) + 1)


def test_a_place_beyond_the_ct_is_in_its_last_slice() -> None:
    ct = axis_aligned_grid([-50, -50, -10], [50, 50, 10], 2.0)
    place = place_of(np.array([[0.0, 0.0, 39.0]]), mesh_of(ball(40)), ct)
    assert (place.sides, place.first_slice, place.last_slice) == ((Side.TOP,), ct.shape[0], ct.shape[0])


def test_a_reason_says_side_and_slices_and_takes_the_numbers_of_the_images() -> None:
    place = place_of(np.array([[35.0, 0.0, 2.0], [35.0, 0.0, 8.0]]), mesh_of(ball(40)), GRID)
    item = Finding("left_out", 90.0, "ml", 0.0, 20.0, place, "liver-like tissue of 90 ml lies outside the outline")
    usual = "(usual 0 to 20 ml)"
    assert item.sentence == f"{item.statement}, on the left, slices 37-40 {usual}"
    findings = Findings((item,), 0.91, Verdict.REVIEW, ("estimated DSC is 0.91", item.sentence))
    from_head = list(range(GRID.shape[0] + 100, 100, -1))
    renamed = findings.with_image_numbers(from_head)
    assert renamed.reasons == ("estimated DSC is 0.91", f"{item.statement}, on the left, images 132-135 {usual}")
    assert renamed.items[0].place is not None
    assert renamed.items[0].place.point_lps == place.point_lps
