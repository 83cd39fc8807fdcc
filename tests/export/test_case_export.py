"""A case's result as other formats: what lies on the disk is the proven object, in the right place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import trimesh
from PIL import Image
from typer.testing import CliRunner

from dicom_node.catalog.database import open_copy
from dicom_node.cli.app import app
from dicom_node.export.case_export import ExportFormat, export_case
from dicom_node.processes.offline import process_folders
from dicom_node.reasons import NodeError
from dicom_node.results.seg_reader import read_seg
from dicom_node.results.surface.reader import read_surface
from dicom_node.settings import Settings
from tests.builders.ct_series import abdomen, write_ct_series
from tests.work.engines import load_quick
from training.sources.image_pairs import lps_from_voxel


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What `process` leaves, and the case."""
    folder = tmp_path_factory.mktemp("processed")
    write_ct_series(folder / "ct", abdomen(), series_description="Abdomen portal venous")
    settings = Settings.model_validate({"results": {"objects": ["seg", "surface", "capture"]}})
    report = process_folders([folder / "ct"], folder / "out", settings, load=load_quick, watch=lambda _: None)
    return folder / "out", report.cases[0].id


def exported(processed: tuple[Path, str], wanted: str, out: Path) -> list[Path]:
    folder, case = processed
    with open_copy(folder / "audit.sqlite").read() as view:
        return list(export_case(view, folder / "spool", case, ExportFormat(wanted), out))


@pytest.mark.parametrize("wanted", ["stl", "ply"])
def test_the_mesh_is_the_surface_object_s_in_lps_millimetres(
    processed: tuple[Path, str], wanted: str, tmp_path: Path
) -> None:
    (file,) = exported(processed, wanted, tmp_path)
    mesh = trimesh.load(file)
    true = read_surface(processed[0] / processed[1] / "surface.dcm").mesh
    assert mesh.is_watertight
    assert mesh.volume / 1000 == pytest.approx(true.volume_ml, rel=1e-5)
    np.testing.assert_allclose(mesh.bounds, true.trimesh.bounds, atol=1e-3)


@pytest.mark.parametrize("wanted", ["nifti", "nrrd"])
def test_the_mask_is_the_seg_s_frame_for_frame(processed: tuple[Path, str], wanted: str, tmp_path: Path) -> None:
    (file,) = exported(processed, wanted, tmp_path)
    image = sitk.ReadImage(str(file))
    voxels, affine = sitk.GetArrayFromImage(image), lps_from_voxel(image)
    seg = read_seg(processed[0] / processed[1] / "seg.dcm")
    assert voxels.sum() == sum(frame.inside.sum() for frame in seg.frames)
    by_position = {tuple(np.round(frame.position, 2)): frame.inside for frame in seg.frames}
    for k, plane in enumerate(voxels):
        position = tuple(np.round(affine[:3, 2] * k + affine[:3, 3], 2))
        np.testing.assert_array_equal(plane > 0, by_position[position])


def test_every_capture_is_a_picture(processed: tuple[Path, str], tmp_path: Path) -> None:
    files = exported(processed, "png", tmp_path)
    assert len(files) > 3
    assert {Image.open(file).mode for file in files} == {"RGB"}
    assert all(file.name.startswith(processed[1]) and file.stat().st_mode & 0o077 == 0 for file in files)


def test_the_command_writes_the_files_and_names_them(processed: tuple[Path, str], tmp_path: Path) -> None:
    folder, case = processed
    named = ["--format", "stl", "--out", str(tmp_path), "--database", str(folder / "audit.sqlite")]
    done = CliRunner().invoke(app, ["export", case, *named])
    assert done.exit_code == 0, done.output
    assert (tmp_path / f"{case}_liver.stl").exists()
    assert CliRunner().invoke(app, ["export", "pairs"]).exit_code == 2


def test_an_object_that_was_changed_since_it_was_proven_is_not_exported(
    processed: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = processed
    (surface,) = (file for file in (folder / "spool").rglob("surface.dcm"))
    before = surface.read_bytes()
    try:
        surface.write_bytes(before[:-2] + b"xx")
        with pytest.raises(NodeError) as caught:
            exported(processed, "stl", tmp_path)
    finally:
        surface.write_bytes(before)
    assert caught.value.reason.code == "SPOOL_DAMAGED"
    assert not list(tmp_path.iterdir())


def test_a_case_that_is_none_is_said(processed: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = processed
    with open_copy(folder / "audit.sqlite").read() as view, pytest.raises(NodeError, match="there is no case"):
        export_case(view, folder / "spool", "nobody", ExportFormat.STL, tmp_path)
