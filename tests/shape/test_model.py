from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from dissm_engine.errors import BundleError
from dissm_engine.pose.similarity import Pose
from dissm_engine.shape.decoder import Decoder, DecoderArchitecture
from dissm_engine.shape.distance import signed_distance_to_mesh, surface_distance_mm
from dissm_engine.shape.fit import FREE_CODE, fit_to_mesh
from dissm_engine.shape.model import ShapeModel
from dissm_engine.volume import Grid, axis_aligned_grid
from tests.shape.conftest import ShapeRun
from training.shape.aligned_livers import load_livers
from training.shape.shape_settings import ShapePreset
from training.sources.surfaces_stage import load_surfaces

OBLIQUE = Pose(
    np.array([12.0, -30.0, 7.0]),
    np.array([1.35, 0.8, 1.0]),
    Rotation.from_euler("xyz", [10, -15, 20], True).as_matrix(),
)


def test_decoder_is_negative_inside_and_zero_on_the_livers_it_learned(
    finished_run: ShapeRun, model: ShapeModel
) -> None:
    meshes = load_surfaces(finished_run.folder)
    for name, liver in load_livers(finished_run.folder / "shape").items():
        code = torch.from_numpy(liver.code)
        middle = liver.pose.translation[None]
        on_surface = model.distance_mm(meshes[name].vertices[::50], liver.pose, code)
        assert model.distance_mm(middle, liver.pose, code)[0] < -30
        assert np.abs(on_surface).mean() < 2


def test_every_training_vertex_lies_within_the_unit_sphere(finished_run: ShapeRun, model: ShapeModel) -> None:
    meshes = load_surfaces(finished_run.folder)
    for name, liver in load_livers(finished_run.folder / "shape").items():
        canonical = liver.pose.to_reference(meshes[name].vertices) / model.mm_per_unit
        assert np.linalg.norm(canonical, axis=1).max() <= 1


def test_metric_sdf_is_true_distance_near_the_surface_under_anisotropic_scale(model: ShapeModel) -> None:
    mesh = model.mesh(np.array([0.7, -0.4]), OBLIQUE, spacing_mm=2.0)
    rng = np.random.default_rng(0)
    points = mesh.vertices[rng.choice(len(mesh.vertices), 2000)] + rng.normal(0, 1.5, (2000, 3))
    true = signed_distance_to_mesh(points, mesh)
    metric = model.distance_mm(points, OBLIQUE, model.code([0.7, -0.4]))
    canonical = model.value_and_gradient(OBLIQUE.to_reference(points) / model.mm_per_unit, model.code([0.7, -0.4]))[0]
    assert np.abs(metric - true).mean() < 0.1
    assert np.abs(canonical * model.mm_per_unit - true).mean() > 2 * np.abs(metric - true).mean()


@pytest.mark.parametrize("pose", [Pose.at([0.0, 0.0, 0.0]), OBLIQUE], ids=["mean pose", "oblique, anisotropic"])
def test_hierarchical_raster_equals_the_dense_one(model: ShapeModel, pose: Pose) -> None:
    grid = axis_aligned_grid([-140.0, -130.0, -120.0], [140.0, 130.0, 120.0], 4.0)
    if pose is OBLIQUE:
        turned = grid.lps_from_voxel @ np.diag([1.0, -1.0, 1.0, 1.0])
        turned[:3, 3] = grid.to_lps([0, grid.shape[1] - 1, 0])
        grid = Grid(grid.shape, turned)
    points = grid.points_lps().reshape(-1, 3)
    dense = model.distance_mm(points, pose, model.code([0.5])).reshape(grid.shape)
    sparse = model.signed_distance(pose, [0.5], grid, band_mm=30.0).mm
    trained = np.linalg.norm(pose.to_reference(points) / model.mm_per_unit, axis=1).reshape(grid.shape) <= 1.1
    near = (np.abs(dense) < 2.0) & trained
    band = (np.abs(dense) < 30.0) & trained
    assert near.sum() > 500
    np.testing.assert_allclose(sparse[near], dense[near], atol=1e-3)
    error = np.abs(sparse - dense)[band]
    assert error.mean() < 0.2
    assert np.percentile(error, 99) < 1.0


def test_raster_agrees_in_sign_with_the_mesh_on_anisotropic_voxels(model: ShapeModel) -> None:
    mesh = model.mesh([0.0], OBLIQUE)
    low, high = mesh.vertices.min(axis=0) - 20, mesh.vertices.max(axis=0) + 20
    spacing = np.array([1.7, 2.3, 5.0])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = low
    counts = np.ceil((high - low) / spacing).astype(int)
    grid = Grid((int(counts[2]), int(counts[1]), int(counts[0])), affine)
    field = model.signed_distance(OBLIQUE, [0.0], grid)
    assert (field.mm < 0).sum() * grid.voxel_ml == pytest.approx(mesh.volume_ml, rel=0.01)


def test_far_voxels_of_a_whole_body_grid_are_far(model: ShapeModel) -> None:
    grid = axis_aligned_grid([-250.0] * 3, [250.0] * 3, 10.0)
    field = model.signed_distance(Pose.at(np.zeros(3)), [0.0], grid)
    true = signed_distance_to_mesh(grid.points_lps(), model.mesh([0.0], Pose.at(np.zeros(3))))
    far = true > 60
    assert (np.abs(field.mm[far] - true[far]) / true[far]).max() < 0.35


def test_mesh_is_closed_outward_and_on_the_decoders_zero(model: ShapeModel) -> None:
    mesh = model.mesh([1.0, -1.0], OBLIQUE)
    assert mesh.closed
    assert mesh.volume_ml > 0
    assert np.abs(model.distance_mm(mesh.vertices, OBLIQUE, model.code([1.0, -1.0]))).max() < 0.1


def test_mean_field_is_made_once_and_holds_the_mean_shape(model: ShapeModel) -> None:
    field = model.mean_sdf_volume(6.0)
    assert model.mean_sdf_volume(6.0) is field
    mesh = model.mesh([0.0], Pose.at(np.zeros(3)))
    assert np.abs(field.at(mesh.vertices)).mean() < 0.7


def test_missing_loadings_are_zero(model: ShapeModel) -> None:
    few = model.latent(torch.tensor([0.3, -0.2]))
    padded = torch.zeros(model.latent_space.components)
    padded[:2] = torch.tensor([0.3, -0.2])
    torch.testing.assert_close(few, model.latent(padded))


def test_saved_model_is_the_same_model(model: ShapeModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = ShapeModel.load(tmp_path)
    points = torch.rand(1, 100, 3) * 2 - 1
    code = model.latent(torch.ones(1, 3))
    assert torch.equal(model.canonical_sdf(points, code), again.canonical_sdf(points, code))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["shape.json", "shape.safetensors"]


@pytest.mark.parametrize("damage", ["missing weights", "truncated weights", "other architecture", "not json"])
def test_broken_model_is_refused_by_name(model: ShapeModel, tmp_path: Path, damage: str) -> None:
    model.save(tmp_path)
    weights, description = tmp_path / "shape.safetensors", tmp_path / "shape.json"
    if damage == "missing weights":
        weights.unlink()
    elif damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "other architecture":
        content = json.loads(description.read_text())
        content["decoder"]["width"] = 32
        description.write_text(json.dumps(content))
    else:
        description.write_text("{")
    with pytest.raises(BundleError, match="shape model"):
        ShapeModel.load(tmp_path)


def test_fit_finds_livers_it_has_never_seen_and_freedom_helps(finished_run: ShapeRun, model: ShapeModel) -> None:
    for mesh in load_surfaces(finished_run.folder, "held_out").values():
        mean = fit_to_mesh(model, mesh, 0)
        full = fit_to_mesh(model, mesh, model.latent_space.components, mean)
        free = fit_to_mesh(model, mesh, FREE_CODE, full)
        errors = [
            surface_distance_mm(model.mesh_of_code(fit.code, fit.pose, 4.0), mesh, 3000) for fit in (mean, full, free)
        ]
        assert errors[1] < 0.9 * errors[0]
        assert errors[1] < 2
        assert errors[2] < 2


def test_fit_recovers_a_moved_turned_and_stretched_copy(model: ShapeModel) -> None:
    target = model.mesh([0.0], OBLIQUE)
    fit = fit_to_mesh(model, target, 0)
    assert np.linalg.norm(fit.pose.translation - OBLIQUE.translation) < 3
    np.testing.assert_allclose(fit.pose.scale, OBLIQUE.scale, atol=0.05)
    assert np.degrees(np.arccos((np.trace(fit.pose.rotation.T @ OBLIQUE.rotation) - 1) / 2)) < 4


def test_paper_preset_is_table_4_and_the_network_of_park() -> None:
    preset = ShapePreset.paper()
    decoder = Decoder(preset.architecture)
    shapes = [tuple(layer.weight.shape) for layer in decoder.hidden]
    assert shapes == [(512, 259), (512, 512), (512, 512), (253, 512), *[(512, 512)] * 4]
    assert decoder(torch.rand(2, 5, 3), torch.rand(2, 256)).shape == (2, 5)
    assert (preset.epochs, preset.batch_size, preset.samples_per_step, preset.latent_size) == (2000, 6, 30_000, 256)
    assert (preset.code_learning_rate, preset.decoder_learning_rate, preset.dropout, preset.weight_decay) == (
        1e-3,
        5e-4,
        0.2,
        1e-4,
    )
    assert preset.prior_weight * 30_000 == pytest.approx(1 / 100**2)


def test_code_is_multiplied_as_if_it_stood_beside_every_point() -> None:
    architecture = DecoderArchitecture(layers=1, width=8, latent_size=4, inject_at=5, activation="relu")
    decoder = Decoder(architecture)
    x, z = torch.rand(2, 6, 3), torch.rand(2, 4)
    beside = torch.cat([x, z[:, None].expand(-1, 6, -1)], dim=-1)
    expected = decoder.output(
        torch.relu(torch.nn.functional.linear(beside, decoder.hidden[0].weight, decoder.hidden[0].bias))
    )
    torch.testing.assert_close(decoder(x, z), expected[..., 0])
