"""What the documents say of the program is what the program says."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from dicom_node.cli.app import app
from dicom_node.reasons import LOSSY_SOURCE, SERIES_INCOMPLETE
from dissm_engine import statements
from dissm_engine.statements import statement

ROOT = Path(__file__).resolve().parent.parent


def test_the_table_of_reasons_is_current() -> None:
    check = [sys.executable, "docs/reasons_table.py", "docs/operations.md", "--check"]
    assert subprocess.run(check, cwd=ROOT, check=False).returncode == 0, "run `make docs`"


@pytest.mark.slow
def test_the_conformance_statement_says_what_the_program_does() -> None:
    check = [sys.executable, "docs/conformance_tables.py", "docs/conformance.md", "--check"]
    assert subprocess.run(check, cwd=ROOT, check=False).returncode == 0, "run `make docs`"


SAID = {
    **{"shape_distance": 4.2, "max_loading": 3.6, "pose_error": 25, "start_spread": 30, "change_mean": 6.0},
    **{"change_p95": 18, "at_rho_share": 0.06, "last_move": 2.5, "total_move": 20, "edgeless_share": 0.55},
    **{"tissue_agreement": 0.7, "tissue_dsc": 0.8, "left_out": 90, "taken_in": 60, "mass_like": 40, "mass_hu": -50},
    **{"liver_hu_sd": 45, "liver_hu": 60, "volume": 400, "cut_share": 0.019, "odd_tissues": 3},
}
"""The findings that the page on the intended use gives as examples."""


def test_every_sentence_that_a_result_may_hold_is_told_to_radiologists() -> None:
    page = (ROOT / "docs" / "intended-use.md").read_text(encoding="utf-8")
    sentences = {name: statement(name, SAID) for name in statements._STATEMENTS}
    sentences["mass_hu"] = statement("mass_hu", SAID | {"mass_hu": -40})
    for reason in (SERIES_INCOMPLETE, LOSSY_SOURCE):
        sentences[reason.code] = reason.say()
    assert not [sentence for sentence in sentences.values() if f"`{sentence}`" not in page]


def test_every_command_that_the_documents_name_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for document in (ROOT / "README.md", ROOT / "docs" / "operations.md"):
        named = set(re.findall(r"`(?:\.venv/bin/)?dissm-node ([a-z]+)", document.read_text(encoding="utf-8")))
        assert named, f"{document.name} names no command"
        assert named <= known, document.name


def test_every_link_to_a_file_of_the_project_leads_somewhere() -> None:
    broken = []
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            if not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert not broken


def test_the_architecture_is_a_map_of_at_most_120_lines() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_every_decision_has_its_number_once_its_four_parts_and_a_line_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(folder.glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text(encoding="utf-8")
        parts = re.findall(r"^## (.+)$", text, re.M)
        assert parts == ["Context", "Decision", "Consequences", "What would change our mind"], record.name
        title = re.match(rf"# {int(record.name[:4])}\. (.+)\n\nStatus: ", text)
        assert title, f"{record.name} does not begin with its number, a title and a status"
        assert f"[{int(record.name[:4])}. {title[1]}]({record.name})" in index, record.name


def test_the_picture_of_the_architecture_shows_the_diagram_of_its_text() -> None:
    text = re.search(r"```mermaid\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None
    picture = (ROOT / "docs" / "pictures" / "way_of_a_ct.svg").read_text(encoding="utf-8")
    assert hashlib.sha256(text[1].encode()).hexdigest() in picture, "run docs/draw_diagram.py"


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["title"], str(citation["version"]), citation["license"]) == (
        project["name"],
        project["version"],
        project["license"],
    )
    (paper,) = citation["references"]
    assert paper["authors"][0]["family-names"] == "Raju"


def test_every_hook_calls_what_is_installed_here_and_downloads_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "pygrep" or hook["entry"].startswith(".venv/bin/"), hook["id"]


def test_what_contributors_are_told_to_run_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"(?:^\$ |`)make ([a-z-]+)", text, re.M))
    assert named
    assert named <= targets


def test_every_file_that_the_map_and_the_guide_name_is_there() -> None:
    packages = ("dicom_node", "dissm_engine", "dissm_phantom", "training")
    missing = []
    for name in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        room = ""
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            heading = re.match(r"\| `(\w+)/` \| \|", line)
            room = heading[1] if heading else room if line.startswith("|") else ""
            for path in re.findall(r"`((?:\w+/)*\w+(?:\.py|/))`", line):
                if any(other in path for other in ("rtstruct", "offset_stage", "utils.py")):
                    continue
                places = [ROOT / path, ROOT / room / path, *(ROOT / package / path for package in packages)]
                if not any(place.exists() for place in places) and not list((ROOT / "tests").rglob(path)):
                    missing.append(f"{name}: {path}")
    assert not missing
