from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import trimesh

from dissm_engine.mesh import TriangleMesh
from tests.shape.conftest import lobed_body
from training.sources.held_out import amos_case_number, split_livers
from training.sources.meshes import write_mesh
from training.sources.repair import decimated, repaired, smoothed
from training.sources.source_at_path import open_source
from training.sources.surfaces import SourceError


def ball(radius: float = 40.0, subdivisions: int = 4) -> TriangleMesh:
    sphere = trimesh.creation.icosphere(subdivisions, radius)
    return TriangleMesh(np.asarray(sphere.vertices), np.asarray(sphere.faces, dtype=np.int64))


def label_map(
    direction: tuple[float, ...], spacing: tuple[float, float, float], labels: bool = False
) -> SimpleITK.Image:
    """A ball of radius 40 mm about the physical point (10, -20, 30) as label 6, or as 1 with a core of 2."""
    image = SimpleITK.Image([int(120 / step) for step in spacing], SimpleITK.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    middle = np.array([(size - 1) / 2 for size in image.GetSize()]) * spacing
    image.SetOrigin((np.array([10.0, -20.0, 30.0]) - np.array(direction).reshape(3, 3) @ middle).tolist())
    k, j, i = np.indices(image.GetSize()[::-1])
    offset = (np.stack([i, j, k], axis=-1) * spacing) - middle
    radius = np.linalg.norm(offset, axis=-1)
    values = np.where(radius < 40, 1 if labels else 6, 0)
    if labels:
        values[radius < 15] = 2
    filled = SimpleITK.GetImageFromArray(values.astype(np.uint8))
    filled.CopyInformation(image)
    return filled


@pytest.mark.parametrize(
    ("direction", "spacing"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), (1.0, 1.0, 5.0)),
        ((1, 0, 0, 0, 0, 1, 0, 1, 0), (0.9, 1.1, 3.0)),
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), (1.5, 1.5, 1.5)),
    ],
    ids=["thick axial", "mirrored axes, coronal", "reversed"],
)
def test_label_map_becomes_an_outward_surface_at_its_place(
    tmp_path: Path, direction: tuple[float, ...], spacing: tuple[float, float, float]
) -> None:
    folder = tmp_path / "labelsTr"
    folder.mkdir()
    SimpleITK.WriteImage(label_map(direction, spacing), str(folder / "amos_0004.nii.gz"))
    surfaces = open_source(tmp_path).load()
    assert list(surfaces) == ["amos_0004"]
    mesh = surfaces["amos_0004"]
    assert mesh.closed
    assert mesh.volume_ml == pytest.approx(4 / 3 * np.pi * 40**3 / 1000, rel=0.06)
    np.testing.assert_allclose((mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2, [10, -20, 30], atol=1.0)
    radius = np.linalg.norm(mesh.vertices - [10, -20, 30], axis=1)
    assert np.abs(radius - 40).mean() < 1.0


def test_liver_and_tumour_labels_are_merged(tmp_path: Path) -> None:
    SimpleITK.WriteImage(
        label_map((1, 0, 0, 0, 1, 0, 0, 0, 1), (2.0, 2.0, 2.0), True), str(tmp_path / "liver_1.nii.gz")
    )
    whole = repaired(open_source(tmp_path, (1, 2)).load()["liver_1"])
    assert whole.volume_ml == pytest.approx(4 / 3 * np.pi * 40**3 / 1000, rel=0.06)
    assert len(whole.trimesh.split()) == 1


def test_label_map_without_the_liver_is_refused_by_name(tmp_path: Path) -> None:
    SimpleITK.WriteImage(label_map((1, 0, 0, 0, 1, 0, 0, 0, 1), (4.0, 4.0, 4.0)), str(tmp_path / "liver_1.nii.gz"))
    with pytest.raises(SourceError, match="liver_1"):
        open_source(tmp_path, (9,)).load()["liver_1"]


def test_a_folder_without_surfaces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(SourceError, match="neither meshes nor label maps"):
        open_source(tmp_path)


def test_both_npz_layouts_give_the_same_surface_in_lps(tmp_path: Path) -> None:
    mesh = lobed_body(np.random.default_rng(0))
    np.savez(
        tmp_path / "lps.npz",
        **{"a.vertices_0.01mm": np.round(mesh.vertices * 100).astype(np.int16), "a.faces": mesh.faces},
    )
    np.savez(
        tmp_path / "ras.npz", **{"a.vertices": (mesh.vertices * [-1, -1, 1]).astype(np.float32), "a.faces": mesh.faces}
    )
    lps, ras = (open_source(tmp_path / name).load()["a"] for name in ("lps.npz", "ras.npz"))
    np.testing.assert_allclose(lps.vertices, ras.vertices, atol=0.006)
    assert lps.volume_ml == pytest.approx(ras.volume_ml, rel=1e-3)
    assert ras.volume_ml > 0


def test_folder_of_meshes_reads_stl_and_npz(tmp_path: Path) -> None:
    ball().trimesh.export(tmp_path / "one.stl")
    write_mesh(tmp_path / "two.npz", ball())
    surfaces = open_source(tmp_path).load()
    assert list(surfaces) == ["one", "two"]
    assert surfaces["one"].volume_ml == pytest.approx(surfaces["two"].volume_ml, rel=1e-4)


@pytest.mark.parametrize("missing", [1, 40], ids=["one triangle", "a large hole"])
def test_an_open_surface_is_closed(missing: int) -> None:
    whole = ball(subdivisions=3)
    order = np.argsort(np.linalg.norm(whole.vertices[whole.faces].mean(axis=1) - [40, 0, 0], axis=1))
    mesh = repaired(TriangleMesh(whole.vertices, whole.faces[np.sort(order[missing:])]))
    assert mesh.closed
    assert mesh.volume_ml == pytest.approx(whole.volume_ml, rel=0.08)


def test_an_inward_surface_is_turned_and_a_splinter_dropped() -> None:
    whole, splinter = ball(), ball(4.0, 1)
    vertices = np.concatenate([whole.vertices, splinter.vertices + 100])
    faces = np.concatenate([whole.faces[:, ::-1], splinter.faces + len(whole.vertices)])
    mesh = repaired(TriangleMesh(vertices, faces))
    assert mesh.closed
    assert mesh.volume_ml == pytest.approx(whole.volume_ml, rel=1e-6)


def test_smoothing_removes_noise_and_keeps_the_volume() -> None:
    clean = ball()
    noisy = TriangleMesh(clean.vertices + np.random.default_rng(0).normal(0, 0.5, clean.vertices.shape), clean.faces)
    smooth = smoothed(noisy, 10)
    roughness = [np.std(np.linalg.norm(mesh.vertices, axis=1)) for mesh in (noisy, smooth)]
    assert roughness[1] < 0.6 * roughness[0]
    assert smooth.volume_ml == pytest.approx(clean.volume_ml, rel=0.02)


def test_decimation_keeps_the_shape() -> None:
    body = lobed_body(np.random.default_rng(3))
    small = decimated(body, 0.2)
    assert len(small.faces) <= 0.21 * len(body.faces)
    assert small.volume_ml == pytest.approx(body.volume_ml, rel=0.01)


def test_held_out_livers_are_the_sixteen_of_the_readme(shared_data: Path) -> None:
    names = open_source(shared_data / "amos_livers_watertight_lps.npz").load()
    split = split_livers(names)
    expected = [1, 9, 16, 24, 35, 44, 50, 59, 69, 77, 84, 94, 103, 111, 119, 127]
    assert list(split.held_out) == [f"amos_{number:03d}" for number in expected]
    assert list(split.held_out) == sorted(names)[::5]
    assert (len(split.training), len(split.validation)) == (51, 10)
    assert sorted([*split.training, *split.validation, *split.held_out]) == sorted(names)


def test_validation_livers_are_spread_over_the_volumes(shared_data: Path) -> None:
    livers = open_source(shared_data / "amos_livers_watertight_lps.npz").load()
    split = split_livers(livers)
    by_volume = sorted([*split.training, *split.validation], key=lambda name: livers[name].volume_ml)
    assert sorted(by_volume[3::6]) == list(split.validation)


@pytest.mark.parametrize(
    "name",
    [
        "amos_0001",
        "amos_001",
        "Amos-001",
        "AMOS 0001",
        "amos_0001.nii.gz",
        "amos1",
        "amos0001.stl",
        "AMOS22/labelsTr/amos_0001.nii.gz",
        "AMOS22/labelsTr/0001.nii.gz",
        r"D:\AMOS\labels\case 0001.nii",
        "amos22_0001",
        "amos_0001_0000.nii.gz",
        "amos_0001_liver",
        "AMOS.case.1",
        "ＡＭＯＳ_０００１",  # fullwidth letters and digits
    ],
)
def test_a_held_out_liver_stays_out_however_its_name_is_spelt(name: str) -> None:
    assert amos_case_number(name) == 1
    split = split_livers([name, "amos_0002", "amos_0011"])
    assert (split.held_out, split.validation, split.training) == ((name,), ("amos_0011",), ("amos_0002",))


@pytest.mark.parametrize(
    "name", ["amos", "amos_liver", "amos_1_2", "amos_0000", "AMOS22/labelsTr/liver.nii", "amos_12345"]
)
def test_a_case_of_amos_without_a_clear_number_is_refused(name: str) -> None:
    with pytest.raises(SourceError, match="number cannot be told"):
        split_livers([name, "amos_0002"])


def test_a_source_that_speaks_of_amos_makes_numbers_its_cases() -> None:
    split = split_livers(["0001", "0002"], source="AMOS22")
    assert (split.held_out, split.training) == (("0001",), ("0002",))
    with pytest.raises(SourceError, match="number cannot be told"):
        split_livers(["first", "0002"], source="AMOS22")


def test_other_sources_give_up_every_fifth_and_a_tenth_of_the_rest() -> None:
    split = split_livers([f"liver_{number}" for number in range(10)])
    assert split.held_out == ("liver_0", "liver_5")
    assert split.validation == ("liver_6",)
    assert len(split.training) == 7
