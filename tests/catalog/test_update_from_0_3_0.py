"""A database that release 0.3.0 left, with series, cases and deliveries in every state, reads back after the update."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from dicom_node.catalog.database import Catalog, open_catalog
from dicom_node.catalog.database_url import sqlite_file, sqlite_url
from dicom_node.catalog.heartbeats import all_heartbeats, last_failure
from dicom_node.catalog.histories import all_series_histories, case_history, newest_cases, newest_series, series_history
from dicom_node.catalog.intake import bytes_of_series
from dicom_node.catalog.node_counts import cases_in, state_counts
from dicom_node.catalog.states import CaseState, DeliveryState, SeriesState
from dicom_node.catalog.tables import Table
from dicom_node.values.phase import Phase
from dicom_node.values.received import AssociationEnd
from dissm_engine.findings import Verdict
from tests.builders import release_0_3_0
from tests.builders.release_0_3_0 import query
from tests.builders.rows import rows

TOLD = release_0_3_0.told_by_release()
CASES: dict[str, dict[str, Any]] = TOLD["cases"]
SERIES: dict[str, dict[str, Any]] = TOLD["series"]
SINCE_0_4: dict[type[StrEnum], set[str]] = {
    SeriesState: set(),
    CaseState: {CaseState.WITHDRAWN.value, CaseState.CANCELLED.value, CaseState.INVALID.value},
    DeliveryState: {DeliveryState.RETRACTED.value, DeliveryState.TO_DELETE.value},
    AssociationEnd: set(),
}
"""States that 0.3.0 did not know."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Before the update."""
    return release_0_3_0.write_database(tmp_path)


@pytest.fixture
def catalog(file: Path) -> Iterator[Catalog]:
    """After it."""
    opened = open_catalog(sqlite_url(file))
    yield opened
    opened.close()


def audit_ids(history: dict[str, Any]) -> list[int]:
    return [row["id"] for row in history["audit"]]


def test_the_fixture_has_every_state_and_every_end_of_an_association(file: Path) -> None:
    for table, column, members in (
        ("series", "state", SeriesState),
        ("cases", "state", CaseState),
        ("deliveries", "state", DeliveryState),
        ("associations", "ended", AssociationEnd),
    ):
        there = {value for (value,) in query(file, f"SELECT DISTINCT {column} FROM {table}")} - {None}
        assert there == {member.value for member in members} - SINCE_0_4[members]


def test_the_updated_tables_are_those_of_the_code(catalog: Catalog) -> None:
    with rows(catalog) as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


@pytest.mark.parametrize("case_id", CASES)
def test_a_case_is_told_as_its_own_release_told_it(catalog: Catalog, case_id: str) -> None:
    with catalog.read() as view:
        history: dict[str, Any] = json.loads(json.dumps(case_history(view, case_id).to_json()))
    history["audit"] = audit_ids(history)
    history["series"] = history["series"]["series_instance_uid"]
    history["stack"] = history["stack"]["stack"]
    del history["results"], history["standing"]
    assert (history.pop("to_delete"), history.pop("current")) == ([], _is_current(history))
    for item in history["objects"]:
        assert item.pop("series_instance_uid") is None
        del item["proof"]
    told = dict(CASES[case_id])
    if told["reason_code"] == "OVERTAKEN":
        # Releases since then know what there is to do.
        assert history.pop("reason").split(";")[0] == told.pop("reason").split(";")[0]
    assert history == told


def _is_current(history: dict[str, Any]) -> bool:
    """0.3.0 sent every result: what was on its way stays the answer until something comes."""
    sent = {CaseState.PROVEN, CaseState.DELIVERING, CaseState.DELIVERED}
    return history["state"] in sent or history["reason_code"] == "DELIVERY_REFUSED"


@pytest.mark.parametrize("uid", SERIES)
def test_a_series_is_told_as_its_own_release_told_it(catalog: Catalog, uid: str) -> None:
    with catalog.read() as view:
        history: dict[str, Any] = json.loads(json.dumps(series_history(view, uid).to_json()))
    history["audit"] = audit_ids(history)
    for stack in history["stacks"]:
        stack["cases"] = [case["case"] for case in stack["cases"]]
    assert history == SERIES[uid]


def test_the_lists_of_cases_and_series_have_the_order_they_had(catalog: Catalog) -> None:
    with catalog.read() as view:
        assert [case.id for case in newest_cases(view)] == list(CASES)
        assert [one.series_instance_uid for one in newest_series(view)] == list(SERIES)
        assert {one.series.series_instance_uid for one in all_series_histories(view)} == set(SERIES)


def test_the_counts_by_state_are_those_of_before(catalog: Catalog) -> None:
    with catalog.read() as view:
        counts = state_counts(view)
        for_a_person = cases_in(view, (CaseState.HELD, CaseState.PARKED, CaseState.FAILED))
    told = TOLD["status"]
    assert (counts.series, counts.cases, counts.deliveries) == (told["series"], told["cases"], told["deliveries"])
    assert list(for_a_person) == told["for_a_person"]


def test_results_and_proofs_say_what_the_engine_said_then(file: Path) -> None:
    stored = {name: json.loads(text) for name, text in query(file, "SELECT id, results FROM cases")}
    proofs = {uid: json.loads(text) for uid, text in query(file, "SELECT sop_instance_uid, proof FROM objects")}
    assert sum(bool(content) for content in stored.values()) == 11
    catalog = open_catalog(sqlite_url(file))
    for case_id, content in stored.items():
        with catalog.read() as view:
            history = case_history(view, case_id)
        # 0.3.0 knew no arithmetic: it is empty, and not guessed.
        assert (history.results.to_json() if history.results else {}) == (content and {**content, "arithmetic": ""})
        assert all(item.proof == proofs[item.sop_instance_uid] for item in history.objects)


def test_phase_verdict_and_incompleteness_are_read_as_values(catalog: Catalog) -> None:
    with catalog.read() as view:
        doubtful, broken_off, rejected = (case_history(view, name) for name in ("notsent", "heldsent", "heldbad"))
    assert (doubtful.case.phase, doubtful.case.verdict) == (Phase.UNKNOWN, Verdict.REVIEW)
    assert broken_off.results is not None
    assert "images may be missing" in broken_off.results.reasons[0]
    assert rejected.case.verdict is Verdict.REJECT


def test_the_images_of_every_stack_keep_their_order(file: Path) -> None:
    before = {stack: json.loads(text) for stack, text in query(file, "SELECT id, instance_ids FROM stacks")}
    # The late slice came last and lies first.
    assert any(ids != sorted(ids) for ids in before.values())
    open_catalog(sqlite_url(file)).close()
    after: dict[int, list[int]] = {stack: [] for stack in before}
    for stack, position, instance in query(file, "SELECT * FROM stack_images ORDER BY stack_id, position"):
        assert position == len(after[stack])
        after[stack].append(instance)
    assert after == before


def test_every_series_knows_its_images_and_bytes(catalog: Catalog) -> None:
    counted = (
        "SELECT series_instance_uid, (SELECT count(*) FROM instances i WHERE i.series_id = s.id AND use = 'in use'),"
        " (SELECT count(*) FROM instances i WHERE i.series_id = s.id AND use = 'waiting'),"
        " (SELECT sum(size) FROM instances i WHERE i.series_id = s.id) FROM series s"
    )
    found = query(sqlite_file(catalog.url), counted)
    assert sum(aside for _, _, aside, _ in found) == 3
    with catalog.read() as view:
        for uid, used, aside, size in found:
            record = series_history(view, uid).series
            assert (record.instances, record.quarantined, bytes_of_series(view, uid)) == (used, aside, size)


def test_the_end_of_a_worker_is_still_explained(catalog: Catalog) -> None:
    with catalog.read() as view:
        assert [beat.name for beat in all_heartbeats(view)] == ["control", "listener", "worker-1"]
        assert "weights.safetensors is missing" in last_failure(view, "worker-1")
