"""What a destination that fails, breaks off or cannot be reached does to the objects that wait for it."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid
from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from sqlalchemy import select

from dicom_node.catalog.database import Catalog, View
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import ResultObject
from dicom_node.deliver.outbox import queue_proven
from dicom_node.deliver.outgoing import OutgoingObject
from dicom_node.deliver.store_scu import send
from dicom_node.deliver.store_status import DeliveryEvent
from dicom_node.settings import Destination
from dicom_node.watch.status import node_status
from tests.builders.rows import changed_rows, rows
from tests.deliver.destinations import (
    case_state,
    deliver_round,
    deliveries,
    destination,
    end_backoff,
    free_port,
    proven_case,
    settings_for,
    storage_scp,
)


def test_an_object_that_breaks_every_association_does_not_keep_the_others_back(
    catalog: Catalog, tmp_path: Path
) -> None:
    breaking: list[str] = []

    def abort_at_the_first(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not breaking:
            breaking.append(uid)
        if uid in breaking:
            event.assoc.abort()
        return 0x0000

    with storage_scp(abort_at_the_first) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port, max_failures=3))
        case = proven_case(catalog, settings)
        other = proven_case(catalog, settings)
        deliver_round(catalog, settings)
        assert [row.attempts for row in deliveries(catalog, case)] == [1, 0], "only the object it was lost at is blamed"
        deliver_round(catalog, settings)
        assert case_state(catalog, other) == CaseState.DELIVERED
        for _ in range(3):
            end_backoff(catalog)
            deliver_round(catalog, settings)
    assert pacs.received.count(breaking[0]) == 3
    assert case_state(catalog, case) == CaseState.HELD
    assert {row.state for row in deliveries(catalog, case)} == {"REFUSED", "SENT"}


def test_an_object_that_failed_goes_behind_those_that_did_not(catalog: Catalog, tmp_path: Path) -> None:
    answers = iter([0x0110, 0x0000, 0x0000])
    with storage_scp(lambda event: next(answers)) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        failing = proven_case(catalog, settings, kinds=("seg",))
        deliver_round(catalog, settings)
        proven_case(catalog, settings, kinds=("seg",))
        queue_proven(catalog.acting_as("test"), settings.destinations)
        end_backoff(catalog)
        deliver_round(catalog, settings)
    with rows(catalog) as session:
        uid = session.scalar(select(ResultObject.sop_instance_uid).where(ResultObject.case_id == failing))
    assert [each == uid for each in pacs.received] == [True, False, True]


def test_answered_failures_end_with_a_held_case_and_the_last_answer(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp(lambda event: 0x0110) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port, max_failures=3))
        case = proven_case(catalog, settings, kinds=("seg",))
        for _ in range(5):
            deliver_round(catalog, settings)
            end_backoff(catalog)
    assert len(pacs.received) == 3
    assert case_state(catalog, case) == CaseState.HELD
    (row,) = deliveries(catalog, case)
    assert (row.last_status, row.last_error) == (0x0110, "failed (0x0110), 3 times")


def test_a_destination_that_cannot_be_reached_is_tried_without_limit(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, destination(free_port(), max_failures=2))
    case = proven_case(catalog, settings, kinds=("seg",))
    for _ in range(5):
        deliver_round(catalog, settings)
        end_backoff(catalog)
    assert case_state(catalog, case) == CaseState.DELIVERING
    assert [row.attempts for row in deliveries(catalog, case)] == [5]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots"])
def test_a_host_that_does_not_resolve_lets_the_destination_wait(catalog: Catalog, tmp_path: Path, host: str) -> None:
    settings = settings_for(tmp_path, destination(104, host=host))
    case = proven_case(catalog, settings)
    assert deliver_round(catalog, settings) == {DeliveryEvent.TRY_AGAIN: 2}
    assert not any(row.reached for row in deliveries(catalog, case))
    assert case_state(catalog, case) == CaseState.DELIVERING


def test_a_long_backlog_goes_in_portions(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp() as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        for _ in range(9):
            proven_case(catalog, settings)
        assert [deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] for _ in range(3)] == [16, 2, 0]


def test_status_names_a_destination_that_gets_nothing(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, destination(free_port(), "archive"))
    proven_case(catalog, settings)
    for attempts in range(1, 6):
        deliver_round(catalog, settings)
        end_backoff(catalog)
        with rows(catalog) as session:
            problems = [said for said in node_status(View(session), settings).problems if "archive" in said]
        assert bool(problems) == (attempts == 5)
    assert "2 objects wait, the oldest since 20" in problems[0]
    assert "nothing answers there" in problems[0]


def test_status_names_a_destination_whose_objects_wait_for_hours(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, destination(free_port(), "archive"))
    proven_case(catalog, settings)
    queue_proven(catalog.acting_as("test"), settings.destinations)
    with changed_rows(catalog) as session:
        for item in session.scalars(select(ResultObject)):
            item.created_at -= timedelta(hours=2)
    with rows(catalog) as session:
        (problem,) = (said for said in node_status(View(session), settings).problems if "archive" in said)
    assert problem.endswith("not tried yet")


class _DeafPeer(threading.Thread):
    """Accepts one association and never reads again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port, self.over = self.listening.getsockname()[1], threading.Event()

    def run(self) -> None:
        plug, _ = self.listening.accept()
        with plug:
            request = A_ASSOCIATE_RQ()
            request.decode(_pdu(plug))
            plug.sendall(_accepted(request))
            self.over.wait(60)

    def close(self) -> None:
        self.over.set()
        self.listening.close()


def _pdu(plug: socket.socket) -> bytes:
    head = plug.recv(6, socket.MSG_WAITALL)
    return head + plug.recv(int.from_bytes(head[2:], "big"), socket.MSG_WAITALL)


def _accepted(request: A_ASSOCIATE_RQ) -> bytes:
    asked = request.to_primitive()
    asked.result = 0
    asked.presentation_context_definition_results_list = asked.presentation_context_definition_list
    for context in asked.presentation_context_definition_results_list:
        context.result = 0
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(asked)
    return bytes(answer.encode())


def test_a_destination_that_stops_reading_is_given_up_and_tried_again() -> None:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = SegmentationStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.add_new(0x7FE00010, "OB", bytes(30_000_000))
    packed = BytesIO()
    image.save_as(packed, enforce_file_format=True)
    peer = _DeafPeer()
    peer.start()
    began = time.monotonic()
    try:
        to = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=peer.port, timeout_seconds=1)
        ((_, answer),) = list(send(to, [OutgoingObject(1, packed.getvalue())]))
    finally:
        peer.close()
        peer.join(20)
    assert answer.event is DeliveryEvent.TRY_AGAIN
    assert time.monotonic() - began < 30
