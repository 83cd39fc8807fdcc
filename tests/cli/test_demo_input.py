"""What the demo is given, and what an earlier demo left."""

from __future__ import annotations

import stat
import tarfile
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.tag import Tag
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.demo.run import run_demo
from dicom_node.demo.source import given_source
from dicom_node.reasons import IMPORT_UNREADABLE, NOTHING_TO_IMPORT, NodeError
from tests.builders.ct_series import abdomen, write_ct_series

SMALL = abdomen(shape=(20, 21, 23), spacing=(6.0, 6.0, 6.0))


@pytest.mark.parametrize("damage", ["corrupt", "cut"])
@pytest.mark.parametrize("packing", ["xz", "gz"])
def test_a_damaged_archive_is_refused_by_its_reason(tmp_path: Path, packing: str, damage: str) -> None:
    write_ct_series(tmp_path / "ct", SMALL)
    archive = tmp_path / f"study.tar.{packing}"
    with tarfile.open(archive, f"w:{packing}") as packed:  # type: ignore[call-overload]
        packed.add(tmp_path / "ct", arcname="study")
    content = bytearray(archive.read_bytes())
    middle = len(content) // 2
    if damage == "corrupt":
        content[middle : middle + 64] = bytes(64)
    archive.write_bytes(content[: middle if damage == "cut" else len(content)])
    with pytest.raises(NodeError) as found:
        given_source(archive, tmp_path / "unpacked")
    assert found.value.reason is IMPORT_UNREADABLE


def test_an_archive_is_unpacked_to_its_images(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", SMALL)
    with tarfile.open(tmp_path / "study.tar", "w") as packed:
        packed.add(tmp_path / "ct", arcname="study")
    source = given_source(tmp_path / "study.tar", tmp_path / "unpacked")
    assert (len(source.images), source.others) == (20, 0)


def test_an_image_without_its_class_in_the_meta_information_is_counted_and_not_sent(tmp_path: Path) -> None:
    first, *_ = write_ct_series(tmp_path / "ct", SMALL)
    image = dcmread(first)
    del image.file_meta[Tag("MediaStorageSOPClassUID")]
    image.save_as(first, enforce_file_format=False)
    source = given_source(tmp_path / "ct", tmp_path / "unpacked")
    assert (len(source.images), source.others) == (19, 1)


def test_a_negative_seed_is_refused() -> None:
    result = CliRunner().invoke(app, ["demo", "--seed", "-1"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_what_a_demo_makes_is_private_and_an_earlier_picture_does_not_outlive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ct_series(tmp_path / "ct", SMALL)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("overview.png", "overview-2.png", "mine.png"):
        (out / name).write_text("old")

    def broken(*_arguments: object) -> None:
        (out / "archive" / "0001.dcm").write_text("an object")
        raise NodeError(NOTHING_TO_IMPORT, source="stop here")

    monkeypatch.setattr("dicom_node.demo.run.write_settings", broken)
    with pytest.raises(NodeError):
        run_demo(tmp_path / "ct", out)
    assert sorted(each.name for each in out.iterdir()) == ["archive", "mine.png"]
    assert stat.S_IMODE((out / "archive").stat().st_mode) == 0o700
    assert stat.S_IMODE((out / "archive" / "0001.dcm").stat().st_mode) == 0o600
