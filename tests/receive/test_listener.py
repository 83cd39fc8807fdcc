"""The Storage SCP against real senders: durable before Success, clear refusals, nothing outside the spool (C2)."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import select, text

from dicom_node.assemble.completeness import settle_quiet_series
from dicom_node.catalog import audit
from dicom_node.catalog.states import SeriesState
from dicom_node.catalog.tables import Association
from dicom_node.reasons import NodeError
from dicom_node.receive.spool import Spool
from dicom_node.receive.storage_scp import StorageScp
from dissm_engine.volume import Volume
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake, running_listener
from tests.builders.rows import changed_rows, rows
from tests.builders.senders import (
    CT,
    association,
    audit_facts,
    instances,
    storescu,
    wait_until,
)
from tests.thirdparty import need

BODY = abdomen((24, 34, 36), (9.0, 9.0, 6.0))


def test_dcmtk_sends_a_series_and_every_byte_lies_in_the_spool_as_it_came(node: Intake, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", BODY)
    assert storescu(node, tmp_path / "ct") == 0
    images = instances(node)
    assert len(images) == 24
    spool = node.settings.node.spool
    sent = {pydicom.dcmread(path).SOPInstanceUID: path for path in paths}
    for row in images:
        kept = spool / row.path
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == row.digest
        assert pydicom.dcmread(kept) == pydicom.dcmread(sent[row.sop_instance_uid])
        assert kept.stat().st_mode & 0o777 == 0o600
    assert spool.stat().st_mode & 0o777 == 0o700
    assert not list((spool / "incoming").iterdir())
    with rows(node.catalog) as session:
        (row,) = session.scalars(select(Association)).all()
    assert (row.stored, row.ended, row.calling_ae) == (24, "released", "STORESCU")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_compressed_images_are_kept_as_they_came(node: Intake, tmp_path: Path, syntax: str) -> None:
    paths = write_ct_series(tmp_path / "ct", BODY, transfer_syntax=syntax)
    # One context with this syntax only, so that nothing is decompressed on the way.
    assert (
        subprocess.run(
            [
                need("storescu"),
                "-xf",
                _contexts(tmp_path, syntax),
                "Ours",
                "-aec",
                "DISSM",
                "127.0.0.1",
                str(node.settings.listen.port),
                *paths,
            ],
            capture_output=True,
            timeout=120,
            check=False,
        ).returncode
        == 0
    )
    assert {row.transfer_syntax_uid for row in instances(node)} == {syntax}


def _contexts(folder: Path, syntax: str) -> Path:
    file = folder / "contexts.cfg"
    file.write_text(
        f"[[TransferSyntaxes]]\n[One]\nTransferSyntax1 = {syntax}\n[[PresentationContexts]]\n[Ct]\n"
        f"PresentationContext1 = {CT}\\One\n[[Profiles]]\n[Ours]\nPresentationContexts = Ct\n"
    )
    return file


def test_the_same_series_twice_is_success_and_stored_once(node: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY)
    assert storescu(node, tmp_path / "ct") == 0
    assert storescu(node, tmp_path / "ct") == 0
    assert len(instances(node)) == 24
    assert len(list((node.settings.node.spool / "instances").rglob("*.dcm"))) == 24


def test_other_bytes_under_a_known_uid_are_success_and_wait_for_their_comparison(node: Intake, tmp_path: Path) -> None:
    path = write_ct_series(tmp_path, Volume(BODY.hu[:1], BODY.lps_from_voxel))[0]
    image = pydicom.dcmread(path)
    with association(node) as connection:
        assert connection.send_c_store(image).Status == 0
        image.PixelData = bytes(len(image.PixelData))
        assert connection.send_c_store(image).Status == 0
    assert [row.use.value for row in instances(node)] == ["in use", "waiting"]
    assert len(audit_facts(node, "SET_ASIDE")) == 1


def test_success_is_sent_only_after_the_row_is_committed(node: Intake, tmp_path: Path) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path, BODY)[0])
    with changed_rows(node.catalog) as session:
        session.execute(
            text("CREATE TRIGGER broken BEFORE INSERT ON instances BEGIN SELECT RAISE(ABORT, 'no room'); END")
        )
    with association(node) as connection:
        assert connection.send_c_store(image).Status == 0xA700
        assert instances(node) == []
        with changed_rows(node.catalog) as session:
            session.execute(text("DROP TRIGGER broken"))
        assert connection.send_c_store(image).Status == 0
        # While the association is still open: the row was there before the answer.
        assert len(instances(node)) == 1


def test_a_commit_that_fails_is_no_success(node: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements pass, the commit itself does not: what a full disk does."""
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.orm import Session

    image = pydicom.dcmread(write_ct_series(tmp_path, BODY)[0])

    def fail(_session: Session) -> None:
        raise OperationalError("COMMIT", {}, OSError("disk full"))

    with association(node) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(Session, "commit", fail)
            patched.setattr("sqlalchemy.orm.session.SessionTransaction.commit", lambda *_a, **_k: fail(None))
            assert connection.send_c_store(image).Status == 0xA700
        assert instances(node) == []
        assert connection.send_c_store(image).Status == 0


def test_an_fsync_that_fails_is_no_success(node: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path, BODY)[0])

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with association(node) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            assert connection.send_c_store(image).Status == 0xA700
        assert instances(node) == []
        assert not list((node.settings.node.spool / "incoming").iterdir())


def test_an_aborted_association_is_closed_as_aborted_and_keeps_what_was_stored(node: Intake, tmp_path: Path) -> None:
    image = pydicom.dcmread(write_ct_series(tmp_path, BODY)[0])
    with association(node) as connection:
        assert connection.send_c_store(image).Status == 0
        connection.abort()
    wait_until(lambda: bool(audit_facts(node, "CLOSED")))
    assert audit_facts(node, "CLOSED")[0]["ended"] in {"aborted", "lost"}
    assert len(instances(node)) == 1


def test_a_series_that_is_sent_again_after_an_abort_does_not_settle_before_its_new_images(
    node: Intake, tmp_path: Path
) -> None:
    images = [pydicom.dcmread(path) for path in write_ct_series(tmp_path, BODY)[:3]]
    with association(node) as connection:
        for image in images:
            assert connection.send_c_store(image).Status == 0
        connection.abort()
    wait_until(lambda: bool(audit_facts(node, "CLOSED")))
    with association(node) as connection:
        time.sleep(2 * node.settings.assemble.quiet_seconds)
        for image in images[:2]:
            assert connection.send_c_store(image).Status == 0
        # It came just now, and the open association may bring more of it.
        assert _settled(node) is None
        time.sleep(2 * node.settings.assemble.quiet_seconds)
        assert _settled(node) is None
        assert connection.send_c_store(images[2]).Status == 0
    wait_until(lambda: _settled(node) is not None)
    assert _settled(node) == "assumed"


def test_a_known_image_does_not_wake_a_series_that_is_decided(node: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY)
    assert storescu(node, tmp_path / "ct") == 0
    node.decide()
    before = [(series.state, series.revision, series.last_received_at) for series in node.series()]
    assert storescu(node, tmp_path / "ct") == 0
    assert [(series.state, series.revision, series.last_received_at) for series in node.series()] == before


def _settled(node: Intake) -> str | None:
    settle_quiet_series(node.catalog.acting_as("test"), node.settings.assemble)
    (series,) = node.series()
    return series.completeness if series.state == SeriesState.SETTLED else None


def test_a_listener_that_was_killed_leaves_no_association_open(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node")
    with changed_rows(node.catalog) as session:
        session.add(
            Association(
                calling_ae="A",
                called_ae="DISSM",
                address="127.0.0.1",
                opened_at=audit.utc_now(),
                stored=3,
                process_id=1,
            )
        )
    spool = node.settings.node.spool
    (spool / "incoming").mkdir(parents=True)
    (spool / "incoming" / "1-1").write_bytes(b"half an image")
    with running_listener(node.settings, node.catalog):
        pass
    with rows(node.catalog) as session:
        (row,) = session.scalars(select(Association)).all()
    assert (row.ended, row.closed_at is not None) == ("lost", True)
    assert not list((spool / "incoming").iterdir())
    node.close()


def test_a_port_in_use_is_a_clear_error(node: Intake) -> None:
    with pytest.raises(NodeError, match="in use") as refused:
        StorageScp(node.settings, node.catalog.acting_as("listener")).start()
    assert refused.value.reason.code == "PORT_IN_USE"


def test_two_senders_at_once_lose_nothing(node: Intake, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_ct_series(tmp_path / name, BODY, name=name)
    command = [need("storescu"), "-R", "+sd", "-aec", "DISSM", "127.0.0.1", str(node.settings.listen.port)]
    senders = [subprocess.Popen([*command, tmp_path / name]) for name in ("one", "two", "one")]
    assert [sender.wait(timeout=120) for sender in senders] == [0, 0, 0]
    assert len(instances(node)) == 48
    assert {row.use.value for row in instances(node)} == {"in use"}


def test_the_same_bytes_are_the_same_file_and_an_interrupted_write_leaves_none(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    first = spool.keep(b"content")
    assert spool.keep(b"content") == first
    assert first.digest in first.path
    assert len([file for file in (tmp_path / "spool").rglob("*") if file.is_file()]) == 1


@pytest.mark.slow
def test_the_real_two_phase_series_interleaved_then_reversed_gives_the_same_two_cases_once(
    node: Intake, hcc_002: Path
) -> None:
    files = sorted(hcc_002.rglob("*.dcm"))
    interleaved = [file for pair in zip(files[:109], reversed(files[109:]), strict=True) for file in pair]
    command = [need("storescu"), "-R", "-aec", "DISSM", "127.0.0.1", str(node.settings.listen.port)]
    for order in (interleaved, interleaved[::-1]):
        done = subprocess.run(
            [*command, *order], env=os.environ | {"TCP_NODELAY": "1"}, capture_output=True, timeout=300, check=False
        )
        assert done.returncode == 0
        labels = [(stack.label, stack.admitted) for stack in node.decide()]
        assert labels == [("acquisition 1", True), ("acquisition 2", True)]
    assert len(node.cases()) == 2


LISTENER_PROGRAM = """
import sys, time, pathlib
from dicom_node.catalog.database import open_catalog
from dicom_node.receive.storage_scp import StorageScp
from dicom_node.settings import Settings
settings = Settings.model_validate_json(pathlib.Path(sys.argv[1]).read_text())
StorageScp(settings, open_catalog(settings.node.catalog_url).acting_as("listener")).start()
time.sleep(120)
"""


def test_whatever_was_answered_with_success_outlives_a_killed_listener(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node")
    file = tmp_path / "settings.json"
    file.write_text(node.settings.model_dump_json())
    images = [pydicom.dcmread(path) for path in write_ct_series(tmp_path / "ct", BODY)]
    listener = subprocess.Popen([sys.executable, "-c", LISTENER_PROGRAM, file])
    acknowledged = []
    try:
        wait_until(lambda: _answers(node))
        with association(node) as connection:
            for n, image in enumerate(images):
                if n == 9:
                    listener.send_signal(signal.SIGKILL)
                status = connection.send_c_store(image) if connection.is_established else pydicom.Dataset()
                if status.get("Status") == 0:
                    acknowledged.append(image.SOPInstanceUID)
    finally:
        listener.kill()
        listener.wait()
    stored = {row.sop_instance_uid: row for row in instances(node)}
    assert len(acknowledged) >= 9
    for uid in acknowledged:
        kept = node.settings.node.spool / stored[uid].path
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == stored[uid].digest
    with running_listener(node.settings, node.catalog):
        assert storescu(node, tmp_path / "ct") == 0
    assert len(instances(node)) == 24
    node.close()


def _answers(node: Intake) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", node.settings.listen.port)) == 0
