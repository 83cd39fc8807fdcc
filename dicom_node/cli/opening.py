"""What commands have in common: their options, the settings they load, the catalogue they open.

What opening needs is imported when it is done: a mistyped word is answered without the database being loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.reasons import NEVER_STARTED, CatalogError

if TYPE_CHECKING:
    from dicom_node.catalog.database import Catalog
    from dicom_node.settings import Settings

SettingsFile = Annotated[Path, typer.Option("--settings", help="The settings file.")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
DatabaseFile = Annotated[Path | None, typer.Option("--database", help="An SQLite file instead of the node's own.")]
DEFAULT_SETTINGS = Path("settings.toml")


def load_with_warnings(file: Path) -> Settings:
    """The settings, with a line on standard error for each key that stands there under its old name."""
    from dicom_node.processes.logs import warn_of_settings
    from dicom_node.settings import load_settings

    settings = load_settings(file)
    for renamed in settings.renamed:
        warn_of_settings(file, str(renamed))
    return settings


def existing_catalog(settings: Settings) -> Catalog:
    """The node's catalogue as it is: looking at it makes nothing."""
    from dicom_node.catalog.database import Catalog, open_existing
    from dicom_node.catalog.database_url import is_sqlite, sqlite_file

    url = settings.node.catalog_url
    if not is_sqlite(url):
        return Catalog(url)
    file = sqlite_file(url)
    if not file.exists():
        raise CatalogError(NEVER_STARTED, database=file)
    return open_existing(file)


def catalog_to_read(settings: Path, database: Path | None) -> Catalog:
    """The node's own catalogue, or the copy in an SQLite file, which is never changed."""
    from dicom_node.catalog.database import open_copy

    return open_copy(database) if database is not None else existing_catalog(load_with_warnings(settings))
