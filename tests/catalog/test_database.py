from __future__ import annotations

import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Catalog, Transaction, View, open_catalog, open_existing
from dicom_node.catalog.database_url import sqlite_url
from dicom_node.catalog.naming import new_case_id
from dicom_node.catalog.tables import Instance, Table
from dicom_node.catalog.verify import verify
from dicom_node.reasons import CatalogError, CatalogUnavailableError
from tests.builders.rows import changed_rows, rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "catalog.sqlite"


@pytest.fixture
def catalog(file: Path) -> Catalog:
    return open_catalog(sqlite_url(file))


def append(catalog: Catalog, event: AuditEvent = AuditEvent.NODE_STARTED) -> None:
    with catalog.acting_as("test").write() as tx:
        audit.append(tx, event, SubjectKind.NODE, "node")


def test_files_are_readable_by_their_owner_only(catalog: Catalog, file: Path) -> None:
    append(catalog)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in file.parent.iterdir()}
    assert set(modes) == {"catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"}
    assert set(modes.values()) == {0o600}


def test_every_connection_is_durable_and_checks_foreign_keys(catalog: Catalog) -> None:
    for transaction in (rows, changed_rows):
        with transaction(catalog) as session:
            found = {name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")}
            assert found == {"journal_mode": "wal", "synchronous": 2}
            assert session.scalar(text("PRAGMA foreign_keys")) == 1
            assert session.scalar(text("PRAGMA busy_timeout")) == 30_000


def test_a_row_without_its_parent_is_refused(catalog: Catalog) -> None:
    orphan = Instance(
        series_id=99,
        sop_instance_uid="1",
        sop_class_uid="1",
        transfer_syntax_uid="1",
        digest="",
        path="",
        size=0,
        received_at=audit.utc_now(),
    )
    with pytest.raises(CatalogUnavailableError, match="FOREIGN KEY"), changed_rows(catalog) as session:
        session.add(orphan)


def test_a_write_that_raises_leaves_nothing(catalog: Catalog) -> None:
    def fail() -> None:
        with changed_rows(catalog) as session:
            audit.append(Transaction(session, "test"), AuditEvent.NODE_STARTED, SubjectKind.NODE, "node")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with rows(catalog) as session:
        assert list(audit.rows(View(session))) == []


def test_writers_wait_for_each_other_from_their_first_moment(catalog: Catalog) -> None:
    """With a lock taken at the first write instead, the second writer would read the same head."""
    entered = threading.Event()
    order: list[str] = []

    def second() -> None:
        entered.wait()
        with changed_rows(catalog):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with changed_rows(catalog):
        entered.set()
        thread.join(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_chain_written_by_many_threads_holds(catalog: Catalog) -> None:
    threads = [threading.Thread(target=lambda: [append(catalog) for _ in range(15)], daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with rows(catalog) as session:
        verdict = verify(View(session), None)
    assert (verdict.rows, verdict.problems) == (60, ())


def test_migrations_make_exactly_the_tables_of_the_code(catalog: Catalog) -> None:
    with rows(catalog) as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_migrating_twice_changes_nothing(catalog: Catalog, file: Path) -> None:
    append(catalog)
    open_catalog(sqlite_url(file)).close()
    with rows(catalog) as session:
        assert [row.event for row in audit.rows(View(session))] == ["NODE_STARTED"]


def test_a_migration_that_breaks_leaves_no_table_and_no_record(file: Path) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as raw:
        # The migration will come to the table `stacks` after several others.
        raw.execute("CREATE TABLE stacks (in_the_way INTEGER)")
    raw.close()
    with pytest.raises(CatalogError, match="stacks"):
        open_catalog(sqlite_url(file))
    raw = sqlite3.connect(file)
    names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master")]
    raw.close()
    assert names == ["stacks"]


def test_a_database_of_a_newer_release_is_left_alone(catalog: Catalog, file: Path) -> None:
    with changed_rows(catalog) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogError, match="9999"):
        open_catalog(sqlite_url(file))


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite"
    file.write_text("not a database, but long enough to be looked at" * 20)
    with pytest.raises(CatalogError, match="not a database"):
        open_catalog(sqlite_url(file))


def test_looking_at_a_missing_database_makes_none(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such file"):
        open_existing(tmp_path / "absent.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_case_ids_are_short_plain_and_differ() -> None:
    names = {new_case_id() for _ in range(1000)}
    assert len(names) == 1000
    assert all(len(name) == 10 and name.isalnum() and name == name.lower() for name in names)
