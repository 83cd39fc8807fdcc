"""What every test may ask for: the shared data, the real series unpacked once, one number of threads."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # `tests.builders` and `tests.thirdparty` are imported by name under --import-mode=importlib.
    sys.path.insert(0, str(ROOT))

from tests.builders.intake import Intake  # noqa: E402
from tests.thirdparty import missing  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def threads() -> int:
    """The threads of the numeric libraries in this process: DISSM_TEST_THREADS, else every core, at most two."""
    import torch

    count = int(os.environ.get("DISSM_TEST_THREADS", min(2, os.cpu_count() or 1)))
    torch.set_num_threads(count)
    return count


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that is not part of the repository (real CTs, liver surfaces)."""
    folder = Path(os.environ.get("DISSM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        missing("shared data: no such folder beside the checkout; set DISSM_TEST_DATA")
    return folder


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    """The receiving half of a node, without processes: catalogue, spool, settings."""
    opened = Intake(tmp_path / "node")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def hcc_048(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the 89 slices of the venous series; read only by agreement."""
    return _unpacked(shared_data / "hcc_048.tar.xz", tmp_path_factory.mktemp("hcc_048"))


@pytest.fixture(scope="session")
def hcc_002(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the 218 slices of two phases under one series UID; read only by agreement."""
    return _unpacked(shared_data / "hcc_002_two_phases.tar.xz", tmp_path_factory.mktemp("hcc_002"))


def _unpacked(archive: Path, folder: Path) -> Path:
    if not archive.is_file():
        missing(f"shared data: {archive.name} is missing")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder
