from __future__ import annotations

import json
import os
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Catalog, Transaction, View, open_catalog
from dicom_node.catalog.database_url import sqlite_url
from dicom_node.catalog.states import CaseEvent
from dicom_node.catalog.tables import AuditRow
from dicom_node.catalog.verify import ChainVerdict, anchor_head, read_anchor, verify
from dicom_node.reasons import CatalogError, CatalogUnavailableError
from dicom_node.values.facts import Facts
from tests.builders.rows import changed_rows, rows

EVENTS = list(CaseEvent)[:10]


def append_one(session: Session, process: str = "test", facts: Facts | None = None) -> None:
    audit.append(Transaction(session, process), AuditEvent.NODE_STARTED, SubjectKind.NODE, "node", facts=facts)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A catalogue with ten audit rows."""
    file = tmp_path / "catalog.sqlite"
    catalog = open_catalog(sqlite_url(file))
    with changed_rows(catalog) as session:
        for number in range(1, 11):
            audit.append(
                Transaction(session, "test"),
                EVENTS[number - 1],
                SubjectKind.CASE,
                f"case{number % 2}",
                facts={"number": number, "share": number / 3, "text": "größer"},
            )
    catalog.close()
    return file


@pytest.fixture
def anchor(file: Path) -> Path:
    """Its anchor, made when all ten rows were there."""
    where = file.with_name("audit.head")
    anchor_head(Catalog(sqlite_url(file)).acting_as("test"), where)
    return where


def tamper(file: Path, *statements: str) -> None:
    """Whoever has the file can drop the triggers first, and put them back."""
    raw = sqlite3.connect(file)
    triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        raw.execute(f'DROP TRIGGER "{name}"')
    for statement in statements:
        raw.execute(statement)
    for _, sql in triggers:
        raw.execute(sql)
    raw.commit()
    raw.close()


def verdict_of(file: Path, anchor: Path | None = None, *, must_be_anchored: bool = False) -> ChainVerdict:
    catalog = Catalog(sqlite_url(file))
    with rows(catalog) as session:
        verdict = verify(View(session), read_anchor(anchor) if anchor else None, must_be_anchored=must_be_anchored)
    catalog.close()
    return verdict


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET event = 'OTHER' WHERE id = 3",
        "DELETE FROM audit WHERE id = 10",
        "INSERT OR REPLACE INTO audit SELECT id, at, process, subject_kind, subject, 'OTHER', from_state, to_state,"
        " reason_code, facts, previous_hash, hash FROM audit WHERE id = 3",
    ],
)
def test_rows_cannot_be_changed_through_the_database(file: Path, statement: str) -> None:
    with (
        pytest.raises(CatalogUnavailableError, match="append-only"),
        changed_rows(Catalog(sqlite_url(file))) as session,
    ):
        session.execute(text(statement))
    assert verdict_of(file).untouched


def test_an_untouched_chain_is_proven(file: Path, anchor: Path) -> None:
    verdict = verdict_of(file, anchor)
    # The eleventh row says that the ten were anchored.
    assert (verdict.rows, verdict.anchored_row, verdict.problems) == (11, 10, ())


@pytest.mark.parametrize("column", [name for name in audit.COLUMNS if name not in {"id", "facts"}])
def test_a_change_in_any_column_is_seen(file: Path, column: str) -> None:
    tamper(file, f"UPDATE audit SET {column} = 'else' WHERE id = 5")
    assert "row 5" in verdict_of(file).problems[0].what


def test_a_changed_fact_is_seen(file: Path) -> None:
    tamper(file, "UPDATE audit SET facts = json_set(facts, '$.number', 6) WHERE id = 5")
    assert [problem.what for problem in verdict_of(file).problems] == ["row 5 was changed after it was written"]


def test_facts_that_are_no_json_any_more_are_seen(file: Path) -> None:
    tamper(file, "UPDATE audit SET facts = '{' WHERE id = 5")
    assert not verdict_of(file).untouched


def test_a_row_removed_in_the_middle_is_seen(file: Path) -> None:
    tamper(file, "DELETE FROM audit WHERE id IN (4, 5)")
    assert [problem.what for problem in verdict_of(file).problems] == ["rows 4 to 5 are missing"]


def test_a_removed_row_is_seen_though_the_rest_was_numbered_anew(file: Path) -> None:
    tamper(file, "DELETE FROM audit WHERE id = 4", "UPDATE audit SET id = id - 1 WHERE id > 4")
    assert not verdict_of(file).untouched


def test_a_removed_tail_is_seen_by_the_anchor_alone(file: Path, anchor: Path) -> None:
    tamper(file, "DELETE FROM audit WHERE id > 7")
    assert verdict_of(file).untouched
    (problem,) = verdict_of(file, anchor).problems
    assert problem.what.endswith("and is gone, the chain now ends at row 7")


def test_a_chain_written_anew_is_seen_by_the_anchor(file: Path, anchor: Path) -> None:
    tamper(file, "DELETE FROM audit")
    catalog = Catalog(sqlite_url(file))
    with changed_rows(catalog) as session:
        for _ in range(12):
            append_one(session, "liar")
    assert verdict_of(file).untouched
    assert "is not the one that was anchored" in verdict_of(file, anchor).problems[0].what


def test_the_anchor_follows_the_chain(file: Path, anchor: Path) -> None:
    catalog = Catalog(sqlite_url(file))
    with changed_rows(catalog) as session:
        append_one(session)
        head = audit.last_rows(View(session), 1)[0]
    anchor_head(catalog.acting_as("test"), anchor)
    found = read_anchor(anchor)
    assert found is not None
    assert (found.id, found.hash) == (12, head.hash)
    assert [each.name for each in anchor.parent.glob("audit.*")] == ["audit.head"]


def test_the_anchor_and_its_name_are_flushed_to_the_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, flushed = file.with_name("audit.head"), []
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    anchor_head(Catalog(sqlite_url(file)).acting_as("test"), where)
    assert flushed == [False, True]
    assert stat.S_IMODE(where.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["DELETE FROM audit WHERE id > 7", "UPDATE audit SET event = 'OTHER' WHERE id = 12"])
def test_the_anchor_does_not_follow_a_chain_that_was_touched(file: Path, anchor: Path, damage: str) -> None:
    before = anchor.read_bytes()
    catalog = Catalog(sqlite_url(file))
    with changed_rows(catalog) as session:
        for _ in range(5):
            append_one(session)
    tamper(file, damage)
    with pytest.raises(CatalogError, match="audit chain is broken"):
        anchor_head(catalog.acting_as("test"), anchor)
    assert anchor.read_bytes() == before


def test_the_chain_says_once_that_it_was_anchored(file: Path, anchor: Path) -> None:
    for _ in range(3):
        anchor_head(Catalog(sqlite_url(file)).acting_as("test"), anchor)
    with rows(Catalog(sqlite_url(file))) as session:
        assert [row.event for row in audit.rows(View(session), after=10)] == ["ANCHORED"]


def test_a_cut_tail_is_not_hidden_by_removing_the_anchor_too(file: Path, anchor: Path) -> None:
    tamper(file, "DELETE FROM audit WHERE id > 7")
    anchor.unlink()
    (problem,) = verdict_of(file, anchor, must_be_anchored=True).problems
    assert problem.what == "the anchor is gone: rows cut off the end could not be seen"


def test_an_anchor_older_than_the_database_beside_it_does_no_harm(file: Path, anchor: Path) -> None:
    catalog = Catalog(sqlite_url(file))
    backup = anchor.read_bytes()
    with changed_rows(catalog) as session:
        append_one(session)
    anchor_head(catalog.acting_as("test"), anchor)
    anchor.write_bytes(backup)
    assert verdict_of(file, anchor, must_be_anchored=True).untouched
    assert anchor_head(catalog.acting_as("test"), anchor).id == 12
    assert verdict_of(file, anchor, must_be_anchored=True).untouched


def test_an_anchor_that_was_lost_is_begun_anew_and_that_stays_to_be_seen(file: Path, anchor: Path) -> None:
    catalog = Catalog(sqlite_url(file))
    anchor.unlink()
    for _ in range(2):
        anchor_head(catalog.acting_as("test"), anchor)
    (problem,) = verdict_of(file, anchor, must_be_anchored=True).problems
    assert problem.what == "the anchor was gone when row 12 was written: rows cut off before it could not be seen"


def test_a_copy_without_its_anchor_can_still_be_verified(file: Path, anchor: Path) -> None:
    anchor.unlink()
    verdict = verdict_of(file, anchor)
    assert (verdict.untouched, verdict.anchored_row) == (True, None)


def test_killed_between_anchor_and_row_the_next_round_takes_no_anchor_for_lost(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, catalog = file.with_name("audit.head"), Catalog(sqlite_url(file))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.catalog.verify._append", killed)
        with pytest.raises(KeyboardInterrupt):
            anchor_head(catalog.acting_as("test"), where)
    anchor_head(catalog.acting_as("test"), where)
    verdict = verdict_of(file, where, must_be_anchored=True)
    assert (verdict.rows, verdict.problems) == (11, ())


@pytest.mark.parametrize("name", ["audit_no_UPDATE", "audit_no_DELETE", "audit_no_replace"])
def test_a_missing_trigger_is_seen(file: Path, name: str) -> None:
    raw = sqlite3.connect(file)
    raw.execute(f'DROP TRIGGER "{name}"')
    raw.commit()
    raw.close()
    assert [problem.what for problem in verdict_of(file).problems] == [f"the trigger {name.lower()} is missing"]


def test_an_unreadable_anchor_is_said(file: Path, anchor: Path) -> None:
    anchor.write_text("{")
    with pytest.raises(CatalogError, match="anchor"):
        verdict_of(file, anchor)


def test_exported_lines_prove_the_chain_without_the_database(file: Path) -> None:
    with rows(Catalog(sqlite_url(file))) as session:
        lines = [json.dumps(row.to_json()) for row in audit.rows(View(session))]
    previous = audit.GENESIS
    for line in lines:
        content = json.loads(line)
        stated = content.pop("hash")
        assert content["previous_hash"] == previous
        assert audit.link_hash(AuditRow(**content)) == stated
        previous = stated


def test_facts_are_hashed_as_they_are_read_back(file: Path) -> None:
    with changed_rows(Catalog(sqlite_url(file))) as session:
        append_one(session, facts={"pair": (1, 2), "by number": {10: "a", 9: "b"}})
    assert verdict_of(file).untouched


def test_facts_that_are_no_finite_json_are_refused(file: Path) -> None:
    for bad in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)), changed_rows(Catalog(sqlite_url(file))) as session:
            append_one(session, facts={"bad": bad})


def test_rows_of_one_subject_are_found_in_order(file: Path) -> None:
    with rows(Catalog(sqlite_url(file))) as session:
        found = [row.id for row in audit.rows(View(session), subject_kind=SubjectKind.CASE, subject="case1")]
        newest = [row.id for row in audit.last_rows(View(session), 3)]
    assert (found, newest) == ([1, 3, 5, 7, 9], [8, 9, 10])
