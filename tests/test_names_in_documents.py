"""Every setting, option, module and file that a document names is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest
from typer.main import get_command

from dicom_node.cli.app import app as node_app
from dicom_node.reasons import ALL_REASONS
from dicom_node.settings import Destination, Settings
from dicom_node.settings_section import Section
from training.cli import app as training_app

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dicom_node", "dissm_engine", "dissm_phantom", "training")
TOLD_AS_AN_EXAMPLE = {
    *("dicom_node/results/rtstruct.py", "dicom_node/results/rtstruct_reader.py", "training/evaluate/offset_stage.py"),
    "site/index.html",
}
"""Files that a reader would make."""
DOCUMENTS = sorted(
    file
    for file in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md"))
    # What came with earlier versions is told by the names of then.
    if file.name != "CHANGELOG.md"
)


def sections() -> dict[str, type[Section]]:
    """The tables of settings.toml."""
    tables = {name: field.annotation for name, field in Settings.model_fields.items() if name != "destinations"}
    return {name: table for name, table in tables.items() if isinstance(table, type)} | {"destinations": Destination}


def settings_named_in(text: str) -> set[tuple[str, str]]:
    """Pairs of table and key, as in `listen.port`."""
    return set(re.findall(rf"(?<![\w.\]/-])({'|'.join(sections())})\.([a-z]\w+)(?![\w/(.])", text)) - {
        ("results", "py"),
        ("admit", "rules"),
    }


def unknown(keys: set[tuple[str, str]]) -> set[str]:
    tables = sections()
    return {
        f"{table}.{key}"
        for table, key in keys
        if key not in tables[table].model_fields and key not in tables[table].renamed_keys
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_setting_that_a_document_names_is_a_setting(document: Path) -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8")))
    assert not unknown(settings_named_in(code))


def test_every_setting_that_a_reason_names_is_a_setting() -> None:
    texts = [f"{reason.sentence} {reason.cure}" for reason in ALL_REASONS.values()]
    named = set().union(*map(settings_named_in, texts))
    assert len(named) > 8
    assert not unknown(named)


def test_the_changelog_lists_every_renamed_setting() -> None:
    rows = re.findall(r"\| `([a-z_.]+)` \| `([a-z_.]+)` \|", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    renamed = {
        (f"{table}.{old}", f"{table}.{new}")
        for table, section in sections().items()
        for old, new in section.renamed_keys.items()
    }
    assert renamed
    assert set(rows) == renamed


def options_of(program: click.Command) -> dict[str, set[str]]:
    """The options of each command; those of a group's commands together."""
    commands: Mapping[str, click.Command] = getattr(program, "commands", {})
    own = {name for one in program.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    found = {name: set().union(*options_of(command).values()) | own for name, command in commands.items()}
    return found or {"": own}


PROGRAMS = {"dissm-node": options_of(get_command(node_app)), "dissm-train": options_of(get_command(training_app))}


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "settings.toml"], ids=lambda file: str(file.relative_to(ROOT)))
def test_every_option_that_a_document_names_is_an_option_of_that_command(document: Path) -> None:
    wrong = []
    for program, command, words in re.findall(
        r"(dissm-(?:node|train))(?: ([a-z]+))?([^`\n]*)", document.read_text(encoding="utf-8")
    ):
        known = PROGRAMS[program]
        if command not in known:
            known = {command: set().union(*known.values())}
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", words.partition("  #")[0]):
            if option not in known[command]:
                wrong.append(f"{program} {command} {option}")
    assert not wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_module_and_name_in_it_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    dotted = re.findall(rf"(?<![\w./-])((?:{'|'.join(PACKAGES)})(?:\.\w+)+)", text)
    imports = [
        f"{module}.{name.strip()}"
        for module, names in re.findall(rf"from ((?:{'|'.join(PACKAGES)})[\w.]*) import ([\w, ]+)", text)
        for name in names.split(",")
    ]
    assert not [name for name in (*dotted, *imports) if not is_there(name)]


def is_there(dotted: str) -> bool:
    """Whether a dotted name is a package, a module, or something that a module of the project binds."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:length])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.exists():
                return length == len(parts) or parts[length] in set(names_bound_in(file))
    return False


def names_bound_in(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_that_a_document_names_by_its_path_is_there(document: Path) -> None:
    folders = (*PACKAGES, "tests", "docs", "deploy", "examples", "bench", "site")
    named = re.findall(rf"`((?:{'|'.join(folders)})/[\w./-]*\w)/?`", document.read_text(encoding="utf-8"))
    assert not [path for path in named if not (ROOT / path).exists() and path not in TOLD_AS_AN_EXAMPLE]
