"""The documentation site is built without a warning, and a reader's browser asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "link": "href",
    "source": "src",
    "video": "src",
    "embed": "src",
}


class Page(HTMLParser):
    """What a page loads by itself, and the classes of its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        if LOADED.get(tag) in given and given.get("rel") not in {"canonical", "next", "prev"}:
            self.loads.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        found = Page(page.read_text(encoding="utf-8"))
        outside = [target for target in found.loads if re.match(r"(https?:)?//", target)]
        assert not outside, f"{page.relative_to(site)} loads {outside}"
        # The theme would fetch the script that draws such a diagram.
        assert "mermaid" not in found.classes, page.relative_to(site)
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s+)[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), (
            style.name
        )


@pytest.mark.slow
def test_the_site_holds_what_the_program_knows_of_itself(site: Path) -> None:
    def text(name: str) -> str:
        return re.sub(r"<[^>]+>", "", (site / name).read_text(encoding="utf-8"))

    assert "dissm-node audit verify" in text("reference/commands.html")
    assert "dissm-train evaluate" in text("reference/commands.html")
    assert "{address} cannot be listened on: {problem}" in text("reference/reasons.html")
    assert "data_folder" in text("reference/settings.html")
    assert "Raises" in text("reference/engine.html")
    assert "[[destinations]]" in text("reference/settings.html")
    for page, example in (
        ("compare-bundles", "compare_bundles"),
        ("delineate-a-folder", "delineate_folder"),
        ("read-the-results", "read_result"),
    ):
        assert f"python examples/{example}.py" in text(f"how-to/{page}.html")
        assert "def main(" in text(f"how-to/{page}.html")
    assert (site / "pictures" / "latent.png").exists()
