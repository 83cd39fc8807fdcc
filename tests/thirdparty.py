"""Programs from outside Python that tests judge our results by."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def need(program: str) -> Path:
    """The program's path, from PATH or beside this Python. Missing: the test skips by name; in CI it fails."""
    beside = Path(sys.executable).parent / program
    found = shutil.which(program) or (str(beside) if os.access(beside, os.X_OK) else None)
    if found is None:
        missing(f"{program} is not installed")
    return Path(found)


def need_file(path: Path, package: str) -> Path:
    """A file of a Debian package, for example a header of a library. Missing: as `need`."""
    if not path.exists():
        missing(f"{package} is not installed ({path.name} is missing)")
    return path


def missing(what: str) -> None:
    """Skip by name on a laptop, fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
