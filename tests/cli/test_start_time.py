"""`dissm-node --help` loads nothing that only a command needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "pydicom", "highdicom", "pynetdicom", "sqlalchemy", "alembic", "pydantic", "structlog")


@pytest.mark.parametrize(
    "action",
    [
        "import dicom_node.cli.app",
        "import sys; sys.argv = ['dissm-node', '--help']; import dicom_node.cli.app as a; a.main()",
    ],
    ids=["the module", "--help"],
)
def test_neither_dicom_nor_database_nor_engine_is_loaded(action: str) -> None:
    program = f"import atexit, sys; atexit.register(lambda: print('LOADED', *sys.modules)); {action}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    loaded = done.stdout.partition("LOADED")[2].split()
    assert "dicom_node.cli.app" in loaded
    assert not [name for name in HEAVY if name in loaded]
