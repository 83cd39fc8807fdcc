"""Writes the table of every reason into a document, from the reasons themselves.

python docs/reasons_table.py docs/operations.md [--check]: with --check nothing is written and the exit code says
whether the document is current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from dicom_node import reasons
from dissm_engine import errors
from dissm_engine.errors import Reason

BEGIN, END = "<!-- reasons: begin -->", "<!-- reasons: end -->"


def all_reasons() -> list[Reason]:
    """The node's reasons in the order of their declaration, then the engine's that may reach the audit."""
    declared = [*_declared_in(vars(reasons).values()), *_declared_in(vars(errors).values())]
    return list({reason.code: reason for reason in declared}.values())


def _declared_in(values: Iterable[object]) -> list[Reason]:
    return [value for value in values if isinstance(value, Reason)]


def table() -> str:
    """The reasons as a table in Markdown."""
    rows = [f"| `{reason.code}` | {_cell(reason.sentence)} | {_cell(reason.cure)} |" for reason in all_reasons()]
    return "\n".join(["| code | what was found | what to do |", "| --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def updated(document: str) -> str:
    """The document with the table between its two marks. Raises ValueError where it has none."""
    before, _, rest = document.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the document has no place for the table: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main() -> int:
    """The script's entry."""
    file = Path(sys.argv[1])
    before = file.read_text(encoding="utf-8")
    after = updated(before)
    if "--check" in sys.argv:
        return int(before != after)
    file.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
