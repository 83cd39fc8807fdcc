from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog, Transaction, View, open_catalog
from dicom_node.catalog.database_url import sqlite_url
from dicom_node.catalog.leases import LeaseLost, abandon_lease, end_lease, held_case, retry_case, take_lease
from dicom_node.catalog.states import CaseEvent, CaseState
from dicom_node.catalog.tables import Case
from dicom_node.catalog.transitions import ForbiddenTransition, advance_case
from dicom_node.reasons import NodeError
from dicom_node.values.lease import Lease
from dicom_node.work.lease_renewer import LeaseRenewer
from dicom_node.work.lost_cases import requeue_lost_cases
from dicom_node.work.process_identity import ProcessIdentity, process_identity_from, start_of, this_process
from dissm_engine.errors import DelineationCancelled
from dissm_engine.progress import Cancellation, Monitor
from tests.builders.rows import changed_rows, rows
from tests.builders.senders import wait_until
from tests.work.rows import add_case

HERE = str(this_process())
ELSEWHERE = str(ProcessIdentity("another-host:1", 1, 1))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return open_catalog(sqlite_url(tmp_path / "catalog.sqlite"))


def case_of(catalog: Catalog, case_id: str) -> Case:
    with rows(catalog) as session:
        return session.get_one(Case, case_id)


def taken(catalog: Catalog, owner: str = HERE, seconds: float = 60.0) -> Lease:
    lease = take_lease(catalog.acting_as("test"), owner, seconds)
    assert lease is not None
    return lease


def take_all(url: str, start: object, taken_cases: object) -> None:
    """Runs in a process of its own."""
    catalog = Catalog(url)
    start.wait()  # type: ignore[attr-defined]
    while (lease := take_lease(catalog.acting_as("test"), str(this_process()), 60.0)) is not None:
        taken_cases.put((os.getpid(), lease.case_id))  # type: ignore[attr-defined]
        # SQLite's lock is not fair: the one that has just had it would take them all.
        time.sleep(0.05)
    taken_cases.put(None)  # type: ignore[attr-defined]


def test_no_two_workers_get_one_case(catalog: Catalog) -> None:
    cases = {add_case(catalog) for _ in range(40)}
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(4), context.Queue()
    workers = [context.Process(target=take_all, args=(catalog.url, start, found)) for _ in range(4)]
    for worker in workers:
        worker.start()
    leased, ended = [], 0
    while ended < len(workers):
        item = found.get(timeout=60)
        ended, leased = (ended + 1, leased) if item is None else (ended, [*leased, item])
    for worker in workers:
        worker.join()
    assert len(leased) == len(cases)
    assert {case for _, case in leased} == cases
    assert len({pid for pid, _ in leased}) > 1


def test_the_oldest_case_comes_first_and_none_is_none(catalog: Catalog) -> None:
    first, second = add_case(catalog), add_case(catalog)
    assert [taken(catalog).case_id, taken(catalog).case_id] == [first, second]
    assert take_lease(catalog.acting_as("test"), HERE, 60.0) is None


def test_a_lease_that_ran_out_goes_back_to_the_queue_and_its_holder_hears_it(catalog: Catalog) -> None:
    add_case(catalog)
    lease = taken(catalog, ELSEWHERE, seconds=-1.0)
    assert requeue_lost_cases(catalog.acting_as("control"), 3) == 1
    case = case_of(catalog, lease.case_id)
    assert (case.state, case.reason_code, case.lease_owner) == (CaseState.QUEUED, "WORKER_LOST", None)
    assert taken(catalog).attempt == 2
    with rows(catalog) as session, pytest.raises(LeaseLost):
        held_case(View(session), lease)


def test_a_live_lease_is_left_alone(catalog: Catalog) -> None:
    for owner in (HERE, ELSEWHERE):
        add_case(catalog)
        taken(catalog, owner)
    assert requeue_lost_cases(catalog.acting_as("control"), 3) == 0


def test_the_lease_of_a_dead_process_of_this_machine_is_lost_at_once(catalog: Catalog) -> None:
    add_case(catalog)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owner = replace(this_process(), pid=sleeper.pid, started=start_of(sleeper.pid) or 0)
    lease = taken(catalog, str(owner), seconds=3600)
    assert requeue_lost_cases(catalog.acting_as("control"), 3) == 0
    sleeper.kill()
    sleeper.wait()
    assert requeue_lost_cases(catalog.acting_as("control"), 3) == 1
    assert case_of(catalog, lease.case_id).state == CaseState.QUEUED


def test_a_step_of_the_wall_clock_takes_no_case_from_a_living_worker(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_case(catalog)
    taken(catalog, str(this_process()))
    # What psutil makes of a boot time that moved with the clock.
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) - 3600)
    assert not this_process().is_gone
    assert not process_identity_from(HERE).is_gone
    assert requeue_lost_cases(catalog.acting_as("control"), 3) == 0


def test_a_clock_that_is_set_forward_takes_no_case_from_a_living_process_of_this_machine(catalog: Catalog) -> None:
    add_case(catalog)
    # As a step of more than the lease leaves it.
    taken(catalog, HERE, seconds=-3600)
    assert requeue_lost_cases(catalog.acting_as("control"), 3) == 0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name looks like what follows the name in /proc/PID/stat; ready when it has written a line."""
    program = "open('/proc/self/comm', 'w').write(') Z (1) 2'); print(flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_known_by_its_start_whatever_its_name_holds(sleeper: subprocess.Popen[bytes]) -> None:
    owner = replace(this_process(), pid=sleeper.pid, started=start_of(sleeper.pid) or 0)
    assert not owner.is_gone
    assert not process_identity_from(str(owner)).is_gone
    assert replace(owner, started=owner.started + 1).is_gone
    assert len(str(replace(owner, place="h" * 30 + ":4294967295", pid=4194304))) <= 64


def test_a_dead_process_that_nobody_has_waited_for_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    owner = replace(this_process(), pid=sleeper.pid, started=start_of(sleeper.pid) or 0)
    sleeper.kill()
    wait_until(lambda: owner.is_gone)
    assert psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE


def test_an_owner_written_by_an_older_version_is_still_told_alive_from_gone() -> None:
    older = replace(this_process(), started=int(psutil.Process().create_time()))
    assert not process_identity_from(str(older)).is_gone
    assert replace(older, started=older.started - 10).is_gone


def test_a_process_that_took_a_dead_ones_number_is_not_its_owner() -> None:
    assert not this_process().is_gone
    assert replace(this_process(), started=1).is_gone
    assert process_identity_from(HERE) == this_process()


def test_after_so_many_attempts_a_case_is_parked_and_a_retry_grants_as_many_again(catalog: Catalog) -> None:
    case_id = add_case(catalog)

    def lose() -> str:
        taken(catalog, ELSEWHERE, seconds=-1.0)
        requeue_lost_cases(catalog.acting_as("control"), 2)
        return case_of(catalog, case_id).state

    assert [lose(), lose()] == [CaseState.QUEUED, CaseState.PARKED]
    assert case_of(catalog, case_id).reason_code == "ATTEMPTS_EXHAUSTED"
    retry_case(catalog.acting_as("test"), case_id)
    assert [lose(), lose()] == [CaseState.QUEUED, CaseState.PARKED]
    assert case_of(catalog, case_id).attempt == 4


def test_a_planned_stop_costs_no_attempt(catalog: Catalog) -> None:
    case_id = add_case(catalog)
    for _ in range(3):
        abandon_lease(catalog.acting_as("test"), taken(catalog), None, problem="the node was stopped")
    abandon_lease(catalog.acting_as("test"), taken(catalog), 2, problem="crash")
    assert case_of(catalog, case_id).state == CaseState.QUEUED
    abandon_lease(catalog.acting_as("test"), taken(catalog), 2, problem="crash")
    assert case_of(catalog, case_id).state == CaseState.PARKED


def test_who_lost_a_case_cannot_abandon_it_for_its_new_holder(catalog: Catalog) -> None:
    add_case(catalog)
    old = taken(catalog, ELSEWHERE, seconds=-1.0)
    requeue_lost_cases(catalog.acting_as("control"), 3)
    new = taken(catalog)
    abandon_lease(catalog.acting_as("test"), old, 3, problem="late")
    assert case_of(catalog, new.case_id).lease_owner == new.owner


def test_who_held_an_overtaken_case_can_abandon_it_and_go_on(catalog: Catalog) -> None:
    case_id = add_case(catalog)
    lease = taken(catalog)
    with changed_rows(catalog) as session:
        advance_case(Transaction(session, "test"), session.get_one(Case, case_id), CaseEvent.OVERTAKEN)
    abandon_lease(catalog.acting_as("test"), lease, 3, problem="the worker stopped on an error")
    assert case_of(catalog, case_id).state == CaseState.SUPERSEDED


@pytest.mark.parametrize("state", [CaseState.QUEUED, CaseState.RUNNING, CaseState.DELIVERED])
def test_only_a_case_that_ended_badly_can_be_retried(catalog: Catalog, state: CaseState) -> None:
    case_id = add_case(catalog, state)
    with pytest.raises(ForbiddenTransition):
        retry_case(catalog.acting_as("test"), case_id)
    with pytest.raises(NodeError, match="there is no case"):
        retry_case(catalog.acting_as("test"), "absent")


def test_a_lease_renewer_renews_a_short_lease_and_writes_progress(catalog: Catalog) -> None:
    add_case(catalog)
    lease = taken(catalog, ELSEWHERE, seconds=5.0)
    with LeaseRenewer(catalog.acting_as("test"), lease, 5.0) as renewer:
        renewer.progress("refine", 0.25)
        time.sleep(7.0)
        assert requeue_lost_cases(catalog.acting_as("control"), 3) == 0
        case = case_of(catalog, lease.case_id)
        assert (case.stage, case.stage_done) == ("refine", 0.25)
    assert case.lease_until is not None
    assert case.lease_until > audit.utc_now() - timedelta(seconds=1)


def test_a_lease_is_kept_while_progress_changes_and_no_longer(catalog: Catalog) -> None:
    add_case(catalog)
    lease, stalled = taken(catalog, seconds=60.0), threading.Event()
    cancellation, recorder = Cancellation(), catalog.acting_as("test")
    with LeaseRenewer(recorder, lease, 60.0, 4.0, on_stall=stalled.set, cancellation=cancellation) as renewer:
        for step in range(12):
            renewer.progress("refine", step / 12)
            time.sleep(0.5)
        assert not stalled.is_set()
        assert stalled.wait(20)
        assert cancellation.is_requested


def overtake(session: object, case: Case) -> None:
    advance_case(Transaction(session, "test"), case, CaseEvent.OVERTAKEN)  # type: ignore[arg-type]


def give_to_another(_session: object, case: Case) -> None:
    case.lease_owner = ELSEWHERE


def finish(_session: object, case: Case) -> None:
    end_lease(case)


@pytest.mark.parametrize("change", [overtake, give_to_another, finish])
def test_the_engine_is_stopped_when_its_case_is_taken_away(
    catalog: Catalog, change: Callable[[object, Case], None]
) -> None:
    add_case(catalog)
    lease = taken(catalog)
    cancellation = Cancellation()

    def take_away_and_go_on() -> None:
        with LeaseRenewer(catalog.acting_as("test"), lease, 1.0, cancellation=cancellation) as renewer:
            renewer.progress("pose", 0.1)
            with changed_rows(catalog) as session:
                change(session, session.get_one(Case, lease.case_id))
            go_on(Monitor(renewer.progress, cancellation), seconds=10)

    with pytest.raises(LeaseLost):
        take_away_and_go_on()


def go_on(monitor: Monitor, seconds: float) -> None:
    """What an engine does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        monitor.report("pose", 0.2)
        time.sleep(0.05)


def test_work_that_is_cancelled_while_the_lease_holds_is_not_called_a_lost_lease(catalog: Catalog) -> None:
    add_case(catalog)
    lease, cancellation, recorder = taken(catalog), Cancellation(), catalog.acting_as("test")
    cancellation.request()
    with pytest.raises(DelineationCancelled), LeaseRenewer(recorder, lease, 60.0, cancellation=cancellation) as renewer:
        go_on(Monitor(renewer.progress, cancellation), seconds=10)
