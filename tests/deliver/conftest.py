from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.catalog.database import Catalog, open_catalog
from dicom_node.catalog.database_url import sqlite_url


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = open_catalog(sqlite_url(tmp_path / "node.sqlite"))
    yield opened
    opened.close()
