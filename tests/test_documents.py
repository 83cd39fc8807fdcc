"""What the documents say of the program is what the program says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from dicom_node.cli.app import app

ROOT = Path(__file__).resolve().parent.parent


def test_the_table_of_reasons_is_current() -> None:
    check = [sys.executable, "docs/reasons_table.py", "docs/operations.md", "--check"]
    assert subprocess.run(check, cwd=ROOT, check=False).returncode == 0, "run `make docs`"


def test_every_command_that_the_documents_name_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for document in (ROOT / "README.md", ROOT / "docs" / "operations.md"):
        named = set(re.findall(r"`(?:\.venv/bin/)?dissm-node ([a-z]+)", document.read_text(encoding="utf-8")))
        assert named, f"{document.name} names no command"
        assert named <= known, document.name


def test_every_link_to_a_file_of_the_project_leads_somewhere() -> None:
    broken = []
    for document in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            if not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert not broken
