"""What the documentation site takes from outside of docs/: files of the root, tables of the program, pictures.

A page says `<!-- include: README.md -->` to take in a file of the repository, or `<!-- generated: reasons -->` for a
part that the program itself knows. A link to a file that a page takes in leads to that page. A picture from elsewhere
in the repository is copied. Any other file of it is named without a link, since the site does not hold it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click
from typer.main import get_command

from dicom_node.cli.app import app as node_app
from training.cli import app as train_app

sys.path.insert(0, str(Path(__file__).parent))
from reasons_table import table

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
INCLUDE = re.compile(r"<!-- include: (\S+) -->")
GENERATED = re.compile(r"<!-- generated: (\S+) -->")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
DIAGRAM = re.compile(r"```mermaid\n.*?```", re.DOTALL)
PICTURE = "![the way of a CT](docs/pictures/way_of_a_ct.svg)"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures that lie outside of docs/."""
    for page in DOCS.rglob("*.md"):
        for source in (page, *_included_in(page)):
            for mark, _, target, _ in LINK.findall(source.read_text(encoding="utf-8")):
                picture = (source.parent / target).resolve()
                place = _place_of(picture)
                if mark and place is not None and not picture.is_relative_to(DOCS):
                    files.append(File.generated(config, place.as_posix(), content=picture.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill the page's marks in, and turn its links into links of the site."""
    own = DOCS / page.file.src_uri
    text = _relinked(markdown, own, own)
    text = INCLUDE.sub(lambda mark: _relinked(_body(ROOT / mark[1]), ROOT / mark[1], own), text)
    return GENERATED.sub(lambda mark: _PARTS[mark[1]](), text)


def _body(file: Path) -> str:
    """A file of the repository, its diagram replaced by the picture of it."""
    return DIAGRAM.sub(PICTURE, file.read_text(encoding="utf-8"))


def _relinked(text: str, source: Path, page: Path) -> str:
    """The text of `source` with links that hold on `page`."""

    def link(found: re.Match[str]) -> str:
        mark, words, target, anchor = found.groups(default="")
        place = _place_of((source.parent / target).resolve())
        if place is None:
            return words
        return f"{mark}[{words}]({os.path.relpath(DOCS / place, page.parent)}{anchor})"

    return LINK.sub(link, text)


def _place_of(file: Path) -> Path | None:
    """Where the site has a file of the repository, relative to docs/; None where it has not."""
    if file in _includers():
        return _includers()[file].relative_to(DOCS)
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS)
    return Path("pictures", file.name) if file.suffix in {".png", ".svg"} else None


@cache
def _includers() -> Mapping[Path, Path]:
    """The page that takes in each file of the repository."""
    return {file: page for page in DOCS.rglob("*.md") for file in _included_in(page)}


def _included_in(page: Path) -> list[Path]:
    return [ROOT / name for name in INCLUDE.findall(page.read_text(encoding="utf-8"))]


def _commands(app: typer.Typer, name: str) -> str:
    """Every command of a program with its help, one heading below those of the page."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name=name), name=name)
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


_PARTS: Mapping[str, Callable[[], str]] = {
    "node-commands": lambda: _commands(node_app, "dissm-node"),
    "train-commands": lambda: _commands(train_app, "dissm-train"),
    "reasons": table,
}
