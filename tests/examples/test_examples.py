"""The examples do what they say, run as their reader runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

from dicom_node.demo.source import synthetic_source
from dissm_engine.bundle import Bundle
from tests.builders.ct_series import abdomen
from tests.builders.result_case import case_on_disk

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(file.name for file in EXAMPLES.glob("*.py"))


def run(name: str, *arguments: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("DISSM_TEST_THREADS", "2")}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


@pytest.fixture(scope="module")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder with one synthetic CT, and its liver's volume in ml."""
    folder = tmp_path_factory.mktemp("ct")
    source = synthetic_source(Bundle.load().model.shape, 1, folder)
    assert source.truth is not None
    return folder, source.truth.liver_mesh.volume_ml


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_example_has_a_help_and_fits_on_a_page(name: str) -> None:
    assert f"python examples/{name}" in run(name, "--help")
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 80


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    case = case_on_disk(tmp_path, abdomen(shape=(22, 25, 27), spacing=(5.0, 5.5, 6.0)))
    printed = run("read_result.py", case.seg, case.surface, "--stl", tmp_path / "liver.stl").splitlines()
    found = case.delineation
    mask, mesh = (next(line for line in printed if line.startswith(what)) for what in ("mask", "mesh"))
    assert numbers(mask)[-1] == pytest.approx(found.volume_ml, abs=1)
    assert "closed" in mesh
    assert numbers(mesh) == [len(found.mesh.vertices), pytest.approx(found.mesh.volume_ml, abs=1)]
    stl = trimesh.load_mesh(tmp_path / "liver.stl")
    assert np.allclose(stl.bounds, found.mesh.trimesh.bounds, atol=1e-3)


@pytest.mark.slow
def test_a_folder_becomes_a_mask_and_a_surface_of_the_phantoms_liver(
    phantom_folder: tuple[Path, float], tmp_path: Path
) -> None:
    folder, truth_ml = phantom_folder
    printed = run("delineate_folder.py", folder, "--out", tmp_path)
    assert numbers(printed)[0] == pytest.approx(truth_ml, rel=0.1)
    with np.load(tmp_path / "liver.npz") as result:
        mask_ml = result["mask"].sum() * abs(np.linalg.det(result["lps_from_voxel"][:3, :3])) / 1000
    assert mask_ml == pytest.approx(truth_ml, rel=0.1)
    stl = trimesh.load_mesh(tmp_path / "liver.stl")
    assert stl.is_watertight
    assert stl.volume / 1000 == pytest.approx(mask_ml, rel=0.02)


@pytest.mark.slow
def test_a_bundle_agrees_with_its_own_copy_in_every_voxel(phantom_folder: tuple[Path, float], tmp_path: Path) -> None:
    copy = tmp_path / "liver.zip"
    with zipfile.ZipFile(copy, "w") as archive:
        for file in sorted(file for file in Bundle.shipped().rglob("*") if file.is_file()):
            archive.write(file, file.relative_to(Bundle.shipped()))
    printed = run("compare_bundles.py", phantom_folder[0], copy).splitlines()
    assert len(printed) == 3
    assert printed[-1] == "DSC between them: 1.0000"


@pytest.mark.slow
def test_the_tutorial_works_line_by_line(phantom_folder: tuple[Path, float], tmp_path: Path) -> None:
    folder, truth_ml = phantom_folder
    shutil.copytree(folder, tmp_path / "demo-output" / "node-1" / "synthetic")
    text = (EXAMPLES.parent / "docs" / "tutorial" / "first-delineation.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    volume_ml = float(re.findall(r"^(\d+) ml, ", done.stdout, re.MULTILINE)[0])
    assert volume_ml == pytest.approx(truth_ml, rel=0.1)
    assert (tmp_path / "liver.stl").exists()


def test_a_folder_without_a_ct_is_named(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    with pytest.raises(AssertionError, match="holds no CT series"):
        run("delineate_folder.py", tmp_path, "--out", tmp_path / "out")
