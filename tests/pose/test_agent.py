from pathlib import Path

import numpy as np
import pytest
import torch

from dissm_engine.errors import BundleError
from dissm_engine.pose.agent import PoseAgent, StageNetwork, lattice_of_starts, stage_poses
from dissm_engine.pose.architecture import SearchSettings
from dissm_engine.pose.correction import StageName
from dissm_engine.pose.observation import ShapeCanvas
from dissm_engine.pose.similarity import Pose
from dissm_engine.progress import Monitor
from dissm_engine.volume import Volume
from tests.pose.toy import Ellipsoids, body_grid, bright_ellipsoid, random_pose, toy_scene
from training.pose.agent_files import load_agent, save_agent
from training.pose.curriculum import network_for, train_agent
from training.pose.pose_settings import PosePreset


def smoke() -> PosePreset:
    return PosePreset.smoke().model_copy(update={"components": 1})


def untrained(shape: Ellipsoids) -> PoseAgent:
    torch.manual_seed(0)
    stages = []
    for name in StageName:
        network: StageNetwork = network_for(name, smoke(), None)
        torch.nn.init.normal_(network.encoder.output.weight, std=0.05)
        stages.append(network)
    return PoseAgent(stages, ShapeCanvas.of(shape, 1, 12), SearchSettings(start_spacing_mm=150.0))


def toy_volume() -> Volume:
    rng = np.random.default_rng(5)
    return bright_ellipsoid(random_pose(rng), 0.0, body_grid(), rng)


def test_a_saved_agent_finds_the_same_pose(tmp_path: Path) -> None:
    agent, shape = untrained(Ellipsoids()), Ellipsoids()
    path = agent.find_pose(toy_volume(), shape)
    save_agent(tmp_path, agent)
    again = load_agent(tmp_path).find_pose(toy_volume(), shape)
    np.testing.assert_array_equal(path.pose.image_from_reference, again.pose.image_from_reference)
    np.testing.assert_array_equal(path.loadings, again.loadings)
    assert agent.architecture() == load_agent(tmp_path).architecture()


def test_the_path_names_its_stages_in_order_and_ends_at_the_pose() -> None:
    path = untrained(Ellipsoids()).find_pose(toy_volume(), Ellipsoids())
    assert list(stage_poses(path)) == list(StageName)
    assert path.steps[-1] is path.pose
    assert len(path.steps) == len(path.stages) == len(path.step_loadings)
    assert stage_poses(path)[StageName.SCALE][1].tolist() == [0.0]
    assert path.spread_mm > 0


def test_progress_goes_from_nothing_to_all() -> None:
    told: list[float] = []
    untrained(Ellipsoids()).find_pose(toy_volume(), Ellipsoids(), Monitor(lambda _, done: told.append(done)))
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)


def test_another_shape_model_is_refused() -> None:
    class Smaller(Ellipsoids):
        def canonical_sdf(self, points: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
            return super().canonical_sdf(points, latent) + 0.05

    with pytest.raises(BundleError, match="another shape model"):
        untrained(Ellipsoids()).find_pose(toy_volume(), Smaller())


def test_starts_fill_the_field_of_view_evenly() -> None:
    box = torch.tensor([[0.0, 0.0, 0.0], [360.0, 200.0, 900.0]])
    starts = lattice_of_starts(box, 180.0)
    assert len(starts) == 2 * 1 * 5
    assert sorted(set(starts[:, 0].tolist())) == [90.0, 270.0]
    assert sorted(set(starts[:, 2].tolist())) == [90.0, 270.0, 450.0, 630.0, 810.0]


def test_training_that_was_cut_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [toy_scene(tmp_path, number, rng) for number in range(5)]
    two = smoke().translation.model_copy(update={"epochs": 2})
    preset = smoke().model_copy(update={"translation": two})
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()

    class CutOff(Exception):
        pass

    def cut_off(stage: str, done: float) -> None:
        if (stage, done) == ("pose translation", 0.5):
            raise CutOff

    whole = train_agent(tmp_path / "whole", Ellipsoids(), scenes, preset, 3, lambda *_: None)
    with pytest.raises(CutOff):
        train_agent(tmp_path / "cut", Ellipsoids(), scenes, preset, 3, cut_off)
    resumed = train_agent(tmp_path / "cut", Ellipsoids(), scenes, preset, 3, lambda *_: None)
    for name, tensor in whole.state_tensors().items():
        torch.testing.assert_close(resumed.state_tensors()[name], tensor, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_trained_agent_finds_ellipsoids_from_any_start(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [toy_scene(tmp_path, number, rng) for number in range(24)]
    base = smoke()

    def longer(name: str, epochs: int) -> dict[str, object]:
        stage = base.stage(StageName(name))
        return {name: stage.model_copy(update={"epochs": epochs, "steps": 3, "batch_size": 6, "learning_rate": 3e-3})}

    preset = base.model_copy(
        update=longer("translation", 25) | longer("scale", 15) | longer("rotation", 4) | longer("non_rigid", 4)
    )
    agent = train_agent(tmp_path, Ellipsoids(), scenes, preset, 1, lambda *_: None)
    errors: dict[StageName, list[float]] = {name: [] for name in StageName}
    for _ in range(6):
        truth = random_pose(rng)
        path = agent.find_pose(bright_ellipsoid(truth, 0.0, body_grid(), rng), Ellipsoids())
        for name, (pose, _loadings) in stage_poses(path).items():
            errors[name].append(float(np.linalg.norm(pose.translation - truth.translation)))
            assert isinstance(pose, Pose)
    assert np.mean(errors[StageName.TRANSLATION]) < 25
    assert np.mean(errors[StageName.NON_RIGID]) < 15
