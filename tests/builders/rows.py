"""The tables themselves, for tests that look behind the catalogue's own queries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from dicom_node.catalog.database import Catalog


@contextmanager
def rows(catalog: Catalog) -> Iterator[Session]:
    """A session that reads."""
    with catalog.read() as view:
        yield view.session


@contextmanager
def changed_rows(catalog: Catalog) -> Iterator[Session]:
    """A session whose changes are committed at the end."""
    with catalog.writing() as session:
        yield session
