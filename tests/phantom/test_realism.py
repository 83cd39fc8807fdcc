"""What is measured on a scan is what was put into it."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy import ndimage
from scipy.special import erf

from dissm_engine.mesh import TriangleMesh
from dissm_engine.refine.tissues import TissueClass
from dissm_engine.volume import SignedDistance, Volume, axis_aligned_grid
from training.phantom.realism import LAGS_MM, NEIGHBOURS, PROFILE_MM, Specimen, edge_width, measure, measure_noise

RADIUS_MM = 40.0
EDGE_SD_MM = 1.5
FAT_HU, LIVER_HU, SPLEEN_HU = -100.0, 105.0, 128.0


def ball_in_fat(noise_sd: float, texture_sd: float = 0.0, error_mm: float = 0.0) -> Specimen:
    """A ball of liver in fat on 1 mm voxels with a spleen beside it; its surface is known with an error."""
    grid = axis_aligned_grid([-60.0] * 3, [60.0, 60.0, 60.0], 1.0)
    points = grid.points_lps()
    distance = np.linalg.norm(points, axis=-1) - RADIUS_MM
    hu = FAT_HU + (LIVER_HU - FAT_HU) * (1 - erf(distance / (EDGE_SD_MM * np.sqrt(2)))) / 2
    spleen = (points[..., 0] > 48) & (distance > 7)
    hu[spleen] = SPLEEN_HU
    rng = np.random.default_rng(4)
    texture = ndimage.gaussian_filter(rng.standard_normal(hu.shape), 6)
    hu += texture_sd * texture / texture.std() + noise_sd * rng.standard_normal(hu.shape)
    found = SignedDistance((distance + error_mm).astype(np.float32), grid)
    sphere = trimesh.creation.icosphere(4, RADIUS_MM - error_mm)
    surface = TriangleMesh(np.asarray(sphere.vertices), np.asarray(sphere.faces, dtype=np.int64))
    tissue = np.where(spleen, TissueClass.SPLEEN, TissueClass.OTHER).astype(np.uint8)
    return Specimen("ball", Volume(hu.astype(np.float32), grid.lps_from_voxel), found, tissue, surface)


def test_the_noise_is_the_noise_that_was_put_in_and_white_noise_has_no_neighbours() -> None:
    native = measure(ball_in_fat(noise_sd=12.0, texture_sd=4.0)).noise["native"]
    assert native.sd == pytest.approx(12.0, rel=0.05)
    assert np.abs(native.neighbours).max() < 0.05
    assert native.in_plane[0] == 1.0
    assert np.abs(native.in_plane[LAGS_MM >= 1]).max() < 0.05


def test_correlated_noise_is_seen_along_the_axis_on_which_it_is_correlated() -> None:
    noise = ndimage.gaussian_filter1d(np.random.default_rng(1).standard_normal((60, 60, 60)), 1.0, axis=0)
    volume = Volume((100 * noise).astype(np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))
    along_i, along_j, along_k = measure_noise(volume, np.ones(noise.shape, dtype=np.bool_)).neighbours
    assert along_k == pytest.approx(np.exp(-1 / 4), abs=0.04)
    assert max(abs(along_i), abs(along_j)) < 0.08


def test_a_wrong_surface_does_not_widen_the_edge() -> None:
    for error_mm in (0.0, 2.0):
        measured = measure(ball_in_fat(noise_sd=10.0, error_mm=error_mm)).edges["native", "fat"]
        assert measured.count > 1000
        assert measured.width_mm == pytest.approx(2.563 * EDGE_SD_MM, abs=0.35)


def test_an_edge_that_is_not_there_has_no_width() -> None:
    measured = measure(ball_in_fat(noise_sd=5.0)).edges["native", "lung"]
    assert measured.count == 0
    assert np.isnan(measured.width_mm)


def test_width_of_a_gaussian_edge_is_2_56_sd() -> None:
    assert edge_width((1 - erf((PROFILE_MM - 0.7) / (2.0 * np.sqrt(2)))) / 2) == pytest.approx(2.563 * 2.0, rel=0.01)


def test_smoothing_leaves_the_texture_and_takes_the_noise() -> None:
    noisy = measure(ball_in_fat(noise_sd=15.0)).texture_sd
    textured = measure(ball_in_fat(noise_sd=15.0, texture_sd=6.0)).texture_sd
    assert noisy[0] == pytest.approx(15.0, rel=0.05)
    assert noisy[3] < 1.0
    assert 3.0 < textured[3] < 6.0


def test_organs_have_their_hu_and_a_missing_one_has_none() -> None:
    organs = measure(ball_in_fat(noise_sd=8.0)).organ_hu
    assert organs["liver"] == pytest.approx(LIVER_HU, abs=1.0)
    assert organs["spleen"] == pytest.approx(SPLEEN_HU, abs=2.0)
    assert np.isnan(organs["aorta"])


def test_lung_and_fat_cannot_be_mistaken_for_each_other() -> None:
    assert NEIGHBOURS["lung"][1] < NEIGHBOURS["fat"][0]
