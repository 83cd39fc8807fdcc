"""A database as release 0.3.0 left it, with series, cases and deliveries in every state.

The tables come from this program's first two migrations, which are that release's own; the rows were written by its
code and are kept as plain SQL (tests/catalog/data/release_0_3_0.sql tells how they came to be).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from dicom_node.catalog import database
from dicom_node.catalog.database_url import sqlite_url

DATA = Path(__file__).resolve().parent.parent / "catalog" / "data"
SCHEMA = "0002"


def write_database(folder: Path) -> Path:
    """The database and its anchor, under the names that a node's data folder has for them; the database's path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "catalog.sqlite"
    _make_tables(file)
    raw = sqlite3.connect(file)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.executescript(f"BEGIN;\n{(DATA / 'release_0_3_0.sql').read_text(encoding='ascii')}\nCOMMIT;")
    assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
    raw.close()
    shutil.copy(DATA / "release_0_3_0.head", folder / "audit.head")
    return file


def told_by_release() -> dict[str, Any]:
    """What 0.3.0 itself said of the rows.

    Its keys are `verdict` (of `audit verify`), `status` (the counts), `cases` by id and `series` by UID (of `show` and
    `explain`). Audit rows are given by their ids, the series and stack of a case by theirs; results and proofs are left
    out. Settings that a sentence speaks of have the names that they have now.
    """
    text = (DATA / "release_0_3_0.json").read_text(encoding="ascii")
    found: dict[str, Any] = json.loads(text.replace("listen.largest_series_mb", "listen.max_series_mb"))
    return found


def query(file: Path, statement: str) -> list[tuple[Any, ...]]:
    """Rows as they lie in the file, whatever the program thinks of them."""
    raw = sqlite3.connect(file)
    try:
        return raw.execute(statement).fetchall()
    finally:
        raw.close()


def change(file: Path, statement: str, *values: object) -> None:
    """Change the file behind the program's back."""
    raw = sqlite3.connect(file)
    try:
        with raw:
            raw.execute(statement, values)
    finally:
        raw.close()


def _make_tables(file: Path) -> None:
    engine = create_engine(sqlite_url(file))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, SCHEMA)
    engine.dispose()
