"""What the Storage SCP does not take, and how it says so (C2)."""

from __future__ import annotations

import socket
import subprocess
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydantic import ValidationError
from pynetdicom.acse import ACSE
from sqlalchemy import select

from dicom_node.catalog.tables import AuditRow
from dicom_node.dicom.storage_server import AssociationRequest
from dicom_node.receive.association_policy import AssociationPolicy, AssociationRefusedError
from dicom_node.settings import ListenSettings
from dissm_engine.volume import Volume
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake, running_listener
from tests.builders.rows import rows
from tests.builders.senders import (
    CT,
    association,
    audit_facts,
    instances,
    raw_store,
    raw_store_bytes,
    storescu,
    wait_until,
)
from tests.thirdparty import need

MR = "1.2.840.10008.5.1.4.1.1.4"
BODY = abdomen((24, 34, 36), (9.0, 9.0, 6.0))


@pytest.mark.parametrize("uid", ["../../outside", "/etc/passwd", "1.2.3/../../x", "1.2." + "3" * 70, "1.2.x", ""])
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_uids_that_are_none_are_refused_and_touch_no_file(node: Intake, tmp_path: Path, keyword: str, uid: str) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path / "ct", Volume(BODY.hu[:1], BODY.lps_from_voxel))[0])
    image[keyword].value = uid
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert raw_store(node, image).Status == 0xA900
    assert instances(node) == []
    left = {file for file in tmp_path.rglob("*") if file.is_file()} - before
    assert {file.name.split(".")[0] for file in left} <= {"catalog"}
    wait_until(lambda: bool(audit_facts(node, "CLOSED")))
    assert audit_facts(node, "CLOSED")[-1]["refused"] == {"CLASS_MISMATCH": 1}


@pytest.mark.parametrize("data_set", [b"\xff" * 500, b"\x08\x00\x16\x00UI\xff\xff1.2", b"\x08\x00"])
def test_a_data_set_that_cannot_be_parsed_is_refused_and_the_listener_goes_on(
    node: Intake, tmp_path: Path, data_set: bytes
) -> None:
    assert raw_store_bytes(node, data_set, "1.2.3.4").Status in {0xC000, 0xA900}
    assert instances(node) == []
    write_ct_series(tmp_path / "ct", BODY)
    assert storescu(node, tmp_path / "ct") == 0


def test_a_data_set_of_another_class_than_the_request_is_refused(node: Intake, tmp_path: Path) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path, BODY)[0])
    image.SOPClassUID = MR
    assert raw_store(node, image).Status == 0xA900


def test_a_data_set_of_another_instance_than_the_request_is_refused(node: Intake, tmp_path: Path) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path, BODY)[0])
    del image.SOPInstanceUID
    assert raw_store(node, image).Status == 0xA900


def test_other_classes_are_refused_by_context_and_the_audit_names_them(node: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "mr", BODY, sop_class=MR)
    assert storescu(node, tmp_path / "mr") != 0
    assert instances(node) == []
    wait_until(lambda: bool(audit_facts(node, "CLOSED")))
    assert audit_facts(node, "OPENED")[0]["contexts_refused"] == [MR]


def test_other_classes_are_taken_and_dropped_where_the_site_says_so(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node", listen={"other_sop_classes": "discard"})
    write_ct_series(tmp_path / "study" / "ct", BODY)
    write_ct_series(tmp_path / "study" / "mr", BODY, name="mr", sop_class=MR)
    with running_listener(node.settings, node.catalog):
        assert storescu(node, tmp_path / "study") == 0
    assert {row.sop_class_uid for row in instances(node)} == {CT}
    assert sum(facts["discarded"] for facts in audit_facts(node, "CLOSED")) == 24
    node.close()


def test_echo_is_answered_and_leaves_no_trace(node: Intake) -> None:
    port = str(node.settings.listen.port)
    done = subprocess.run([need("echoscu"), "-aec", "DISSM", "127.0.0.1", port], check=False, timeout=60)
    assert done.returncode == 0
    with rows(node.catalog) as session:
        assert session.scalars(select(AuditRow)).all() == []


def test_port_checks_leave_no_trace_and_no_thread(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node")
    write_ct_series(tmp_path / "ct", BODY)
    with running_listener(node.settings, node.catalog) as listener:
        for _ in range(30):
            socket.create_connection(("127.0.0.1", node.settings.listen.port)).close()
        wait_until(lambda: not listener.connection_count)
        assert storescu(node, tmp_path / "ct") == 0
        assert [event for event in node.events("association") if event == "OPENED"] == ["OPENED"]
    node.close()


def test_another_called_title_and_an_unlisted_caller_are_rejected_and_audited(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node", listen={"calling_ae_titles": ["PACS"]})
    write_ct_series(tmp_path / "ct", BODY)
    with running_listener(node.settings, node.catalog):
        assert storescu(node, tmp_path / "ct", calling="STRANGER") != 0
        assert storescu(node, tmp_path / "ct", calling="PACS", called="OTHER") != 0
        assert instances(node) == []
        wait_until(lambda: len(audit_facts(node, "REFUSED")) == 2)
        assert storescu(node, tmp_path / "ct", calling="PACS") == 0
    assert node.events("association") == ["REFUSED", "REFUSED", "OPENED", "CLOSED"]
    node.close()


@pytest.mark.parametrize(
    ("titles", "addresses", "calling", "address", "accepted"),
    [
        ((), (), "ANY", "127.0.0.1", True),
        ((), (), "ANY", "::1", True),
        ((), (), "ANY", "10.0.0.5", False),
        ((), (), "ANY", "::ffff:127.0.0.1", True),
        (("PACS",), ("10.0.0.5",), "PACS", "::ffff:10.0.0.5", True),
        (("PACS",), (), "PACS", "10.0.0.5", False),
        ((), ("10.0.0.0/24",), "PACS", "10.0.0.5", False),
        (("PACS",), ("10.0.0.0/24",), "PACS", "10.0.0.5", True),
        (("PACS",), ("10.0.0.5",), "PACS", "10.0.0.6", False),
        (("PACS",), ("10.0.0.5",), "OTHER", "10.0.0.5", False),
        (("PACS",), (), "OTHER", "127.0.0.1", False),
    ],
)
def test_both_lists_count_for_everything_but_loopback(
    tmp_path: Path, titles: Any, addresses: Any, calling: str, address: str, accepted: bool
) -> None:
    chosen = ListenSettings(calling_ae_titles=titles, calling_addresses=addresses, disk_watermark_mb=0)
    policy = AssociationPolicy.from_settings(chosen, tmp_path)
    if accepted:
        policy.check(AssociationRequest("DISSM", calling, address))
    else:
        with pytest.raises(AssociationRefusedError):
            policy.check(AssociationRequest("DISSM", calling, address))


def test_an_address_that_is_none_is_named_at_once() -> None:
    with pytest.raises(ValidationError, match=r"pacs\.hospital.*no address and no network"):
        ListenSettings(calling_addresses=("pacs.hospital",))


def test_below_the_watermark_an_association_is_refused_for_now(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node", listen={"disk_watermark_mb": 10**9})
    with running_listener(node.settings, node.catalog), association(node) as connection:
        assert connection.is_rejected
        answer = connection.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 1)
        # The answer comes first, its row after it.
        wait_until(lambda: bool(audit_facts(node, "REFUSED")))
    assert node.events("association") == ["REFUSED"]
    node.close()


def test_a_refusal_is_sent_before_its_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reject = ACSE.send_reject

    def queued_while_the_sending_thread_is_busy(acse: ACSE, *answer: int) -> None:
        acse.dul._run_loop_delay = 0.5
        time.sleep(0.1)
        reject(acse, *answer)

    monkeypatch.setattr(ACSE, "send_reject", queued_while_the_sending_thread_is_busy)
    node = Intake(tmp_path / "node", listen={"calling_ae_titles": ["PACS"]})
    with running_listener(node.settings, node.catalog), association(node) as connection:
        assert connection.is_rejected
        wait_until(lambda: bool(audit_facts(node, "REFUSED")))
    node.close()


def test_a_disk_that_fills_up_within_an_association_answers_out_of_resources(
    node: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path, BODY)[0])
    with association(node) as connection:
        monkeypatch.setattr("dicom_node.receive.association_policy.shutil.disk_usage", lambda _path: _Full())
        assert connection.send_c_store(image).Status == 0xA700
    assert instances(node) == []


class _Full:
    free = 0


def test_a_refused_image_is_told_why_in_64_characters_without_a_value_that_was_sent(
    node: Intake, tmp_path: Path
) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path / "ct", Volume(BODY.hu[:1], BODY.lps_from_voxel))[0])
    image.PatientName, image.SeriesInstanceUID = "Secret^Name", ""
    image["SOPInstanceUID"].value = "1.2.x"
    no_data_set = raw_store_bytes(node, b"\xff" * 500, "1.2.3.4")
    for answer, said in (
        (raw_store(node, image), "CLASS_MISMATCH: an image was refused: SOPInstanceUID is no UID"),
        (no_data_set, "CLASS_MISMATCH: an image was refused: SOPClassUID is missing"),
    ):
        assert answer.Status == 0xA900
        assert answer.ErrorComment == said
        assert len(answer.ErrorComment) <= 64
        assert "Secret" not in answer.ErrorComment


def test_a_full_disk_and_an_image_that_is_too_large_say_so_to_their_sender(tmp_path: Path) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path / "ct", Volume(BODY.hu[:1], BODY.lps_from_voxel))[0])
    large = deepcopy(image)
    large.PixelData = bytes(2 << 20)
    intake = Intake(tmp_path / "node", listen={"max_instance_mb": 1})
    with running_listener(intake.settings, intake.catalog), association(intake) as connection:
        assert connection.send_c_store(image).get("ErrorComment") is None
        answer = connection.send_c_store(large)
        assert (answer.Status, str(answer.ErrorComment)[:19]) == (0xC000, "INSTANCE_TOO_LARGE:")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dicom_node.receive.association_policy.shutil.disk_usage", lambda _path: _NoSpace())
            answer = connection.send_c_store(image)
        assert answer.Status == 0xA700
        assert str(answer.ErrorComment).startswith("DISK_ALMOST_FULL: 0 MB are free")
    intake.close()


class _NoSpace:
    free = 0
