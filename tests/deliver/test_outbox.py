"""The outbox with real destinations: what is retried, what is not, and that a case tells the truth at the end."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
    SurfaceSegmentationStorage,
)
from pynetdicom import evt
from rich.console import Console

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog, Transaction, View, open_catalog
from dicom_node.catalog.histories import case_history, newest_cases
from dicom_node.catalog.leases import retry_case
from dicom_node.catalog.states import CaseEvent, CaseState
from dicom_node.catalog.tables import Case
from dicom_node.catalog.transitions import ForbiddenTransition, advance_case
from dicom_node.cli.console import print_case
from dicom_node.deliver.outbox import queue_proven
from dicom_node.deliver.store_status import DeliveryEvent
from dicom_node.processes.control_process import run_control
from tests.builders.rows import changed_rows, rows
from tests.deliver.destinations import (
    audit_events,
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


def test_a_proven_case_is_sent_to_its_destination_and_is_delivered(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp() as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings)
        counts = deliver_round(catalog, settings)
    assert counts == {DeliveryEvent.DELIVERED: 2}
    assert case_state(catalog, case) == CaseState.DELIVERED
    assert [row.object.sop_instance_uid for row in _with_objects(catalog, case)] == pacs.received
    assert [row.event for row in audit_events(catalog, case)] == ["DELIVERED", "DELIVERED"]
    assert [row.event for row in audit_events(catalog, case, "case")] == ["QUEUED_FOR_DELIVERY", "ALL_DELIVERED"]


def test_a_case_without_any_destination_is_done(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    case = proven_case(catalog, settings)
    deliver_round(catalog, settings)
    assert case_state(catalog, case) == CaseState.DELIVERED


def test_a_destination_gets_only_the_kinds_of_objects_it_asked_for(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp() as pacs:
        settings = settings_for(tmp_path, destination(pacs.port, objects=("seg",)))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] == 1
    assert case_state(catalog, case) == CaseState.DELIVERED


def test_an_object_is_sent_in_the_syntax_it_is_in_though_the_destination_prefers_another(
    catalog: Catalog, tmp_path: Path
) -> None:
    with storage_scp(syntaxes=(ImplicitVRLittleEndian, ExplicitVRLittleEndian)) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        proven_case(catalog, settings)
        deliver_round(catalog, settings)
    assert pacs.syntaxes == [ExplicitVRLittleEndian] * 2


@pytest.mark.parametrize("status", [0x0117, 0x0124, 0xA900, 0xA9FF, 0xC000, 0xC123])
def test_a_refusal_for_good_is_not_retried_and_holds_the_case(catalog: Catalog, tmp_path: Path, status: int) -> None:
    with storage_scp(lambda event: status) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings)
        deliver_round(catalog, settings)
        end_backoff(catalog)
        deliver_round(catalog, settings)
    assert len(pacs.received) == 2
    assert case_state(catalog, case) == CaseState.HELD
    assert {row.last_status for row in deliveries(catalog, case)} == {status}
    with rows(catalog) as session:
        assert session.get_one(Case, case).reason_code == "DELIVERY_REFUSED"


def test_a_class_that_is_not_accepted_is_not_sent_and_said_and_the_case_is_delivered(
    catalog: Catalog, tmp_path: Path
) -> None:
    with storage_scp(classes=(SegmentationStorage,)) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings) == {DeliveryEvent.DELIVERED: 1, DeliveryEvent.NOT_ACCEPTED: 1}
        end_backoff(catalog)
        assert not deliver_round(catalog, settings), "it is not tried again"
    said = "pacs does not accept Surface Segmentation Storage: abstract syntax not supported; not sent"
    assert case_state(catalog, case) == CaseState.DELIVERED
    assert len(pacs.received) == 1
    with catalog.read() as view:
        history = case_history(view, case)
    assert history.not_accepted == (said,)
    assert [row.facts["said"] for row in audit_events(catalog, case) if row.event == "NOT_ACCEPTED"] == [said]
    ended = audit_events(catalog, case, "case")[-1]
    assert (ended.event, ended.facts) == ("ALL_DELIVERED", {"deliveries": 1, "not_accepted": [said]})
    shown = io.StringIO()
    print_case(Console(file=shown, width=200), history)
    assert f"  {said}\n" in shown.getvalue()


def test_a_status_that_says_the_class_is_not_supported_is_the_same_outcome(catalog: Catalog, tmp_path: Path) -> None:
    answers = iter([0x0000, 0x0122])
    with storage_scp(lambda event: next(answers)) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings)
        deliver_round(catalog, settings)
    assert [row.state for row in deliveries(catalog, case)] == ["SENT", "NOT_ACCEPTED"]
    assert case_state(catalog, case) == CaseState.DELIVERED


def test_a_destination_that_accepts_nothing_of_a_case_holds_it_though_another_took_all(
    catalog: Catalog, tmp_path: Path
) -> None:
    with storage_scp() as archive, storage_scp(syntaxes=(ImplicitVRLittleEndian,)) as pacs:
        settings = settings_for(tmp_path, destination(archive.port, "archive"), destination(pacs.port))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings) == {DeliveryEvent.DELIVERED: 2, DeliveryEvent.NOT_ACCEPTED: 2}
    assert not pacs.received
    assert case_state(catalog, case) == CaseState.HELD
    with rows(catalog) as session:
        held = session.get_one(Case, case)
    assert (held.reason_code, held.facts["destination"]) == ("NOTHING_ACCEPTED", "pacs")


def test_an_association_rejected_for_good_is_not_retried(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp(ae_title="OTHER", require_called=True) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings)[DeliveryEvent.REFUSED] == 2
    assert case_state(catalog, case) == CaseState.HELD
    assert "called ae title not recognised" in str(deliveries(catalog, case)[0].last_error)


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110, 0x0213, 0xFE00])
def test_a_transient_failure_is_retried_until_it_goes(catalog: Catalog, tmp_path: Path, status: int) -> None:
    answers = iter([status, status, 0x0000, 0x0000])
    with storage_scp(lambda event: next(answers)) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings)
        assert deliver_round(catalog, settings)[DeliveryEvent.TRY_AGAIN] == 2
        assert case_state(catalog, case) == CaseState.DELIVERING
        assert deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] == 0, "it rests before it is tried again"
        end_backoff(catalog)
        assert deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] == 2
    assert case_state(catalog, case) == CaseState.DELIVERED


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0107])
def test_a_warning_is_delivered_and_said(catalog: Catalog, tmp_path: Path, status: int) -> None:
    with storage_scp(lambda event: status) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings, kinds=("seg",))
        deliver_round(catalog, settings)
    assert case_state(catalog, case) == CaseState.DELIVERED
    (said,) = audit_events(catalog, case)
    assert (said.event, said.facts["status"]) == ("DELIVERED_WITH_WARNING", status)


def test_a_destination_that_is_down_gets_everything_in_order_when_it_is_up_again(
    catalog: Catalog, tmp_path: Path
) -> None:
    port = free_port()
    settings = settings_for(tmp_path, destination(port))
    first = proven_case(catalog, settings)
    deliver_round(catalog, settings)
    backoff = deliveries(catalog, first)[0].next_attempt_at - audit.utc_now()
    assert 6 < backoff.total_seconds() <= 10
    second = proven_case(catalog, settings)
    with storage_scp(port=port) as pacs:
        assert deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] == 0, "nothing overtakes what waits"
        end_backoff(catalog)
        assert deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] == 4
    wanted = [row.object.sop_instance_uid for case in (first, second) for row in _with_objects(catalog, case)]
    assert pacs.received == wanted
    assert {case_state(catalog, case) for case in (first, second)} == {CaseState.DELIVERED}


def test_a_destination_that_hangs_does_not_delay_another_nor_the_cases_after_it(
    catalog: Catalog, tmp_path: Path
) -> None:
    released, stop = threading.Event(), threading.Event()

    def hang(event: evt.Event) -> int:
        released.wait(30)
        return 0x0000

    with storage_scp(hang) as slow, storage_scp() as quick:
        slow_one = destination(slow.port, "slow", timeout_seconds=60)
        settings = settings_for(tmp_path, slow_one, destination(quick.port, "quick"))
        proven_case(catalog, settings)
        control = threading.Thread(target=run_control, args=(settings, catalog.acting_as("control"), stop))
        control.start()
        try:
            until(lambda: len(quick.received) == 2)
            proven_case(catalog, settings)
            until(lambda: len(quick.received) == 4)
            assert not slow.received
        finally:
            released.set()
            stop.set()
            control.join(60)


def test_an_answer_that_never_came_is_sent_again_under_the_same_uid(catalog: Catalog, tmp_path: Path) -> None:
    aborted = []

    def abort_once(event: evt.Event) -> int:
        if not aborted:
            aborted.append(True)
            event.assoc.abort()
        return 0x0000

    with storage_scp(abort_once) as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings, kinds=("seg",))
        assert deliver_round(catalog, settings)[DeliveryEvent.TRY_AGAIN] == 1
        assert "unknown" in str(deliveries(catalog, case)[0].last_error)
        end_backoff(catalog)
        assert deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] == 1
    assert len(set(pacs.received)) == 1
    assert case_state(catalog, case) == CaseState.DELIVERED


def test_one_destination_refuses_and_the_other_still_gets_its_objects(catalog: Catalog, tmp_path: Path) -> None:
    port = free_port()
    with storage_scp(lambda event: 0xC000) as refusing:
        settings = settings_for(tmp_path, destination(refusing.port, "refusing"), destination(port, "down"))
        case = proven_case(catalog, settings)
        deliver_round(catalog, settings)
        assert case_state(catalog, case) == CaseState.DELIVERING, "one destination is still owed its objects"
        end_backoff(catalog)
        with storage_scp(port=port) as late:
            deliver_round(catalog, settings)
    assert len(late.received) == 2
    assert case_state(catalog, case) == CaseState.HELD


def test_an_object_changed_after_its_proof_never_leaves(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp() as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings, kinds=("seg",))
        (file,) = settings.node.spool.rglob("seg.dcm")
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        deliver_round(catalog, settings)
    assert not pacs.received
    assert case_state(catalog, case) == CaseState.HELD


def test_an_overtaken_case_sends_nothing_more(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp() as pacs:
        settings = settings_for(tmp_path, destination(pacs.port))
        case = proven_case(catalog, settings)
        queue_proven(catalog.acting_as("test"), settings.destinations)
        with changed_rows(catalog) as session:
            advance_case(Transaction(session, "test"), session.get_one(Case, case), CaseEvent.OVERTAKEN)
        deliver_round(catalog, settings)
    assert not pacs.received
    assert {row.state for row in deliveries(catalog, case)} == {"WITHDRAWN"}
    assert case_state(catalog, case) == CaseState.SUPERSEDED


def test_a_destination_taken_out_of_the_settings_holds_what_waits_for_it(catalog: Catalog, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, destination(free_port(), "gone"))
    case = proven_case(catalog, settings)
    deliver_round(catalog, settings)
    deliver_round(catalog, settings_for(tmp_path))
    assert case_state(catalog, case) == CaseState.HELD
    with rows(catalog) as session:
        assert session.get_one(Case, case).facts["destination"] == "gone"


def test_the_outbox_survives_a_restart(catalog: Catalog, tmp_path: Path) -> None:
    port = free_port()
    settings = settings_for(tmp_path, destination(port))
    case = proven_case(catalog, settings)
    deliver_round(catalog, settings)
    catalog.close()
    reopened = open_catalog(catalog.url)
    end_backoff(reopened)
    with storage_scp(port=port):
        assert deliver_round(reopened, settings)[DeliveryEvent.DELIVERED] == 2
    assert [row.attempts for row in deliveries(reopened, case)] == [2, 2]
    reopened.close()


def test_a_case_that_nobody_wanted_says_so_and_is_sent_when_somebody_does(catalog: Catalog, tmp_path: Path) -> None:
    with storage_scp() as pacs:
        case = proven_case(catalog, settings_for(tmp_path))
        deliver_round(catalog, settings_for(tmp_path))
        with rows(catalog) as session:
            (line,) = newest_cases(View(session), 1)
        assert (line.state, line.reason.code) == ("DELIVERED", "NOTHING_SENT")
        assert "no destination wants seg, surface" in str(line.reason)
        settings = settings_for(tmp_path, destination(pacs.port))
        retry_case(catalog.acting_as("test"), case)
        assert deliver_round(catalog, settings)[DeliveryEvent.DELIVERED] == 2
        with pytest.raises(ForbiddenTransition):
            retry_case(catalog.acting_as("test"), case)
    assert case_state(catalog, case) == CaseState.DELIVERED


def until(met: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _with_objects(catalog: Catalog, case_id: str):  # type: ignore[no-untyped-def]
    with rows(catalog) as session:
        found = [session.merge(row) for row in deliveries(catalog, case_id)]
        for row in found:
            assert row.object.sop_class_uid in (SegmentationStorage, SurfaceSegmentationStorage)
        return found
