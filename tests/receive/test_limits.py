"""What is too large is refused by its reason before it fills disk or memory (C2, C10)."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.assemble.volume import hounsfield
from dicom_node.dicom.header_reading import MAX_HEADER_BYTES, UnreadableDicomError, read_header
from dicom_node.dicom.storage_server import Connection, StoreRequest
from dicom_node.reasons import INSTANCE_TOO_LARGE, SERIES_TOO_LARGE, UNREADABLE_PIXELS, RefusalError
from dicom_node.receive.instance_identity import identify
from dicom_node.receive.instance_store import InstanceStore
from dicom_node.receive.spool import Spool
from dicom_node.receive.storage_scp import StorageScp
from dissm_engine.volume import Volume
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake, running_listener
from tests.builders.senders import CT, audit_facts, raw_store, raw_store_bytes, wait_until

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))
MB = 1 << 20
MR = "1.2.840.10008.5.1.4.1.1.4"


def deflated(tmp_path: Path, *more: bytes) -> bytes:
    """One deflated image, and `more` behind its pixel data within the deflated part."""
    volume = Volume(BODY.hu[:1], BODY.lps_from_voxel)
    (path,) = write_ct_series(tmp_path / "deflated", volume, transfer_syntax=DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    buffer = io.BytesIO(content)
    start = 144 + int(pydicom.dcmread(buffer).file_meta.FileMetaInformationGroupLength)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts = [packer.compress(part) for part in (zlib.decompress(content[start:], -zlib.MAX_WBITS), *more)]
    return content[:start] + b"".join(parts) + packer.flush()


def element(tag: bytes, length: int) -> bytes:
    return tag + b"OB\0\0" + length.to_bytes(4, "little")


def peak_of(content: bytes) -> int:
    tracemalloc.start()
    try:
        identify(content, "bomb")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_deflated_bomb_behind_the_pixels_is_not_inflated_to_see_who_it_is(tmp_path: Path) -> None:
    bomb = deflated(tmp_path, element(b"\xfc\xff\xfc\xff", 200 * MB), *[bytes(MB)] * 200)
    assert len(bomb) < MB
    assert peak_of(bomb) < 3 * MAX_HEADER_BYTES


def test_a_deflated_header_without_end_is_refused(tmp_path: Path) -> None:
    content = deflated(tmp_path)
    start = 144 + int(pydicom.dcmread(io.BytesIO(content)).file_meta.FileMetaInformationGroupLength)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    parts = [packer.compress(part) for part in (element(b"\x09\x00\x10\x10", 200 * MB), *[bytes(MB)] * 200)]
    with pytest.raises(UnreadableDicomError):
        identify(content[:start] + b"".join(parts) + packer.flush(), "bomb")


def test_a_deflated_bomb_is_refused_by_the_worker(tmp_path: Path) -> None:
    file = tmp_path / "bomb.dcm"
    file.write_bytes(deflated(tmp_path, element(b"\xfc\xff\xfc\xff", 200 * MB), *[bytes(MB)] * 200))
    with pytest.raises(RefusalError) as caught:
        hounsfield(file, 0)
    assert caught.value.reason is UNREADABLE_PIXELS


def test_a_sound_deflated_image_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "image.dcm"
    file.write_bytes(deflated(tmp_path))
    assert np.array_equal(hounsfield(file, 0), np.maximum(BODY.hu[0], -1024))
    ours, theirs = read_header(file, "image"), pydicom.dcmread(file, stop_before_pixels=True)
    assert ours == theirs
    assert ours.file_meta == theirs.file_meta


def test_a_deflated_image_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDicomError):
        identify(deflated(tmp_path)[:-40], "cut")


def test_the_header_of_a_deflated_image_does_not_keep_its_pixels(tmp_path: Path) -> None:
    large = abdomen((1, 512, 512), (0.7, 0.7, 2.5))
    (path,) = write_ct_series(tmp_path, large, transfer_syntax=DeflatedExplicitVRLittleEndian)
    read_header(path, "warm up")
    tracemalloc.start()
    headers = [read_header(path, n) for n in range(5)]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(headers) * 0.1 * MB > held


def stored(intake: Intake, paths: list[Path]) -> None:
    store = InstanceStore(intake.catalog.acting_as("test"), Spool(intake.settings.node.spool), intake.settings.listen)
    for path in paths:
        content = path.read_bytes()
        store.store(content, identify(content, "test"), "TEST")


def test_a_series_over_its_limit_takes_no_more_and_is_refused_as_a_whole(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "node", listen={"max_series_mb": 1})
    paths = write_ct_series(tmp_path / "ct", abdomen((60, 128, 128), (3.0, 3.0, 2.5)))
    with pytest.raises(RefusalError) as caught:
        stored(intake, paths)
    assert caught.value.reason is SERIES_TOO_LARGE
    assert len(list((intake.settings.node.spool / "instances").rglob("*.dcm"))) < 60
    assert [stack.reason_code for stack in intake.decide()] == ["SERIES_TOO_LARGE"]
    intake.close()


def test_an_image_over_the_limit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "node", listen={"max_instance_mb": 1})
    large = write_ct_series(tmp_path / "ct", abdomen((1, 1024, 1024), (0.4, 0.4, 2.5)))
    with pytest.raises(RefusalError) as caught:
        stored(intake, large)
    assert caught.value.reason is INSTANCE_TOO_LARGE
    assert not list(intake.settings.node.spool.rglob("*.dcm"))
    intake.close()


def test_the_sender_of_too_large_an_image_hears_a_lasting_failure(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node", listen={"max_instance_mb": 1})
    image = pydicom.dcmread(write_ct_series(tmp_path / "ct", abdomen((1, 1024, 1024), (0.4, 0.4, 2.5)))[0])
    with running_listener(node.settings, node.catalog):
        assert raw_store(node, image).Status == 0xC000
        wait_until(lambda: bool(audit_facts(node, "CLOSED")))
    assert audit_facts(node, "CLOSED")[-1]["refused"] == {"INSTANCE_TOO_LARGE": 1}
    node.close()


@pytest.mark.parametrize("sop_class", [CT, MR], ids=["taken", "discarded"])
def test_of_an_endless_data_set_no_more_is_held_than_one_image_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sop_class: str
) -> None:
    held: list[int] = []

    def note_size(listener: StorageScp, connection: Connection, request: StoreRequest) -> int:
        held.append(request.size)
        return on_store(listener, connection, request)

    on_store = StorageScp.on_store
    monkeypatch.setattr(StorageScp, "on_store", note_size)
    node = Intake(tmp_path / "node", listen={"max_instance_mb": 1, "other_sop_classes": "discard"})
    with running_listener(node.settings, node.catalog):
        status = raw_store_bytes(node, bytes(12 * MB), "1.2.3.4", sop_class).Status
    assert status == (0xC000 if sop_class == CT else 0x0000)
    assert MB < held[0] < 2 * MB
    node.close()


def test_headers_that_promise_more_voxels_than_memory_are_refused_before_a_worker_sees_them(
    intake: Intake, tmp_path: Path
) -> None:
    huge = {"Rows": 65535, "Columns": 65535}
    write_ct_series(tmp_path / "ct", BODY, transfer_syntax=DeflatedExplicitVRLittleEndian, attributes=huge)
    assert [stack.reason_code for stack in intake.decide(tmp_path / "ct")] == ["VOLUME_TOO_LARGE"]
