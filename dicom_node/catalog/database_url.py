"""What a database URL says, without a connection: the one place that takes such URLs apart."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError


def check_database_url(url: str) -> None:
    """Check that the text is a URL of a database that SQLAlchemy knows.

    Whether a driver is installed and the server answers is seen when the database is opened.

    Raises:
        ValueError: It is none. The message does not repeat the URL, which may hold a password.
    """
    try:
        make_url(url).get_dialect()
    except ArgumentError as problem:
        raise ValueError('is no database URL such as "postgresql+psycopg://user@host/name"') from problem


def is_sqlite(url: str) -> bool:
    """Return whether the database is a file of SQLite and no server."""
    return make_url(url).get_backend_name() == "sqlite"


def sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file."""
    return f"sqlite:///{file.absolute()}"


def sqlite_file(url: str) -> Path:
    """Return the file of an SQLite database; the empty path for a database in memory."""
    return Path(make_url(url).database or "")


def shown_url(url: str) -> str:
    """Return the URL as it may be shown and logged: its password is hidden."""
    return make_url(url).render_as_string(hide_password=True)


def missing_driver(url: str) -> str | None:
    """Return which module the database's driver lacks; None where the driver can be imported."""
    try:
        make_url(url).get_dialect().import_dbapi()
    except ImportError as problem:
        return str(problem)
    return None
