"""What pynetdicom leaves out, shown with the bare library. A test that fails here names a work-around that can go."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.transport import ThreadedAssociationServer

from tests.receive.test_connections import associate_request

CT, EXPLICIT_LE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
MB = 1 << 20


@contextmanager
def bare_server(*handlers: Any, **options: Any) -> Iterator[ThreadedAssociationServer]:
    entity = AE("BARE")
    entity.add_supported_context(CT, EXPLICIT_LE)
    for name, value in options.items():
        setattr(entity, name, value)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=list(handlers))
    assert server is not None
    try:
        yield server
    finally:
        entity.shutdown()


def bare_association(server: ThreadedAssociationServer, *handlers: Any) -> Association:
    entity = AE("SENDER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    entity.add_requested_context(CT, EXPLICIT_LE)
    return entity.associate("127.0.0.1", int(server.server_address[1]), evt_handlers=list(handlers))


def raw_connection(server: ThreadedAssociationServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.server_address[1])), timeout=10)


def wait_until(true: Any, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_standing_connection_has_no_time_out_on_either_side() -> None:
    """`_prepare_connection`, `_bound_every_wait`: #565, #616, #618."""
    accepted: list[float | None] = []
    opened = (evt.EVT_CONN_OPEN, lambda event: accepted.append(event.assoc.dul.socket.socket.gettimeout()))
    with bare_server(opened) as server:
        association = bare_association(server)
        assert association.dul.socket.socket.gettimeout() is None
        association.release()
    assert accepted == [None]


def test_an_accepted_connection_waits_to_fill_its_packets() -> None:
    """`_prepare_connection`: no upstream issue was found."""
    seen: list[int] = []

    def look(event: evt.Event) -> None:
        connection = event.assoc.dul.socket.socket
        seen.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with bare_server((evt.EVT_CONN_OPEN, look)) as server:
        bare_association(server).release()
    assert seen == [0]


def test_a_connection_that_closes_before_it_asks_keeps_its_thread() -> None:
    """`_end_wait_for_request`: #669."""
    with bare_server(acse_timeout=3) as server:
        raw_connection(server).close()
        assert wait_until(lambda: len(server.active_associations) == 1, 2)
        assert not wait_until(lambda: not server.active_associations, 1.5), "it ends by itself now"
        assert wait_until(lambda: not server.active_associations)


def test_connections_that_ask_for_nothing_take_the_places_of_associations() -> None:
    """`_FilteredServer`: no upstream issue was found."""
    with bare_server(maximum_associations=1, acse_timeout=3) as server, raw_connection(server):
        assert wait_until(lambda: len(server.active_associations) == 1)
        assert bare_association(server).is_rejected


def test_a_rejection_by_a_handler_may_never_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """`_wait_until_rejection_is_sent`: #408 is about the same place; none was found about the answer being lost."""
    reject = ACSE.send_reject

    def queued_while_the_sending_thread_is_busy(acse: ACSE, *answer: int) -> None:
        acse.dul._run_loop_delay = 0.5
        time.sleep(0.1)
        reject(acse, *answer)

    monkeypatch.setattr(ACSE, "send_reject", queued_while_the_sending_thread_is_busy)
    with bare_server((evt.EVT_REQUESTED, lambda event: event.assoc.acse.send_reject(1, 1, 3))) as server:
        association = bare_association(server)
        assert not association.is_established
        assert not association.is_rejected, "the rejection arrives now"


def test_shutdown_aborts_before_it_closes_the_port() -> None:
    """`StorageServer.stop`: no upstream issue was found."""
    port_is_open: list[bool] = []

    def try_to_connect(event: evt.Event) -> None:
        with socket.socket() as probe:
            probe.settimeout(2)
            port_is_open.append(probe.connect_ex(("127.0.0.1", event.assoc.acceptor.port)) == 0)

    with bare_server((evt.EVT_ABORTED, try_to_connect)) as server:
        association = bare_association(server)
        assert association.is_established
    assert port_is_open[:1] == [True]


def test_an_abort_waits_for_a_peer_that_fell_silent_inside_a_pdu() -> None:
    """`_abort_all`: #912; #194 and #979 are about peers that only do not close, which was mended (#999)."""
    with bare_server() as server, raw_connection(server) as peer:
        peer.sendall(associate_request())
        assert peer.recv(1) == b"\x02", "an A-ASSOCIATE-AC"
        # A P-DATA-TF PDU that says it is 1000 bytes long, and two of them.
        peer.sendall(b"\x04\x00\x00\x00\x03\xe8\x00\x00")
        time.sleep(0.3)
        (accepted,) = server.active_associations
        aborting = threading.Thread(target=accepted.abort)
        aborting.start()
        aborting.join(1.5)
        assert aborting.is_alive(), "it gives up by itself now"
        peer.close()
        aborting.join(10)
        assert not aborting.is_alive()


def test_of_a_data_set_everything_is_held_however_large() -> None:
    """`_hold_no_more_than`: #517 asks for a limit."""
    held: list[int] = []

    def note_size(event: evt.Event) -> int:
        request = event.request
        assert isinstance(request, C_STORE)
        assert request.DataSet is not None
        held.append(request.DataSet.getbuffer().nbytes)
        return 0x0000

    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, "1.2.3.4"
    request.DataSet = io.BytesIO(bytes(8 * MB))
    with bare_server((evt.EVT_C_STORE, note_size)) as server:
        association = bare_association(server)
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        association.release()
    assert held == [8 * MB]
    assert not [name for name in dir(AE) if "data_set" in name or "dataset" in name], "there may be a limit now"


def test_each_connection_has_a_thread_that_is_no_daemon() -> None:
    """Why the listener's process ends hard (`child_process`): such a thread would keep it. No issue was found."""
    before = set(threading.enumerate())
    with bare_server() as server:
        association = bare_association(server)
        added = set(threading.enumerate()) - before
        assert [thread for thread in added if not thread.daemon], "all of them end with the process now"
        association.release()
