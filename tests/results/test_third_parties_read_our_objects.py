"""dciodvfy, dcmqi and GDCM judge what we write; none of them is ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_node.assemble.volume import read_volume
from dicom_node.settings import ResultSettings
from tests.builders.ct_series import ORIENTATIONS, abdomen, oriented
from tests.builders.result_case import ResultCase, case_on_disk, written_case
from tests.thirdparty import need, need_file

SMALL = abdomen(shape=(40, 37, 43), spacing=(5.0, 5.0, 4.0))


@pytest.fixture(scope="module", params=ORIENTATIONS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ResultCase:
    return case_on_disk(tmp_path_factory.mktemp(request.param), oriented(SMALL, request.param))


@pytest.fixture(scope="session")
def gdcm_surface_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program beside this file, compiled against libgdcm-dev."""
    headers = need_file(Path("/usr/include/gdcm-3.0/gdcmSurfaceReader.h"), "libgdcm-dev").parent
    source = Path(__file__).with_name("gdcm_surface_reader.cxx")
    program = tmp_path_factory.mktemp("gdcm") / "gdcm_surface_reader"
    libraries = [f"-lgdcm{name}" for name in ("MSFF", "DSED", "DICT", "Common")]
    subprocess.run([need("g++"), "-std=c++17", f"-I{headers}", source, "-o", program, *libraries], check=True)
    return program


def test_dciodvfy_finds_no_error_in_either_object(case: ResultCase) -> None:
    for path in (case.seg, case.surface):
        said = subprocess.run([need("dciodvfy"), path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr
        assert said.returncode == 0
        assert said.stderr.split()[-1] in {"Segmentation", "SurfaceSegmentation"}


@pytest.mark.parametrize("frames", ["all", "liver"])
def test_dcmqi_reads_the_seg_back_equal_in_patient_coordinates(case: ResultCase, frames: str, tmp_path: Path) -> None:
    if frames == "liver":
        case = rewritten(case, tmp_path)
    subprocess.run(
        [need("segimage2itkimage"), "--inputDICOM", case.seg, "--outputDirectory", tmp_path, "-t", "nii"],
        check=True,
        capture_output=True,
    )
    (label_map,) = tmp_path.glob("*.nii*")
    assert_equal_in_patient_coordinates(sitk.ReadImage(str(label_map)), case)


def test_gdcm_reads_our_surface_vertex_for_vertex(case: ResultCase, gdcm_surface_reader: Path, tmp_path: Path) -> None:
    parts = [tmp_path / name for name in ("points", "normals", "indices")]
    said = subprocess.run(
        [gdcm_surface_reader, case.surface, *parts], check=True, capture_output=True, text=True
    ).stdout.split()
    mesh = case.delineation.mesh
    assert said == [str(len(mesh.vertices)), str(len(mesh.vertices)), "TRIANGLE", "1", "1"]
    points, normals = (np.fromfile(part, "<f4").reshape(-1, 3) for part in parts[:2])
    np.testing.assert_array_equal(points, mesh.vertices.astype(np.float32))
    np.testing.assert_array_equal(normals, mesh.normals.astype(np.float32))
    np.testing.assert_array_equal(np.fromfile(parts[2], "<u4").reshape(-1, 3), mesh.faces + 1)


def rewritten(case: ResultCase, folder: Path) -> ResultCase:
    return written_case(folder, case.stack, ResultSettings(seg_frames="liver"), case.delineation)


def assert_equal_in_patient_coordinates(label_map: sitk.Image, case: ResultCase) -> None:
    """ITK's images are LPS. Every voxel centre of the CT is looked up in dcmqi's volume; beyond it there is nothing."""
    direction = np.array(label_map.GetDirection()).reshape(3, 3) * np.array(label_map.GetSpacing())
    lps = case.stack.volume.grid.points_lps()
    ijk = np.rint((lps - label_map.GetOrigin()) @ np.linalg.inv(direction).T).astype(int)
    size = np.array(label_map.GetSize())
    known = ((ijk >= 0) & (ijk < size)).all(axis=-1)
    labels = sitk.GetArrayFromImage(label_map)
    read = np.zeros(case.delineation.mask.shape, dtype=bool)
    i, j, k = ijk[known].T
    read[known] = labels[k, j, i] == 1
    assert (labels == 1).sum() == case.delineation.mask.sum()
    np.testing.assert_array_equal(read, case.delineation.mask)


def test_objects_of_a_real_ct_are_proven_and_valid(hcc_048: Path, tmp_path: Path) -> None:
    case = written_case(tmp_path, read_volume(sorted(hcc_048.rglob("*.dcm"))))
    proof = case.prove()
    assert proof.seg_frames == 89
    for path in (case.seg, case.surface):
        said = subprocess.run([need("dciodvfy"), path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr
