"""The end of the listener: nobody is told to give up, nobody is left inside (C2)."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path

from dicom_node.receive.storage_scp import StorageScp
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.senders import association, reconnecting_senders, wait_until

BODY = abdomen((24, 34, 36), (9.0, 9.0, 6.0))


def started(node: Intake) -> StorageScp:
    listener = StorageScp(node.settings, node.catalog.acting_as("listener"))
    listener.start()
    return listener


def test_senders_that_reconnect_at_once_are_never_refused_for_good_while_the_listener_stops(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node")
    listener = started(node)
    write_ct_series(tmp_path / "ct", BODY)
    with reconnecting_senders(node, tmp_path / "ct") as said:
        wait_until(lambda: len(said) >= 3)
        began = time.monotonic()
        listener.stop()
        seconds = time.monotonic() - began
        # Whoever were still inside would go on sending.
        time.sleep(2)
    node.close()
    answers = set(re.findall(r"Received Store Response \((.*)\)", "".join(said)))
    rejections = set(re.findall(r"Result: (.*), Source", "".join(said)))
    assert "Success" in answers
    assert answers <= {"Success", "Refused: OutOfResources"}
    assert rejections <= {"Rejected Transient"}
    assert seconds < 8
    assert not accepted_threads()


def test_the_port_is_closed_before_the_first_association_is_aborted(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node")
    listener = started(node)
    tried: list[bool] = []
    with association(node) as connection:
        close = listener._associations.close

        def try_to_connect_while_closing(*arguments: object) -> None:
            with socket.socket() as probe:
                probe.settimeout(2)
                tried.append(probe.connect_ex(("127.0.0.1", node.settings.listen.port)) == 0)
            close(*arguments)  # type: ignore[arg-type]

        listener._associations.close = try_to_connect_while_closing  # type: ignore[method-assign]
        assert connection.is_established
        listener.stop()
    node.close()
    assert tried
    assert not any(tried)


def test_a_peer_that_ignores_the_abort_does_not_hold_the_listener_up(tmp_path: Path) -> None:
    node = Intake(tmp_path / "node")
    listener = started(node)
    with association(node) as connection:
        # Its reactor sleeps: whatever comes is never read, and the connection is never closed from this side.
        connection._reactor_checkpoint.clear()
        connection.dul.kill_dul()
        connection.dul.join(5)
        began = time.monotonic()
        listener.stop()
        assert time.monotonic() - began < 8
        wait_until(lambda: not accepted_threads())
        connection.is_established = False
    node.close()


def accepted_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "AcceptorThread" in thread.name]
