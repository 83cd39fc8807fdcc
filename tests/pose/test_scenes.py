from pathlib import Path

import numpy as np
import pytest
import trimesh

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_phantom import build_anatomy
from tests.pose.toy import toy_scene
from training.phantom.anatomy_files import save_anatomy
from training.pose.curriculum import split_scenes
from training.pose.pose_settings import PosePreset
from training.pose.scene_files import prepare_scenes
from training.pose.scenes import BAND_MM, Scene
from training.shape.aligned_livers import AlignedLiver


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Scene], Path]:
    folder = tmp_path_factory.mktemp("pose")
    (folder / "anatomies").mkdir()
    ball = trimesh.creation.icosphere(subdivisions=3, radius=70.0)
    liver = TriangleMesh(np.asarray(ball.vertices), np.asarray(ball.faces, dtype=np.int64))
    save_anatomy(folder / "anatomies" / "0000.npz", build_anatomy(liver, 1, deform=False), "ball", 1)
    return prepare(folder), folder


def prepare(folder: Path) -> list[Scene]:
    aligned = AlignedLiver(Pose.at(np.zeros(3)), np.zeros(1, np.float32), np.zeros(1, np.float32))
    preset = PosePreset.smoke()
    return prepare_scenes(
        folder / "anatomies", folder / "scenes", {"ball": aligned}, preset, seed=1, progress=lambda _: None
    )


def test_known_pose_and_samples_tell_of_the_same_surface(prepared: tuple[list[Scene], Path]) -> None:
    (scene,) = prepared[0]
    radius = np.linalg.norm(scene.target_pose.to_reference(scene.samples[:, :3].astype(np.float64)), axis=1)
    near = np.abs(scene.samples[:, 3]) < BAND_MM
    np.testing.assert_allclose(radius[near] - 70, scene.samples[near, 3], atol=0.25 * BAND_MM)


def test_the_painted_image_lies_where_the_samples_say(prepared: tuple[list[Scene], Path]) -> None:
    (scene,) = prepared[0]
    image = scene.image()
    ijk = scene.samples[:, :3] @ scene.voxel_from_lps[:3, :3].T + scene.voxel_from_lps[:3, 3]
    i, j, k = np.clip(ijk.round().astype(int), 0, np.array(image.hu.shape[::-1]) - 1).T
    hu = image.hu.numpy()[k, j, i]
    deep = hu[scene.samples[:, 3] < -8]
    outside = hu[scene.samples[:, 3] > 8]
    assert np.subtract(*np.percentile(deep, [75, 25])) < np.subtract(*np.percentile(outside, [75, 25]))
    assert -40 < np.median(deep) < 300


def test_prepared_scenes_are_read_and_not_painted_again(prepared: tuple[list[Scene], Path]) -> None:
    scenes, folder = prepared
    before = {path: path.stat().st_mtime_ns for path in (folder / "scenes").iterdir()}
    again = prepare(folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "scenes").iterdir()} == before
    np.testing.assert_array_equal(again[0].samples, scenes[0].samples)


def test_random_fields_of_view_keep_half_of_the_liver(prepared: tuple[list[Scene], Path]) -> None:
    (scene,) = prepared[0]
    surface = scene.samples[np.abs(scene.samples[:, 3]) < BAND_MM, :3]
    ijk = surface @ scene.voxel_from_lps[:3, :3].T + scene.voxel_from_lps[:3, 3]
    rng = np.random.default_rng(0)
    whole = scene.image()
    cuts = [scene.image(rng, fields_of_view=True) for _ in range(30)]
    assert any((cut.low > whole.low).any() or (cut.high < whole.high).any() for cut in cuts)
    for cut in cuts:
        seen_low, seen_high = np.maximum(cut.low.numpy(), ijk.min(0)), np.minimum(cut.high.numpy(), ijk.max(0))
        assert (seen_high - seen_low > 0.49 * np.ptp(ijk, axis=0)).all()


def test_no_liver_is_in_training_and_in_validation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [toy_scene(tmp_path, number % 4, rng) for number in range(8)]
    training, validation = split_scenes(scenes, 1)
    assert (len(training), len(validation)) == (6, 2)
    assert not {scene.liver for scene in training} & {scene.liver for scene in validation}
