from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from dissm_engine.mesh import TriangleMesh
from dissm_engine.pose.similarity import Pose
from dissm_engine.shape.distance import signed_distance_to_mesh, surface_distance_mm, surface_points
from dissm_engine.shape.latent import LatentSpace
from dissm_phantom.variety import SIZES
from tests.shape.conftest import Sections, ShapeRun, lobed_body
from training.metrics_file import MetricsFile
from training.shape.aligned_livers import load_alignment, load_livers
from training.shape.alignment import align, register
from training.shape.autodecoder import AutoDecoder, AutoDecoderTraining
from training.shape.deformed_livers import prepare_deformed
from training.shape.generalisation import generalisation
from training.shape.sampling import Samples, sample_shape
from training.shape.shape_settings import ShapePreset
from training.shape.shape_stage import run_shape
from training.sources.repair import decimated
from training.sources.surfaces_stage import load_surfaces, run_surfaces
from training.training_loop import TrainingLoop


def test_signed_distance_library_agrees_with_brute_force() -> None:
    mesh = decimated(lobed_body(np.random.default_rng(1)), 0.1)
    points = np.random.default_rng(0).uniform(-120, 120, (400, 3))
    triangles = mesh.vertices[mesh.faces]
    closest = [trimesh.triangles.closest_point(triangles, np.tile(point, (len(triangles), 1))) for point in points]
    brute = np.array([np.linalg.norm(near - point, axis=1).min() for near, point in zip(closest, points, strict=True)])
    sign = np.where(mesh.trimesh.contains(points), -1.0, 1.0)
    np.testing.assert_allclose(signed_distance_to_mesh(points, mesh), sign * brute, atol=1e-4)


def test_surface_points_lie_on_the_surface_and_even_by_area() -> None:
    box = trimesh.creation.box((10.0, 10.0, 40.0))
    mesh = TriangleMesh(np.asarray(box.vertices), np.asarray(box.faces, dtype=np.int64))
    points = surface_points(mesh, 20_000, np.random.default_rng(0))
    assert np.abs(signed_distance_to_mesh(points, mesh)).max() < 1e-5
    assert (np.abs(points[:, 2]) > 19.999).mean() == pytest.approx(200 / 1800, abs=0.01)


def test_surface_distance_of_concentric_spheres_is_their_gap() -> None:
    inner, outer = (trimesh.creation.icosphere(4, radius) for radius in (50.0, 53.0))
    first, second = (TriangleMesh(np.asarray(m.vertices), np.asarray(m.faces, dtype=np.int64)) for m in (inner, outer))
    assert surface_distance_mm(first, second) == pytest.approx(3.0, abs=0.1)


def test_samples_are_exact_pairs_with_the_papers_shares() -> None:
    body = lobed_body(np.random.default_rng(2))
    mesh = TriangleMesh(body.vertices / 130.0, body.faces)
    preset = ShapePreset(samples_per_shape=20_000)
    pairs = sample_shape(mesh, preset, np.random.default_rng(0)).astype(np.float64)
    inside = int((pairs[:, 3] < 0).sum())
    assert (pairs[:inside, 3] < 0).all()
    assert (pairs[inside:, 3] >= 0).all()
    np.testing.assert_allclose(signed_distance_to_mesh(pairs[:, :3], mesh), pairs[:, 3], atol=1e-3)
    assert (np.abs(pairs[:, 3]) < 0.03).mean() == pytest.approx(0.53, abs=0.12)
    assert np.linalg.norm(pairs[:, :3], axis=1).max() < 1.6


def test_a_batch_is_half_inside_half_outside(finished_run: ShapeRun) -> None:
    names = sorted(load_surfaces(finished_run.folder))
    samples = Samples.read(finished_run.folder / "shape" / "samples", names)
    _, distances = samples.draw(torch.tensor([0, 3]), 100, torch.Generator().manual_seed(0))
    assert ((distances < 0).sum(dim=1) == 50).all()


def test_coherent_point_drift_recovers_a_known_similarity() -> None:
    reference = lobed_body(np.random.default_rng(4))
    truth = Pose(
        np.array([40.0, -12.0, 5.0]), np.full(3, 1.2), Rotation.from_euler("xyz", [15, -20, 25], True).as_matrix()
    )
    target = decimated(reference, 0.08).vertices
    moved = decimated(TriangleMesh(truth.to_image(reference.vertices), reference.faces), 0.07).vertices
    found = register(moved, target)
    np.testing.assert_allclose(found.scale, truth.scale, rtol=0.03)
    assert np.linalg.norm(found.translation - truth.translation) < 3
    assert np.degrees(np.arccos((np.trace(found.rotation.T @ truth.rotation) - 1) / 2)) < 5


def test_alignment_to_the_mean_favours_no_liver() -> None:
    rng = np.random.default_rng(6)
    turns = Rotation.from_euler("z", np.array([[30], [10], [20], [25], [5], [40]]), True).as_matrix()
    meshes = {
        f"body_{index}": TriangleMesh(
            Pose(rng.uniform(-9, 9, 3), np.full(3, 1.1), turn).to_image(body.vertices), body.faces
        )
        for index, (turn, body) in enumerate(zip(turns, [lobed_body(rng) for _ in turns], strict=True))
    }
    preset = ShapePreset(simplified_share=1.0, extremely_simplified_share=0.06, align_rounds=2)
    alignment = align(meshes, preset)
    rotations = np.stack([pose.rotation for pose in alignment.poses.values()])
    spread = np.linalg.norm(rotations.mean(axis=0) - np.eye(3))
    assert spread < 0.1
    assert np.exp(np.mean([np.log(pose.scale) for pose in alignment.poses.values()])) == pytest.approx(1.0, abs=0.02)
    assert all(np.linalg.norm(alignment.canonical(n, m).vertices, axis=1).max() <= 1 for n, m in meshes.items())


def test_component_space_gives_back_the_codes_it_was_made_from() -> None:
    codes = torch.randn(10, 32, generator=torch.Generator().manual_seed(0))
    space = LatentSpace.from_codes(codes)
    assert space.components == 9
    torch.testing.assert_close(space.latent(space.loadings(codes)), codes, atol=1e-4, rtol=0)
    torch.testing.assert_close(space.loadings(codes).std(dim=0), torch.ones(9), atol=1e-4, rtol=0)
    torch.testing.assert_close(space.basis.T @ space.basis, torch.eye(9), atol=1e-5, rtol=0)
    assert float(space.explained.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    finished_run: ShapeRun, preset: ShapePreset, tmp_path: Path
) -> None:
    names = sorted(load_surfaces(finished_run.folder))
    samples = Samples.read(finished_run.folder / "shape" / "samples", names)
    alignment = load_alignment(finished_run.folder / "shape")
    settings = preset.model_copy(update={"epochs": 6, "dropout": 0.1, "batch_size": 5, "checkpoint_every": 3})

    def training(folder: Path, seed_of_weights: int) -> TrainingLoop:
        folder.mkdir(exist_ok=True)
        task = AutoDecoderTraining(samples, alignment, settings, 1, folder)
        if seed_of_weights != 1:
            task.model.load_state_dict(AutoDecoder(len(names), settings, seed_of_weights).state_dict())
        metrics = MetricsFile(folder / "metrics.jsonl", "shape")
        return TrainingLoop(task, task.loop_settings, folder / "training_state.pt", metrics)

    class Killed(Exception):
        pass

    def kill_in_the_fifth_epoch(done: float) -> None:
        if done > 4 / 6:
            raise Killed

    straight = training(tmp_path / "straight", 1)
    straight.run(lambda _: None)
    with pytest.raises(Killed):
        training(tmp_path / "resumed", 1).run(kill_in_the_fifth_epoch)
    resumed = training(tmp_path / "resumed", 2)
    assert resumed.epoch == 3
    resumed.run(lambda _: None)
    ours = resumed.task.model.state_dict()
    assert "codes" in ours
    for name, weight in straight.task.model.state_dict().items():
        assert torch.equal(weight, ours[name]), name


def test_a_finished_stage_does_nothing_again(finished_run: ShapeRun) -> None:
    folder = finished_run.folder / "shape"
    before = (folder / "shape.safetensors").read_bytes()
    stamps = {file: file.stat().st_mtime_ns for file in (folder / "samples").iterdir()}
    run_surfaces(finished_run)
    run_shape(finished_run)
    assert (folder / "shape.safetensors").read_bytes() == before
    assert {file: file.stat().st_mtime_ns for file in (folder / "samples").iterdir()} == stamps
    assert not list(folder.glob("*.partial"))


def test_weight_norm_eikonal_and_step_schedule_train_and_export(
    bodies_npz: Path, preset: ShapePreset, tmp_path: Path
) -> None:
    settings = preset.model_copy(
        update={
            "max_shapes": 3,
            "max_held_out": 1,
            "epochs": 4,
            "checkpoint_every": 2,
            "align_to": "anchor",
            "weight_norm": True,
            "dropout": 0.2,
            "activation": "relu",
            "bounded_output": True,
            "eikonal_weight": 0.01,
            "schedule": "step",
        }
    )
    run = ShapeRun(tmp_path, bodies_npz, Sections(settings))
    run_surfaces(run)
    run_shape(run)
    assert (tmp_path / "shape" / "shape.safetensors").exists()


def test_deformed_livers_count_as_much_as_real_ones_and_keep_their_poses(
    bodies_npz: Path, preset: ShapePreset, tmp_path: Path
) -> None:
    settings = preset.model_copy(
        update={"max_shapes": 4, "deformed_per_liver": 3, "epochs": 2, "checkpoint_every": 1, "batch_size": 3}
    )
    run = ShapeRun(tmp_path, bodies_npz, Sections(settings))
    run_surfaces(run)
    run_shape(run)
    meshes = load_surfaces(tmp_path)
    deformed = prepare_deformed(meshes, 3, run.seed, tmp_path / "surfaces" / "deformed")
    assert len({liver.shape for liver in deformed}) == 10
    assert all(liver.mesh.closed for liver in deformed)
    alignment = load_alignment(tmp_path / "shape")
    every = {**meshes, **{liver.name: liver.mesh for liver in deformed}}
    canonical = {name: alignment.canonical(name, mesh).vertices for name, mesh in every.items()}
    assert max(np.linalg.norm(canonical[name], axis=1).max() for name in meshes) <= 1
    assert max(np.linalg.norm(vertices, axis=1).max() for vertices in canonical.values()) <= alignment.reach
    for liver in deformed:
        same = np.array_equal(alignment.poses[liver.name].scale, alignment.poses[liver.origin].scale)
        assert same == (liver.shape not in SIZES)
    assert set(load_livers(tmp_path / "shape")) == set(meshes)

    names = frozenset(liver.name for liver in deformed)
    samples = Samples.read(tmp_path / "shape" / "samples", sorted(every))
    task = AutoDecoderTraining(samples, alignment, settings, 1, tmp_path / "other", "cpu", names)
    seen: list[int] = []
    task.samples = RecordedSamples(samples.pairs, samples.inside, seen)
    for epoch in range(3):
        first = len(seen)
        assert len(list(task.steps(epoch))) == 3
        assert sorted(task.names[index] for index in seen[first:] if task.names[index] not in names) == sorted(meshes)
    visits = Counter(task.names[index] for index in seen)
    assert {visits[name] for name in names} == {1}
    assert {visits[name] for name in meshes} == {3}


@dataclass(frozen=True)
class RecordedSamples(Samples):
    seen: list[int]

    def draw(self, shapes: torch.Tensor, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen.extend(shapes.tolist())
        return super().draw(shapes, count, generator)


@pytest.mark.slow
def test_generalisation_table_has_a_row_for_each_freedom(finished_run: ShapeRun, model: object, tmp_path: Path) -> None:
    from dissm_engine.shape.model import ShapeModel

    assert isinstance(model, ShapeModel)
    held_out = load_surfaces(finished_run.folder, "held_out")
    table = generalisation(model, dict(list(held_out.items())[:2]), tmp_path)
    assert list(table) == ["mean shape", "all", "free code"]
    assert table["all"].mean_assd_mm < table["mean shape"].mean_assd_mm
    assert set(table["all"].livers) == set(list(held_out)[:2])
