"""Programs from outside Python that tests judge our results by."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def need(program: str) -> Path:
    """The program's path, from PATH or beside this Python. Missing: the test skips by name; in CI it fails.

    PATH comes first, without this Python's own folder: pynetdicom installs programs there under DCMTK's names.
    """
    own = Path(sys.executable).parent
    others = [folder for folder in os.get_exec_path() if Path(folder) != own]
    found = shutil.which(program, path=os.pathsep.join(others)) or shutil.which(program, path=str(own))
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
