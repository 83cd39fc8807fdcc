"""Folders and tars go the same way as the network's images; bad files are counted and recorded (C2)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.dicom.header_reading import UnreadableDicomError
from dicom_node.reasons import STORE_FAILED, NodeError, RefusalError
from dicom_node.receive.importing import ImportFailedError, import_folder
from dicom_node.receive.instance_identity import identify
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))


def test_a_folder_with_strange_files_is_imported_and_they_are_counted(intake: Intake, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct" / "deep", BODY)
    (tmp_path / "ct" / "readme.txt").write_text("not DICOM")
    (tmp_path / "ct" / "empty.dcm").touch()
    (tmp_path / "ct" / "cut.dcm").write_bytes(paths[0].read_bytes()[:300])
    (tmp_path / "ct" / "link").symlink_to(tmp_path / "nowhere")
    counts = import_folder(intake.catalog.acting_as("import"), intake.settings.node.spool, tmp_path / "ct")
    assert (counts.stored, counts.not_dicom, counts.broken) == (60, 2, 1)
    again = import_folder(intake.catalog.acting_as("import"), intake.settings.node.spool, tmp_path / "ct")
    assert (again.stored, again.known) == (0, 60)
    assert intake.events("node") == ["IMPORTED", "IMPORTED"]


@pytest.mark.parametrize("suffix", ["tar", "tar.xz", "tar.gz"])
def test_a_tar_is_imported_without_unpacking_and_its_names_mean_nothing(
    intake: Intake, tmp_path: Path, suffix: str
) -> None:
    paths = write_ct_series(tmp_path / "ct", BODY)
    archive = tmp_path / f"ct.{suffix}"
    with tarfile.open(archive, f"w:{suffix.partition('.')[2]}") as packed:
        for n, path in enumerate(paths):
            content = path.read_bytes()
            member = tarfile.TarInfo(f"../../escaped_{n}.dcm")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    intake.take(archive)
    assert not list(tmp_path.parent.rglob("escaped_*"))
    assert [stack.admitted for stack in intake.decide()] == [True]


def packed(tmp_path: Path, kind: str) -> Path:
    """An archive of a whole series."""
    write_ct_series(tmp_path / "ct", BODY)
    archive = tmp_path / f"ct.tar.{kind}"
    with tarfile.open(archive, f"w:{kind}") as opened:
        for file in sorted((tmp_path / "ct").iterdir()):
            opened.add(file, arcname=file.name)
    return archive


def cut(archive: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * 0.7)])


def spoil(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    place = int(len(content) * 0.7)
    content[place : place + 200] = bytes(200)
    archive.write_bytes(content)


def cut_between_members(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        place = opened.getmembers()[40].offset
    archive.write_bytes(archive.read_bytes()[:place])


@pytest.mark.parametrize(
    ("kind", "harm"), [("gz", cut), ("xz", cut), ("xz", spoil), ("gz", spoil), ("", cut), ("", cut_between_members)]
)
def test_of_an_archive_that_cannot_be_read_to_its_end_nothing_is_stored(
    intake: Intake, tmp_path: Path, kind: str, harm: Callable[[Path], None]
) -> None:
    archive = packed(tmp_path, kind)
    whole = archive.read_bytes()
    harm(archive)
    with pytest.raises(ImportFailedError, match="cannot be read"):
        intake.take(archive)
    assert intake.series() == []
    archive.write_bytes(whole)
    assert [len(stack.images) for stack in intake.decide(archive)] == [60]


def test_a_spool_that_takes_nothing_is_not_blamed_on_the_input(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY)
    intake.settings.node.spool.write_text("a file where the folder should be")
    with pytest.raises(NodeError) as caught:
        intake.take(tmp_path / "ct")
    assert caught.value.reason is STORE_FAILED


def test_a_uid_of_an_unreadable_value_is_refused_by_reason() -> None:
    content = source_bytes()
    patched = content.replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00FD", 1)
    assert patched != content
    with pytest.raises((UnreadableDicomError, RefusalError)):
        identify(patched, "file")


def test_an_empty_folder_and_a_folder_without_dicom_are_clear_errors(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportFailedError, match="holds no DICOM"):
        intake.take(tmp_path / "empty")
    (tmp_path / "empty" / "a.txt").write_text("x")
    with pytest.raises(ImportFailedError, match="holds no DICOM"):
        intake.take(tmp_path / "empty")
    with pytest.raises(ImportFailedError, match="cannot be read"):
        intake.take(tmp_path / "missing")
    with pytest.raises(ImportFailedError, match="cannot be read"):
        intake.take(tmp_path / "empty" / "a.txt")


def test_our_own_segmentation_sent_back_is_refused_as_our_result(intake: Intake, tmp_path: Path) -> None:
    from dicom_node.values.equipment import MANUFACTURER, MODEL

    own = {"Manufacturer": MANUFACTURER, "ManufacturerModelName": MODEL, "Modality": "SEG"}
    write_ct_series(tmp_path / "seg", BODY, sop_class="1.2.840.10008.5.1.4.1.1.66.4", attributes=own)
    assert [stack.reason_code for stack in intake.decide(tmp_path / "seg")] == ["OWN_RESULT"]


SOURCE = io.BytesIO()


def source_bytes() -> bytes:
    if not SOURCE.getvalue():
        from tests.builders.ct_series import SeriesOptions, image_header

        image_header(BODY, 0, 1, SeriesOptions()).save_as(SOURCE, enforce_file_format=True)
    return SOURCE.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_are_either_identified_or_refused_by_reason(data: st.DataObject) -> None:
    content = bytearray(source_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(132, min(1600, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(132, len(content))))
    try:
        identity = identify(bytes(content[:cut]), "file")
    except (UnreadableDicomError, RefusalError):
        return
    for uid in (identity.sop_instance_uid, identity.series_instance_uid, identity.study_instance_uid):
        assert set(uid) <= set("0123456789.")
        assert len(uid) <= 64


def test_a_dicomdir_is_an_index_and_no_instance(intake: Intake, tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    paths = write_ct_series(tmp_path / "ct", BODY)
    files = FileSet()
    files.add(pydicom.dcmread(paths[0]))
    files.write(tmp_path / "disc")
    counts = import_folder(intake.catalog.acting_as("import"), intake.settings.node.spool, tmp_path / "disc")
    assert (counts.stored, counts.not_dicom, counts.broken) == (1, 1, 0)
