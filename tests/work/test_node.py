"""The node's processes: started, killed, started again. The engine waits while the file `slow` lies in its folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dicom_node.catalog import audit
from dicom_node.catalog.database import View
from dicom_node.catalog.heartbeats import all_heartbeats
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case
from dicom_node.catalog.verify import read_anchor, verify
from dicom_node.processes.supervisor import WORKER
from dicom_node.settings import Settings
from dicom_node.watch.status import node_status
from dissm_engine.bundle import Bundle
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import rows
from tests.builders.senders import reconnecting_senders, storescu

ROOT = Path(__file__).resolve().parents[2]
STARTER = (
    "import sys; from pathlib import Path; from dicom_node.settings import Settings; "
    "from dicom_node.processes.supervisor import run_node; "
    "run_node(Settings.model_validate_json(Path(sys.argv[1]).read_text()), worker=sys.argv[2])"
)
SLOW, FATAL = "tests.work.engines:slow_worker", "tests.work.engines:fatal_worker"
HUNG = "tests.work.engines:hung_worker"
pytestmark = pytest.mark.slow


class Node:
    """A node in processes of its own over an intake that already holds one queued case."""

    def __init__(self, folder: Path, **tables: dict[str, object]) -> None:
        self.intake = Intake(folder / "data", **tables)
        self.settings: Settings = self.intake.settings
        self.catalog = self.intake.catalog
        self._settings_file = folder / "settings.json"
        self._settings_file.write_text(self.settings.model_dump_json())
        self.running: list[subprocess.Popen[str]] = []

    def queue_one(self, folder: Path) -> None:
        write_ct_series(folder, abdomen(), series_description="Abdomen portal venous")
        self.intake.decide(folder)

    def start(self, worker: str = SLOW) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", STARTER, str(self._settings_file), worker]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self.running.append(process)
        return process

    def pid(self, name: str) -> int | None:
        with rows(self.catalog) as session:
            pids = [row.pid for row in all_heartbeats(View(session)) if row.name == name]
        return pids[0] if pids and psutil.pid_exists(pids[0]) else None

    def case(self) -> Case:
        with rows(self.catalog) as session:
            return session.query(Case).one()

    def hold(self) -> None:
        (self.settings.node.data_folder / "slow").touch()

    def let_go(self) -> None:
        (self.settings.node.data_folder / "slow").unlink()

    def events(self) -> list[str]:
        with rows(self.catalog) as session:
            return [row.event for row in audit.rows(View(session))]

    def untouched(self) -> bool:
        with rows(self.catalog) as session:
            return verify(View(session), read_anchor(self.settings.node.audit_anchor)).untouched

    def stop_all(self) -> None:
        for process in self.running:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            for each in [*children, process]:
                try:
                    each.kill()
                except psutil.NoSuchProcess:
                    continue
            process.communicate()
        self.catalog.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, work={"workers": 1, "lease_seconds": 30, "max_attempts": 2})
    node.queue_one(tmp_path / "images")
    yield node
    node.stop_all()


def until(met: Callable[[], object], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_worker_killed_in_the_middle_is_replaced_and_the_case_finished(node: Node) -> None:
    node.hold()
    supervisor = node.start()
    until(lambda: node.case().stage == "waiting")
    worker = node.pid("worker-1")
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    until(lambda: node.case().attempt == 2)
    node.let_go()
    until(lambda: node.case().state == CaseState.DELIVERED)
    events = node.events()
    assert {"PROCESS_ENDED", "WORKER_LOST"} <= set(events)
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    with rows(node.catalog) as session:
        assert all_heartbeats(View(session)) == []
    assert node.events()[-1] == "NODE_STOPPED"
    assert node.untouched()


def test_a_node_killed_as_a_whole_leaves_nobody_behind_and_goes_on_after_its_restart(node: Node) -> None:
    node.hold()
    supervisor = node.start()
    until(lambda: node.case().stage == "waiting")
    children = psutil.Process(supervisor.pid).children(recursive=True)
    supervisor.kill()
    supervisor.wait()
    second = node.start()
    until(lambda: node.case().attempt == 2)
    node.let_go()
    until(lambda: node.case().state == CaseState.DELIVERED)
    psutil.wait_procs(children, timeout=20)
    assert [child for child in children if child.is_running()] == []
    second.send_signal(signal.SIGINT)
    assert second.wait(60) == 0
    assert node.untouched()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_senders_that_reconnect_at_once_hold_no_process_of_a_node_that_was_killed_or_stopped(
    node: Node, tmp_path: Path, end: signal.Signals
) -> None:
    write_ct_series(tmp_path / "sent", abdomen())
    supervisor = node.start()
    until(lambda: node.pid("listener") and answers(node.settings.listen.port))
    children = psutil.Process(supervisor.pid).children(recursive=True)
    with reconnecting_senders(node.intake, tmp_path / "sent") as said:
        until(lambda: len(said) >= 3)
        began = time.monotonic()
        supervisor.send_signal(end)
        supervisor.wait(60)
        psutil.wait_procs(children, timeout=30)
        seconds = time.monotonic() - began
    assert [child for child in children if child.is_running()] == []
    assert seconds < 15
    assert "Unknown Status: 0x124" not in "".join(said)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_worker_that_hangs_is_replaced_and_the_case_finished(tmp_path: Path) -> None:
    node = Node(tmp_path, work={"workers": 1, "max_attempts": 9, "stalled_minutes": 0.3})
    node.queue_one(tmp_path / "images")
    try:
        node.hold()
        supervisor = node.start(HUNG)
        until(lambda: "PROCESS_ENDED" in node.events())
        node.let_go()
        until(lambda: node.case().state == CaseState.DELIVERED)
        assert node.case().attempt > 1
        assert supervisor.poll() is None
    finally:
        node.stop_all()


def test_a_planned_stop_gives_the_case_back_at_once(node: Node) -> None:
    node.hold()
    supervisor = node.start()
    until(lambda: node.case().stage == "waiting")
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    assert (node.case().state, node.case().attempts_forgiven) == (CaseState.QUEUED, 1)


def test_a_case_that_kills_its_workers_is_parked_and_the_node_stays_up(node: Node) -> None:
    supervisor = node.start(FATAL)
    until(lambda: node.case().state == CaseState.PARKED)
    assert node.case().attempt == 2
    assert supervisor.poll() is None
    assert node.pid("listener") is not None


def test_with_a_tampered_bundle_the_node_still_receives_and_says_why_it_does_not_delineate(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(Bundle.shipped(), bundle)
    weights = bundle / "refine.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    node = Node(tmp_path, node={"bundle": str(bundle)}, work={"workers": 1})
    node.queue_one(tmp_path / "images")
    try:
        supervisor = node.start(WORKER)
        until(lambda: node.events().count("PROCESS_ENDED") >= 2)
        write_ct_series(tmp_path / "more", abdomen())
        assert storescu(node.intake, tmp_path / "more") == 0
        assert supervisor.poll() is None
        assert node.case().state == CaseState.QUEUED
        with rows(node.catalog) as session:
            problems = node_status(View(session), node.settings).problems
        assert any("worker-1" in problem and "refine.safetensors" in problem for problem in problems), problems
    finally:
        node.stop_all()


def test_a_port_in_use_ends_the_start_with_one_clear_sentence(node: Node) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", node.settings.listen.port))
        other.listen()
        supervisor = node.start()
        _, said = supervisor.communicate(timeout=180)
    assert supervisor.returncode != 0
    assert f"port {node.settings.listen.port} on 127.0.0.1 is in use" in said


def test_a_second_node_on_the_same_folder_is_refused(node: Node) -> None:
    first = node.start()
    until(lambda: node.pid("control"))
    second = node.start()
    _, said = second.communicate(timeout=180)
    assert second.returncode != 0
    assert "another node runs on" in said
    assert first.poll() is None
