"""Whatever dies, nothing is lost and nothing is done twice: real processes, real signals."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case, Instance
from dicom_node.demo.archive import Archive
from dicom_node.demo.node import free_port
from tests.end_to_end.harness import Node, ct_folder

pytestmark = pytest.mark.slow


def running(node: Node) -> bool:
    return any(case.state == CaseState.RUNNING and case.stage_done > 0.1 for case in node.rows(Case))


def test_a_worker_killed_in_the_middle_of_a_case_is_replaced_and_the_case_is_delivered_once(tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        with Node(tmp_path, [("archive", archive.ae_title, archive.port)], engine_seconds=3) as node:
            node.send(ct_folder(tmp_path))
            node.wait(lambda: running(node), "the case is being worked on")
            os.kill(node.pids()["worker-1"], signal.SIGKILL)
            node.wait_for(CaseState.DELIVERED)
            assert [case.attempt for case in node.rows(Case)] == [2]
            assert "WORKER_LOST" in node.events()
            assert node.audit_is_whole()
        assert len(archive.kept) == 2
        assert len({kept.sop_instance_uid for kept in archive.kept}) == 2


def test_a_node_killed_as_a_whole_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = Node(tmp_path, [("archive", archive.ae_title, archive.port)], engine_seconds=2)
        with node:
            node.send(ct_folder(tmp_path))
            node.wait(lambda: running(node), "the case is being worked on")
            node.kill_everything()
            assert node.case_states() == [CaseState.RUNNING]
            assert len(node.rows(Instance)) == 60
            node.start()
            node.wait_for(CaseState.DELIVERED)
            assert node.audit_is_whole()
        assert len(archive.kept) == 2


def test_a_destination_that_is_down_gets_the_objects_when_it_is_up(tmp_path: Path) -> None:
    port = free_port()
    with Node(tmp_path, [("archive", "ARCHIVE", port)]) as node:
        node.send(ct_folder(tmp_path))
        node.wait_for(CaseState.DELIVERING)
        node.wait(lambda: node.events().count("TRY_AGAIN") >= 4, "both objects were tried twice")
        with Archive(tmp_path / "archive", "ARCHIVE", port) as archive:
            node.wait_for(CaseState.DELIVERED)
            assert len(archive.kept) == 2
        assert node.audit_is_whole()


def test_the_same_series_sent_twice_is_one_case(tmp_path: Path) -> None:
    with Archive(tmp_path / "archive") as archive:
        with Node(tmp_path, [("archive", archive.ae_title, archive.port)]) as node:
            folder = ct_folder(tmp_path)
            node.send(folder)
            node.wait_for(CaseState.DELIVERED)
            node.send(folder)
            node.send(ct_folder(tmp_path, "other"))
            node.wait_for(CaseState.DELIVERED, CaseState.DELIVERED)
        assert len(archive.kept) == 4
