"""What `dissm-node probe` prints."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.deliver.probe import ProbedDestination, ProbedKind

_ANSWERS = {True: ("yes", "green"), False: ("no", "red"), None: ("cannot be asked", "yellow")}


def print_probed(console: Console, found: ProbedDestination) -> None:
    """A table of one destination, and what to write in settings.toml."""
    console.print(Text(f"{found.name} ({'DICOMweb' if found.by_web else 'C-STORE'})", "bold"))
    if found.problem is not None:
        console.print(Text(f"  {found.problem}", "red"))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("object", "is to get", "accepts", "also in"):
        table.add_column(column, overflow="fold")
    for one in found.kinds:
        wanted = Text("yes" if one.wanted else "")
        table.add_row(Text(one.kind.value), wanted, _answer(one), Text(", ".join(one.other_syntaxes)))
    console.print(table)
    if found.by_web:
        console.print("it answers; what it does not store is told by dissm-node show once it was sent")
    elif found.proposal:
        names = ", ".join(f'"{name}"' for name in found.proposal)
        console.out(f"everything it accepts: objects = [{names}]", highlight=False)
    else:
        console.print("it accepts nothing of what the node makes")


def _answer(one: ProbedKind) -> Text:
    word, colour = _ANSWERS[one.accepted]
    return Text(f"{word} ({one.why_not})" if one.why_not else word, colour)
