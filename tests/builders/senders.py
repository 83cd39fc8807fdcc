"""Senders for tests of the listener: DCMTK's, and one that can send what no sender should."""

from __future__ import annotations

import io
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE
from pynetdicom.association import Association as Connection
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from sqlalchemy import select

from dicom_node.catalog.tables import AuditRow, Instance
from tests.builders.intake import Intake
from tests.builders.rows import rows
from tests.thirdparty import need

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"


def storescu(node: Intake, *sources: Path, called: str = "DISSM", calling: str = "STORESCU") -> int:
    """Exit code of DCMTK's sender; 0 when every image was answered with Success."""
    command = [need("storescu"), "-R", "+sd", "+r", "-aet", calling, "-aec", called, "127.0.0.1"]
    done = subprocess.run(
        [*command, str(node.settings.listen.port), *sources],
        env=os.environ | {"TCP_NODELAY": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    return done.returncode


@contextmanager
def reconnecting_senders(node: Intake, folder: Path, count: int = 3) -> Iterator[list[str]]:
    """DCMTK senders that send a folder again and again, and connect again at once; yields what they said so far."""
    command = [
        need("storescu"),
        "-v",
        "+sd",
        "-aec",
        "DISSM",
        "127.0.0.1",
        str(node.settings.listen.port),
        str(folder),
    ]
    said: list[str] = []
    over = threading.Event()

    def send_again_and_again() -> None:
        while not over.is_set():
            done = subprocess.run(
                command, env=os.environ | {"TCP_NODELAY": "1"}, capture_output=True, text=True, timeout=60, check=False
            )
            said.append(done.stdout + done.stderr)

    senders = [threading.Thread(target=send_again_and_again) for _ in range(count)]
    for sender in senders:
        sender.start()
    try:
        yield said
    finally:
        over.set()
        for sender in senders:
            sender.join(60)


@contextmanager
def association(node: Intake, sop_class: str = CT, called: str = "DISSM") -> Iterator[Connection]:
    entity = AE("SENDER")
    entity.add_requested_context(sop_class, EXPLICIT_LE)
    entity.dimse_timeout = 8
    connection = entity.associate("127.0.0.1", node.settings.listen.port, ae_title=called)
    yield connection
    if connection.is_established:
        connection.release()


def instances(node: Intake) -> list[Instance]:
    with rows(node.catalog) as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def audit_facts(node: Intake, event: str) -> list[dict[str, Any]]:
    with rows(node.catalog) as session:
        return list(session.scalars(select(AuditRow.facts).where(AuditRow.event == event).order_by(AuditRow.id)))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def raw_store(node: Intake, image: pydicom.Dataset) -> Any:
    """The answer to a C-STORE of a data set whose own UIDs need not be those of the request."""
    return raw_store_bytes(node, encode(image, False, True), str(image.get("SOPInstanceUID")))


def raw_store_bytes(node: Intake, data_set: bytes, uid: str, sop_class: str = CT) -> Any:
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = uid if re.fullmatch(r"[0-9.]{1,64}", uid) else "1.2.3.4"
    request.DataSet = io.BytesIO(data_set)
    with association(node, sop_class) as connection:
        context = connection._get_valid_context(sop_class, EXPLICIT_LE, "scu")
        connection._reactor_checkpoint.clear()
        connection.dimse.send_msg(request, context.context_id)
        _, answer = connection.dimse.get_msg(block=True)
        connection._reactor_checkpoint.set()
        return answer
