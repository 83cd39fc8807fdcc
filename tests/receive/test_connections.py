"""Connections that end at a bad moment, and those that never become an association (C2, C10)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from sqlalchemy import select, text

from dicom_node.catalog.tables import Association
from dicom_node.dicom.storage_server import Connection
from dicom_node.receive.open_associations import OpenAssociations, Peer
from dicom_node.receive.storage_scp import StorageScp
from dicom_node.values.received import PeerIdentity
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake, running_listener
from tests.builders.rows import changed_rows, rows
from tests.builders.senders import CT, association, audit_facts, wait_until

BODY = abdomen((24, 34, 36), (9.0, 9.0, 6.0))


@contextmanager
def listening(folder: Path, **listen: object) -> Iterator[tuple[Intake, StorageScp]]:
    node = Intake(folder / "node", listen=listen)
    with running_listener(node.settings, node.catalog) as listener:
        yield node, listener
    node.close()


def one_image(folder: Path) -> pydicom.Dataset:
    return pydicom.dcmread(write_ct_series(folder / "ct", BODY)[0])


def associations_of(node: Intake) -> list[Association]:
    with rows(node.catalog) as session:
        return list(session.scalars(select(Association)))


def test_a_connection_lost_while_its_first_image_is_stored_leaves_no_association_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, lost = one_image(tmp_path), threading.Event()
    with listening(tmp_path) as (node, listener):
        close = listener._associations.close

        def close_noted(connection: Connection, ended: str) -> None:
            lost.set()
            close(connection, ended)  # type: ignore[arg-type]

        monkeypatch.setattr(listener._associations, "close", close_noted)
        with association(node) as connection:
            # The image waits for the database until the connection is gone.
            with changed_rows(node.catalog):
                sending = threading.Thread(target=connection.send_c_store, args=(image,))
                sending.start()
                wait_until(lambda: any((node.settings.node.spool / "instances").rglob("*.dcm")))
                connection.abort()
                assert lost.wait(20)
            sending.join()
        wait_until(lambda: bool(associations_of(node)))
        wait_until(lambda: associations_of(node)[0].closed_at is not None)
        assert associations_of(node)[0].ended in {"aborted", "lost"}
        wait_until(lambda: not listener._associations._peers)


def test_an_association_whose_end_could_not_be_written_is_closed_when_it_can(tmp_path: Path) -> None:
    image = one_image(tmp_path)
    with listening(tmp_path) as (node, listener):
        with association(node) as connection:
            assert connection.send_c_store(image).Status == 0
            with changed_rows(node.catalog) as session:
                session.execute(
                    text("CREATE TRIGGER full BEFORE UPDATE ON associations BEGIN SELECT RAISE(ABORT, 'no room'); END")
                )
        wait_until(lambda: any(peer.ended for peer in listener._associations._peers.values()))
        listener.tidy()
        assert associations_of(node)[0].closed_at is None
        with changed_rows(node.catalog) as session:
            session.execute(text("DROP TRIGGER full"))
        listener.tidy()
        assert (associations_of(node)[0].ended, len(listener._associations)) == ("released", 0)
        assert len(audit_facts(node, "CLOSED")) == 1


def test_a_connection_that_is_gone_before_it_is_accepted_is_not_remembered(intake: Intake) -> None:
    associations, connection = OpenAssociations(intake.catalog), Connection()
    associations.close(connection, "lost")
    associations.open(connection, Peer(PeerIdentity("A", "B", "127.0.0.1")))
    assert not associations._peers


def test_senders_that_ask_for_an_association_and_hang_up_leave_nothing_behind(tmp_path: Path) -> None:
    with listening(tmp_path) as (node, listener):
        for _ in range(40):
            with socket.create_connection(("127.0.0.1", node.settings.listen.port)) as sender:
                sender.sendall(associate_request())
        wait_until(lambda: not listener.connection_count)
        assert not listener._associations._peers


def test_strangers_hold_no_place_and_are_audited_once_with_their_number(tmp_path: Path) -> None:
    with listening(tmp_path, calling_addresses=["127.0.0.1"]) as (node, listener), ExitStack() as held:
        for _ in range(12):
            stranger = held.enter_context(silent_connection(node, "127.0.0.2"))
            assert hung_up(stranger)
        with association(node) as connection:
            assert connection.is_established
        listener.tidy()
        (refused,) = audit_facts(node, "REFUSED")
        assert (refused["address"], refused["times"]) == ("127.0.0.2", 12)


def test_one_silent_address_leaves_a_place_for_the_others(tmp_path: Path) -> None:
    with listening(tmp_path) as (node, listener):
        with ExitStack() as held:
            for _ in range(12):
                held.enter_context(silent_connection(node, "127.0.0.2"))
            places = node.settings.listen.max_associations - 2
            wait_until(lambda: listener.connection_count >= places)
            with association(node) as connection:
                assert connection.is_established
        wait_until(lambda: not listener.connection_count)


def silent_connection(node: Intake, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.settings.listen.port), timeout=20, source_address=(source, 0))


def hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def associate_request() -> bytes:
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "SENDER", "DISSM"
    context = build_context(CT)
    context.context_id = 1
    asked.presentation_context_definition_list = [context]
    max_length, program = MaximumLengthNotification(), ImplementationClassUIDNotification()
    max_length.maximum_length_received = 16382
    program.implementation_class_uid = "1.2.3.4"
    asked.user_information = [max_length, program]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(asked)
    return bytes(request.encode())


@pytest.mark.parametrize("asked", [False, True], ids=["half a request", "half an image"])
def test_a_peer_that_falls_silent_inside_a_pdu_loses_its_slot(tmp_path: Path, asked: bool) -> None:
    with listening(tmp_path, idle_seconds=1.0, max_associations=4) as (node, listener), ExitStack() as stack:
        # Of silent connections the filter lets in two less than there are slots.
        count = 4 if asked else 2
        for _ in range(count):
            if asked:
                connection = stack.enter_context(association(node))
                assert connection.is_established
                plug: socket.socket = connection.dul.socket.socket
                # A P-DATA-TF PDU that says it is 1000 bytes long, and two of them.
                plug.sendall(b"\x04\x00\x00\x00\x03\xe8\x00\x00")
            else:
                plug = stack.enter_context(socket.create_connection(("127.0.0.1", node.settings.listen.port)))
                plug.sendall(b"\x01\x00\x00\x00\x03\xe8\x00\x00")
        wait_until(lambda: listener.connection_count == count)
        wait_until(lambda: not listener.connection_count)
        with association(node) as another:
            assert another.is_established


def test_a_peer_that_fell_silent_inside_a_pdu_holds_up_a_stop_no_longer_than_it_may_be_idle(tmp_path: Path) -> None:
    with listening(tmp_path, idle_seconds=1.0) as (node, listener), silent_connection(node, "127.0.0.1") as peer:
        peer.sendall(associate_request()[:-1])
        wait_until(lambda: listener.connection_count > 0)
        # A moment later its thread waits for the last byte.
        time.sleep(0.3)
        stopping = threading.Thread(target=listener.stop)
        stopping.start()
        stopping.join(10)
        assert not stopping.is_alive()
