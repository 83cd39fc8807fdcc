"""`dissm-node export`: results as files of other formats, and CTs with annotations as training pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dicom_node.cli import console

PAIRS = "pairs"
DatabaseFile = Annotated[
    Path | None, typer.Option("--database", help="The audit.sqlite that `process` left, instead of the node's own.")
]


def export(
    what: Annotated[str, typer.Argument(metavar="CASE|pairs", help="A case, or the word pairs and a folder.")],
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="For pairs: CTs with SEG or RTSTRUCT.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the files go.")] = Path("export"),
    wanted: Annotated[
        Literal["stl", "ply", "nifti", "nrrd", "png"], typer.Option("--format", help="Of a case's result.")
    ] = "nifti",
    label: Annotated[
        list[str] | None, typer.Option(help="For pairs: the name of a segment or region; several make a union.")
    ] = None,
    settings: Annotated[Path, typer.Option("--settings", help="The settings file.")] = Path("settings.toml"),
    database: DatabaseFile = None,
) -> None:
    """Export a case's result (LPS mm; NIfTI is RAS), or pairs of CT and liver mask for training."""
    if what == PAIRS:
        if folder is None:
            raise typer.BadParameter("name the folder: dissm-node export pairs DIR", param_hint="DIR")
        raise typer.Exit(_export_pairs(folder, out, label or []))
    if folder is not None:
        raise typer.BadParameter("only pairs take a folder", param_hint="DIR")
    _export_case(what, wanted, out, settings, database)


def _export_case(case_id: str, wanted: str, out: Path, settings: Path, database: Path | None) -> None:
    from dicom_node.cli.app import _catalog, _load_settings
    from dicom_node.export.case_export import ExportFormat, export_case

    spool = database.parent / "spool" if database is not None else _load_settings(settings).node.spool
    with _catalog(settings, database).read() as view:
        for file in export_case(view, spool, case_id, ExportFormat(wanted), out):
            console.OUTPUT.print(str(file))


def _export_pairs(folder: Path, out: Path, labels: list[str]) -> int:
    """The exit code: 1 where an annotation could not be exported."""
    from dicom_node.export.pairs import export_pairs

    failed = 0
    for pair in export_pairs(folder, out, labels):
        failed += pair.refusal is not None
        console.OUTPUT.print(f"{pair.name}: {pair.said}")
    return 1 if failed else 0
