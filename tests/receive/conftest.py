"""A node with a running listener."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.intake import Intake, running_listener


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Intake]:
    opened = Intake(tmp_path / "node")
    with running_listener(opened.settings, opened.catalog):
        yield opened
    opened.close()
