"""Draws the diagram of ARCHITECTURE.md as the picture that the documentation site shows.

python docs/draw_diagram.py [--mmdc COMMAND]. Needs mermaid-cli (npm: @mermaid-js/mermaid-cli) and a browser for it.
The picture holds the digest of the diagram's text, so that a test sees when one was changed without the other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "ARCHITECTURE.md"
PICTURE = ROOT / "docs" / "pictures" / "way_of_a_ct.svg"
DIAGRAM = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
_LOOK = {"theme": "neutral", "htmlLabels": False, "flowchart": {"htmlLabels": False}, "fontFamily": "sans-serif"}


def diagram_text() -> str:
    """The mermaid text of ARCHITECTURE.md. Raises ValueError where there is none."""
    found = DIAGRAM.search(SOURCE.read_text(encoding="utf-8"))
    if found is None:
        raise ValueError("ARCHITECTURE.md holds no diagram")
    return found[1]


def digest_comment() -> str:
    """What the picture of the present text holds: a comment with the text's SHA-256."""
    return f"<!-- diagram sha256 {hashlib.sha256(diagram_text().encode()).hexdigest()} -->"


def drawn(command: list[str]) -> str:
    """The SVG by mermaid-cli, its coordinates rounded to a tenth of a pixel."""
    with tempfile.TemporaryDirectory() as folder:
        text, look, picture = (Path(folder, name) for name in ("way.mmd", "look.json", "way.svg"))
        text.write_text(diagram_text(), encoding="utf-8")
        look.write_text(json.dumps(_LOOK), encoding="utf-8")
        subprocess.run([*command, "-q", "-c", look, "-i", text, "-o", picture, "-b", "white"], check=True)
        return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", picture.read_text(encoding="utf-8"))


def main() -> None:
    """The script's entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmdc", default="mmdc", help="how mermaid-cli is called, with its options")
    PICTURE.write_text(drawn(shlex.split(parser.parse_args().mmdc)) + digest_comment() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
