"""The node goes on with what release 0.3.0 left: cases, deliveries, series, associations and the audit chain."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.catalog import audit
from dicom_node.catalog.associations import close_left_open
from dicom_node.catalog.case_results import case_source, proven_objects
from dicom_node.catalog.database import Recorder, open_catalog
from dicom_node.catalog.database_url import sqlite_file, sqlite_url
from dicom_node.catalog.decisions import stacks_of_study, studies_to_decide
from dicom_node.catalog.deliveries import (
    AttemptRecord,
    due_deliveries,
    proven_cases,
    record_attempt,
    waiting_deliveries,
)
from dicom_node.catalog.histories import case_history, newest_cases, series_history
from dicom_node.catalog.intake import record_instance, retry_series
from dicom_node.catalog.leases import retry_case, take_lease
from dicom_node.catalog.series import find_receiving_series, receiving_series, series_without_stacks
from dicom_node.catalog.states import CaseState, DeliveryEvent, SeriesState
from dicom_node.catalog.transitions import ForbiddenTransition
from dicom_node.catalog.verify import anchor_head, read_anchor, verify
from dicom_node.reasons import CatalogError
from dicom_node.values.lease import Lease
from dicom_node.values.received import AssociationEnd, InstanceIdentity, InstanceUse, SpooledFile, StoreOutcome
from dicom_node.work.lost_cases import requeue_lost_cases
from dicom_node.work.process_identity import this_process
from tests.builders import release_0_3_0
from tests.builders.release_0_3_0 import change, query

TOLD = release_0_3_0.told_by_release()
LAST_ROW: int = TOLD["verdict"]["rows"]
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Before the update."""
    return release_0_3_0.write_database(tmp_path)


@pytest.fixture
def recorder(file: Path) -> Iterator[Recorder]:
    """After it."""
    catalog = open_catalog(sqlite_url(file))
    yield catalog.acting_as("test")
    catalog.close()


def state_of(recorder: Recorder, case_id: str) -> CaseState:
    with recorder.read() as view:
        return case_history(view, case_id).case.state


def new_events(recorder: Recorder, subject: str) -> list[str]:
    """What was written about it behind the last row of 0.3.0."""
    with recorder.read() as view:
        return [row.event for row in audit.rows(view, subject=subject, after=LAST_ROW)]


def series_of(recorder: Recorder, case_id: str) -> str:
    with recorder.read() as view:
        return case_history(view, case_id).series.series_instance_uid


def anchor_of(recorder: Recorder) -> Path:
    return sqlite_file(recorder.catalog.url).with_name("audit.head")


# The audit chain


def test_the_chain_of_0_3_0_verifies_against_its_anchor(recorder: Recorder) -> None:
    with recorder.read() as view:
        verdict = verify(view, read_anchor(anchor_of(recorder)), must_be_anchored=True)
    assert json.loads(json.dumps(verdict.to_json())) == TOLD["verdict"]


def test_the_update_leaves_every_audit_row_as_it_was(file: Path) -> None:
    before = query(file, "SELECT * FROM audit ORDER BY id")
    open_catalog(sqlite_url(file)).close()
    assert query(file, "SELECT * FROM audit ORDER BY id") == before
    assert len(before) == LAST_ROW


def test_new_rows_continue_the_chain_and_the_anchor_follows_them(recorder: Recorder) -> None:
    retry_case(recorder, "failed")
    anchor = anchor_head(recorder, anchor_of(recorder))
    with recorder.read() as view:
        first = next(audit.rows(view, after=LAST_ROW))
        verdict = verify(view, read_anchor(anchor_of(recorder)), must_be_anchored=True)
    assert [first.id, first.previous_hash] == [LAST_ROW + 1, TOLD["verdict"]["head"][1]]
    # 0.3.0 had anchored it already: that is not said again.
    assert (anchor.id, verdict.rows, verdict.problems) == (LAST_ROW + 1, LAST_ROW + 1, ())


def test_a_row_of_0_3_0_that_was_changed_since_is_found(file: Path) -> None:
    for name in ("audit_no_UPDATE", "audit_no_DELETE"):
        change(file, f"DROP TRIGGER {name}")
    change(file, "UPDATE audit SET facts = '{}' WHERE id = 100")
    catalog = open_catalog(sqlite_url(file))
    with catalog.read() as view:
        problems = [problem.what for problem in verify(view, None).problems]
    assert problems[0] == "row 100 was changed after it was written"


def test_what_this_release_does_not_know_any_more_stays_readable(file: Path) -> None:
    """Reasons and events that are gone, and facts that a sentence of today is not filled with."""
    facts = json.dumps({"share": 0.3})
    change(file, "UPDATE cases SET reason_code = 'NO_SUCH_REASON', facts = ? WHERE id = 'failed'", facts)
    change(file, "UPDATE cases SET reason_code = 'DELIVERY_REFUSED', facts = ? WHERE id = 'heldsent'", facts)
    change(file, "UPDATE series SET reason_code = 'NO_SUCH_REASON' WHERE state = 'REFUSED'")
    change(file, "UPDATE stacks SET reason_code = 'NO_SUCH_REASON', facts = ? WHERE admitted = 0", facts)
    row = "0, 'then', 'beside', 'case', 'failed', 'NO_SUCH_EVENT', 'ODD', 'OTHER', 'NO_SUCH_REASON', '{}', '', 'other'"
    change(file, f"INSERT INTO audit VALUES ({row})")
    catalog = open_catalog(sqlite_url(file))
    with catalog.read() as view:
        failed, held = case_history(view, "failed"), case_history(view, "heldsent")
        refused = series_history(view, next(uid for uid, told in TOLD["series"].items() if told["state"] == "REFUSED"))
        (odd,) = [entry for entry in failed.audit if entry.id == 0]
    assert str(failed.case.reason) == "NO_SUCH_REASON"
    assert str(held.case.reason).startswith("DELIVERY_REFUSED {'share': 0.3}; fix it there")
    assert {str(entry.stack.reason) for entry in refused.stacks} == {"NO_SUCH_REASON"}
    assert (odd.event, odd.from_state, odd.reason_code) == ("NO_SUCH_EVENT", "ODD", "NO_SUCH_REASON")


# Cases


def test_cases_of_lost_workers_are_queued_again_and_those_of_a_living_one_are_left(recorder: Recorder) -> None:
    assert requeue_lost_cases(recorder, 3) == 2
    states = [state_of(recorder, case) for case in ("running", "delineated", "living")]
    assert states == [CaseState.QUEUED, CaseState.QUEUED, CaseState.RUNNING]
    assert (new_events(recorder, "running"), new_events(recorder, "living")) == (["WORKER_LOST"], [])


def test_a_case_of_a_process_of_this_host_that_is_gone_is_queued_again(file: Path) -> None:
    """As 0.3.0 wrote its owner; the lease itself holds for years."""
    gone = replace(this_process(), started=this_process().started + 1)
    change(file, "UPDATE cases SET lease_owner = ? WHERE id = 'living'", str(gone))
    recorder = open_catalog(sqlite_url(file)).acting_as("test")
    assert requeue_lost_cases(recorder, 3) == 3
    assert state_of(recorder, "living") == CaseState.QUEUED


def test_after_its_last_attempt_a_lost_case_is_parked(recorder: Recorder) -> None:
    requeue_lost_cases(recorder, 1)
    assert state_of(recorder, "running") == CaseState.PARKED


def test_every_queued_case_finds_its_images_in_the_order_of_the_slices(recorder: Recorder) -> None:
    requeue_lost_cases(recorder, 3)
    leases = []
    while lease := take_lease(recorder, str(this_process()), 60):
        leases.append(lease)
    assert [lease.case_id for lease in leases] == ["delineated", "running", "aside", "cured", "imported", "thin"]
    assert [lease.attempt for lease in leases] == [2, 2, 1, 1, 1, 1]
    with recorder.read() as view:
        sources = {lease.case_id: case_source(view, lease, process_all=False) for lease in leases}
    assert all(source.instances for source in sources.values())
    # What was put aside, or refused before its cure came, is not used.
    assert not any(image.use is not InstanceUse.IN_USE for source in sources.values() for image in source.instances)


def test_the_worker_that_lives_keeps_its_case(recorder: Recorder) -> None:
    lease = Lease("living", 1, "elsewhere:4026531836/4713/123456789014")
    with recorder.read() as view:
        assert len(case_source(view, lease, process_all=False).instances) == 2


@pytest.mark.parametrize("case_id", ["heldbad", "heldsent", "failed", "parked", "refused"])
def test_a_case_that_waits_for_a_person_can_be_retried(recorder: Recorder, case_id: str) -> None:
    with recorder.read() as view:
        attempts = case_history(view, case_id).case.attempt
    assert retry_case(recorder, case_id) == CaseState.QUEUED
    while (lease := take_lease(recorder, "here:1/2/3", 60)) and lease.case_id != case_id:
        pass
    assert lease is not None
    assert lease.attempt == attempts + 1
    assert state_of(recorder, case_id) == CaseState.RUNNING
    assert new_events(recorder, case_id) == ["RETRIED", "LEASED"]


def test_a_case_nobody_wanted_is_offered_again_and_a_delivered_one_is_not(recorder: Recorder) -> None:
    assert retry_case(recorder, "notsent") == CaseState.PROVEN
    with pytest.raises(ForbiddenTransition):
        retry_case(recorder, "delivered")
    with recorder.read() as view:
        assert sorted(proven_cases(view)) == ["notsent", "proven"]
        assert sorted((one.case_id, one.kind.value) for one in proven_objects(view)) == [
            ("notsent", "seg"),
            ("notsent", "surface"),
            ("proven", "seg"),
            ("proven", "surface"),
        ]


# Deliveries


def test_deliveries_that_waited_are_due(recorder: Recorder) -> None:
    with recorder.read() as view:
        due = {name: due_deliveries(view, name, audit.utc_now(), 100) for name in ("pacs", "viewer")}
        digests = {item.digest for name in newest_cases(view) for item in case_history(view, name.id).objects}
        assert [one.wanted for one in waiting_deliveries(view)] == [True] * 11
    assert {name: len(found) for name, found in due.items()} == {"pacs": 8, "viewer": 3}
    assert all(one.digest in digests and one.path.startswith("results/") for found in due.values() for one in found)


def test_while_a_destination_could_not_be_reached_nothing_of_it_is_due(recorder: Recorder) -> None:
    """The waiting time that 0.3.0 had set is kept."""
    (tried,) = query(sqlite_file(recorder.catalog.url), "SELECT max(next_attempt_at) FROM deliveries WHERE NOT reached")
    moment = datetime.fromisoformat(tried[0]) - timedelta(seconds=1)
    with recorder.read() as view:
        assert due_deliveries(view, "pacs", moment, 100) == []
        assert len(due_deliveries(view, "pacs", moment + timedelta(seconds=2), 100)) == 8


def test_a_case_is_delivered_when_its_last_waiting_object_is(recorder: Recorder) -> None:
    with recorder.read() as view:
        due = [
            *due_deliveries(view, "pacs", audit.utc_now(), 100),
            *due_deliveries(view, "viewer", audit.utc_now(), 100),
        ]
    for one in due:
        assert one.path.split("/")[1] in {"retried", "new", "twice1", "twice2"}
        with recorder.write() as tx:
            answer = AttemptRecord(DeliveryEvent.DELIVERED, "stored", 0)
            record_attempt(tx, one.delivery_id, answer, failures=0, try_again_in=timedelta())
    assert {state_of(recorder, case) for case in ("retried", "new", "twice1", "twice2")} == {CaseState.DELIVERED}
    # Three objects went out in the second round; what was refused in the first, before the retry, does not count.
    assert new_events(recorder, "retried") == ["DELIVERED", "DELIVERED", "ALL_DELIVERED"]


# Series and associations


def test_associations_left_open_are_closed_and_their_series_can_settle(recorder: Recorder) -> None:
    with recorder.read() as view:
        before = receiving_series(view)
    assert [(one.still_sent, one.last_ended) for one in before] == [(False, AssociationEnd.ABORTED), (True, None)]
    with recorder.write() as tx:
        assert close_left_open(tx) == 1
    with recorder.read() as view:
        after = find_receiving_series(view, before[1].id)
    assert after is not None
    assert (after.still_sent, after.last_ended) == (False, AssociationEnd.LOST)


def test_settled_series_are_assembled_and_decided(recorder: Recorder) -> None:
    with recorder.read() as view:
        (without,) = series_without_stacks(view)
        (study,) = studies_to_decide(view)
        (stack,) = stacks_of_study(view, study.study_instance_uid)
    assert without.series_id != stack.series.series_id
    # The middle one of two images is the second; the geometry is read from its line of evidence.
    images = f"SELECT instance_id FROM stack_images WHERE stack_id = {stack.id} ORDER BY position"
    _, second = query(sqlite_file(recorder.catalog.url), images)
    assert (stack.middle_instance_id, stack.undecided, stack.admitted) == (*second, True, None)
    assert [line.measures.spacing_mm for line in stack.evidence if line.measures] == [40.0]


def test_a_late_slice_reopens_a_series_of_before(recorder: Recorder) -> None:
    uid = series_of(recorder, "delivered")
    with recorder.read() as view:
        before = series_history(view, uid).series
    identity = InstanceIdentity(CT, "2.25.1", before.study_instance_uid, uid, "1.2.840.10008.1.2.1")
    with recorder.write() as tx:
        outcome = record_instance(tx, identity, SpooledFile("00/1.dcm", "cd" * 32, 1000), "CT1")
    with recorder.read() as view:
        after = series_history(view, uid).series
    assert (outcome, after.state, after.revision) == (StoreOutcome.STORED, SeriesState.RECEIVING, 2)
    assert after.instances == before.instances + 1


def test_an_image_that_0_3_0_had_stored_is_known(recorder: Recorder) -> None:
    uid = series_of(recorder, "delivered")
    file = sqlite_file(recorder.catalog.url)
    fields = "sop_instance_uid, transfer_syntax_uid, path, digest, size"
    stored = query(
        file, f"SELECT {fields} FROM instances JOIN series s ON s.id = series_id WHERE series_instance_uid = '{uid}'"
    )
    with recorder.read() as view:
        study = series_history(view, uid).series.study_instance_uid
    for sop_instance_uid, syntax, path, digest, size in stored:
        identity = InstanceIdentity(CT, sop_instance_uid, study, uid, syntax)
        with recorder.write() as tx:
            assert record_instance(tx, identity, SpooledFile(path, digest, size), "CT1") is StoreOutcome.KNOWN
    assert len(stored) == 4


def test_a_series_refused_for_its_bytes_takes_others(recorder: Recorder) -> None:
    """UNEVEN_SPACING is no fault of the bytes, NO_POSITIONS is: here it is put in by hand."""
    refused = [uid for uid, told in TOLD["series"].items() if told["reason_code"] == "UNEVEN_SPACING"]
    file = sqlite_file(recorder.catalog.url)
    change(file, "UPDATE stacks SET reason_code = 'NO_POSITIONS' WHERE reason_code = 'UNEVEN_SPACING'")
    with recorder.read() as view:
        study = series_history(view, refused[0]).series.study_instance_uid
    where = f"JOIN series s ON s.id = series_id WHERE series_instance_uid = '{refused[0]}'"
    (first, *_) = query(file, f"SELECT sop_instance_uid FROM instances {where} ORDER BY instances.id")
    identity = InstanceIdentity(CT, first[0], study, refused[0], "1.2.840.10008.1.2.1")
    with recorder.write() as tx:
        assert record_instance(tx, identity, SpooledFile("00/2.dcm", "ef" * 32, 1), "CT1") is StoreOutcome.STORED
    with recorder.read() as view:
        record = series_history(view, refused[0]).series
    assert (record.instances, record.quarantined) == (3, 1)


def test_a_refused_series_can_be_retried(recorder: Recorder) -> None:
    refused = [uid for uid, told in TOLD["series"].items() if told["state"] == "REFUSED"]
    for uid in refused:
        with recorder.write() as tx:
            retry_series(tx, uid)
        assert new_events(recorder, uid) == ["RETRIED"]


# The update itself


@pytest.mark.parametrize(
    "damage",
    [
        "CREATE TABLE stack_images (in_the_way INTEGER)",
        # Comes into the way when the images have their rows and the column they were in is gone.
        "ALTER TABLE series ADD COLUMN stored_bytes INTEGER",
        "UPDATE stacks SET instance_ids = '[1, 999]' WHERE id = 20",
        "UPDATE stacks SET instance_ids = '[1, ' WHERE id = 20",
        "UPDATE stacks SET instance_ids = 'null' WHERE id = 20",
    ],
)
def test_an_update_that_breaks_leaves_the_database_as_it_was(file: Path, damage: str) -> None:
    change(file, damage)
    before = dump(file)
    with pytest.raises(CatalogError, match=r"catalog\.sqlite"):
        open_catalog(sqlite_url(file))
    assert dump(file) == before
    assert query(file, "SELECT version_num FROM alembic_version") == [(release_0_3_0.SCHEMA,)]


def test_a_database_that_a_newer_release_updated_is_refused(file: Path) -> None:
    open_catalog(sqlite_url(file)).close()
    change(file, "UPDATE alembic_version SET version_num = '0099'")
    before = dump(file)
    with pytest.raises(CatalogError, match="0099"):
        open_catalog(sqlite_url(file))
    assert dump(file) == before


def dump(file: Path) -> list[str]:
    """Every table and every row as SQL."""
    raw = sqlite3.connect(file)
    try:
        return list(raw.iterdump())
    finally:
        raw.close()
