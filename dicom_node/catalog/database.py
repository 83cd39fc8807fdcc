"""The catalogue's database: one engine, two kinds of transaction, migrations."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DatabaseError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from dicom_node.catalog.database_url import is_sqlite, shown_url, sqlite_file, sqlite_url
from dicom_node.reasons import (
    DATABASE_OF_OTHER_RELEASE,
    DATABASE_UNAVAILABLE,
    DATABASE_UNUSABLE,
    DRIVER_MISSING,
    CatalogError,
    CatalogUnavailableError,
)

BUSY_MILLISECONDS = 30_000
_MIGRATIONS = Path(__file__).parent / "migrations"
_WRITES = "catalog_writes"
_WRITE_LOCK = 0x44495353
"""PostgreSQL advisory lock that stands for SQLite's one writer at a time ("DISS")."""


@dataclass(frozen=True, slots=True)
class View:
    """One consistent look at the catalogue. session: for the queries of this room only."""

    session: Session


@dataclass(frozen=True, slots=True)
class Transaction(View):
    """One transaction that writes. process: the name that every audit row of it bears."""

    process: str


@dataclass(frozen=True, slots=True)
class Recorder:
    """The catalogue as one process writes to it."""

    catalog: Catalog
    process: str

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One transaction that holds the write lock from its first moment; committed at the end, durable (C2).

        Rolled back when the block raises. Writers come one after the other, so that what a transaction reads
        cannot change before it writes, and the audit chain has one head. Raises CatalogUnavailableError.
        """
        with self.catalog.writing() as session:
            yield Transaction(session, self.process)

    @contextmanager
    def read(self) -> Iterator[View]:
        """As `Catalog.read`."""
        with self.catalog.read() as view:
            yield view


class Catalog:
    """The database of one node, shared by its processes. Threads may share one object; processes open their own.

    url: an SQLAlchemy URL, SQLite or PostgreSQL. A missing SQLite file is made with mode 0600, missing folders
    with 0700. Raises CatalogError if a folder or file cannot be made.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._engine = create_engine(url, pool_pre_ping=not is_sqlite(url))
        except ImportError as problem:
            raise CatalogError(DRIVER_MISSING, database=shown_url(url), problem=problem) from problem
        if is_sqlite(url):
            if not _is_read_only(url):
                _make_private_file(url)
            event.listen(self._engine, "connect", _prepare_sqlite_connection)
            event.listen(self._engine, "begin", _begin_sqlite_transaction)
        self._reading = sessionmaker(self._engine, expire_on_commit=False)
        self._writing = sessionmaker(self._writing_engine(), expire_on_commit=False)

    def _writing_engine(self) -> Engine:
        return self._engine.execution_options(**{_WRITES: True})

    def acting_as(self, process: str) -> Recorder:
        """The same catalogue, for a process that writes to it under its name."""
        return Recorder(self, process)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """The session of one writing transaction; use `acting_as(...).write()`. Raises CatalogUnavailableError."""
        with self._said_as_catalog_error(), self._writing.begin() as session:
            _take_write_lock(session.connection())
            yield session

    @contextmanager
    def read(self) -> Iterator[View]:
        """One consistent view; what is changed in it is never stored. Raises CatalogUnavailableError."""
        with self._said_as_catalog_error(), self._reading() as session:
            yield View(session)

    def migrate(self) -> None:
        """Bring the tables to this program's version; all steps and their record are one transaction."""
        if is_sqlite(self.url):
            self._switch_to_write_ahead_log()
        with self._writing_engine().begin() as connection:
            _take_write_lock(connection)
            config = _migration_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()

    @contextmanager
    def _said_as_catalog_error(self) -> Iterator[None]:
        """Whoever uses the catalogue need not know what it is made of."""
        try:
            yield
        except SQLAlchemyError as problem:
            if isinstance(problem, (OperationalError, ProgrammingError)):
                self._check_release(problem)
            said = problem.orig if isinstance(problem, DatabaseError) else type(problem).__name__
            raise CatalogUnavailableError(DATABASE_UNAVAILABLE, problem=said) from problem

    def _check_release(self, problem: DatabaseError) -> None:
        """A statement that failed on the tables of another release says so.

        Asked only then: what reads tables that have not changed, as the audit's, works on such a database. Raises
        CatalogUnavailableError(DATABASE_OF_OTHER_RELEASE).
        """
        try:
            with self._engine.connect() as connection:
                found = connection.scalar(text("SELECT version_num FROM alembic_version"))
        except SQLAlchemyError:
            return
        expected = ScriptDirectory.from_config(_migration_config()).get_current_head()
        if found != expected:
            raise CatalogUnavailableError(DATABASE_OF_OTHER_RELEASE, found=found, expected=expected) from problem

    def _switch_to_write_ahead_log(self) -> None:
        # The mode is kept in the file; it can only be set outside a transaction.
        raw = self._engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()


def open_catalog(url: str) -> Catalog:
    """The catalogue at `url`, migrated.

    Raises CatalogError when it cannot be opened, is no database, or was made by a newer program.
    """
    catalog = Catalog(url)
    try:
        catalog.migrate()
    except (DatabaseError, sqlite3.Error, CommandError) as problem:
        # CommandError: the tables are of a release that this program does not know.
        catalog.close()
        said = problem.orig if isinstance(problem, DatabaseError) else problem
        raise CatalogError(DATABASE_UNUSABLE, database=shown_url(url), problem=said) from problem
    return catalog


def open_existing(file: Path) -> Catalog:
    """The catalogue in an SQLite file, as it is: nothing is created or migrated. Raises CatalogError."""
    if not file.is_file():
        raise CatalogError(DATABASE_UNUSABLE, database=file, problem="no such file")
    return Catalog(sqlite_url(file))


def open_copy(file: Path) -> Catalog:
    """The catalogue in an SQLite file that may lie on a medium where nothing can be written. Raises CatalogError.

    It is never changed: an auditor's copy stays what was handed over.
    """
    if not file.is_file():
        raise CatalogError(DATABASE_UNUSABLE, database=file, problem="no such file")
    query = {"mode": "ro", "uri": "true"}
    log = file.with_name(file.name + "-wal")
    # SQLite makes files beside one with a write-ahead log. `immutable` needs none, but would not see what is only in
    # the log: where there is one, it must be read.
    if not os.access(file.absolute().parent, os.W_OK) and not (log.exists() and log.stat().st_size):
        query["immutable"] = "1"
    name = f"file:{quote(str(file.absolute()))}"
    return Catalog(URL.create("sqlite", database=name, query=query).render_as_string())


def _migration_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _is_read_only(url: str) -> bool:
    return make_url(url).query.get("mode") == "ro"


def _make_private_file(url: str) -> None:
    file = sqlite_file(url)
    if file in {Path(), Path(":memory:")}:
        raise CatalogError(DATABASE_UNUSABLE, database=url, problem="the catalogue must be a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite gives -wal and -shm the mode of the database itself.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as problem:
        raise CatalogError(DATABASE_UNUSABLE, database=file, problem=problem.strerror) from problem


def _prepare_sqlite_connection(connection: Any, _record: object) -> None:
    # The driver shall begin no transaction by itself: `_begin_sqlite_transaction` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite_transaction(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _take_write_lock(connection: Connection) -> None:
    """SQLite took it with BEGIN IMMEDIATE."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})
