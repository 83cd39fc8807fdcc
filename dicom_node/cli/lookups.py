"""Commands that find cases and series and tell about them.

What a person looks a study up by is compared as a keyed digest, written nowhere and logged nowhere. Given as `-` it is
asked for without being shown, so that neither the shell's history nor the list of processes holds it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli import console
from dicom_node.cli.opening import (
    DEFAULT_SETTINGS,
    DatabaseFile,
    Json,
    SettingsFile,
    catalog_to_read,
    load_with_warnings,
)
from dicom_node.reasons import NO_LOOKUP_KEY, NOTHING_LOOKED_UP, NodeError

if TYPE_CHECKING:
    from dicom_node.catalog.lookup import LookedUp
    from dicom_node.catalog.lookup_key import LookupKey

Newest = Annotated[int, typer.Option(min=1, help="How many.")]
Accession = Annotated[str | None, typer.Option("--accession", help="An accession number; - asks for it, hidden.")]
Patient = Annotated[str | None, typer.Option("--patient", help="A patient id; - asks for it, hidden.")]
Study = Annotated[str | None, typer.Option("--study", help="A StudyInstanceUID.")]
Since = Annotated[datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="Received on this day or later.")]
Until = Annotated[datetime | None, typer.Option("--until", formats=["%Y-%m-%d"], help="Received on this day at most.")]


def cases(
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    newest: Newest = 50,
    accession: Accession = None,
    patient: Patient = None,
    study: Study = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """List the newest cases, or those of a study, patient or time."""
    from dicom_node.catalog.histories import newest_cases

    asked = _asked(settings, database, accession, patient, study, since, until)
    with catalog_to_read(settings, database).read() as view:
        found = newest_cases(view, newest, asked)
    if as_json:
        console.print_json(console.OUTPUT, [case.to_json() for case in found])
    else:
        console.print_cases(console.OUTPUT, found)


def show(
    case: Annotated[str | None, typer.Argument(metavar="CASE")] = None,
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    accession: Accession = None,
    patient: Patient = None,
    study: Study = None,
    as_json: Json = False,
) -> None:
    """Tell the whole history of one case. Where a study has several, they are listed."""
    from dicom_node.catalog.histories import case_history, newest_cases

    with catalog_to_read(settings, database).read() as view:
        if case is None:
            asked = _asked(settings, database, accession, patient, study, None, None)
            if not asked.anything:
                raise NodeError(NOTHING_LOOKED_UP, kind="case", command="show")
            found = newest_cases(view, None, asked)
            if len(found) != 1:
                console.print_cases(console.OUTPUT, found)
                raise typer.Exit(1 if not found else 0)
            case = found[0].id
        history = case_history(view, case)
    console.print_json(console.OUTPUT, history.to_json()) if as_json else console.print_case(console.OUTPUT, history)


def series(
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    newest: Newest = 50,
    accession: Accession = None,
    patient: Patient = None,
    study: Study = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """List the newest series with time, images, sender and description; `explain` takes their UIDs."""
    from dicom_node.catalog.histories import images_to_describe, newest_series
    from dicom_node.watch.descriptions import series_descriptions

    asked = _asked(settings, database, accession, patient, study, since, until)
    with catalog_to_read(settings, database).read() as view:
        found = newest_series(view, newest, asked)
        paths = images_to_describe(view, found)
    descriptions = {} if database else series_descriptions(load_with_warnings(settings).node.spool, paths)
    if as_json:
        rows = [{**one.to_json(), "description": descriptions.get(one.series_instance_uid)} for one in found]
        console.print_json(console.OUTPUT, rows)
    else:
        console.print_series_lines(console.OUTPUT, found, descriptions)


def explain(
    series: Annotated[str | None, typer.Argument(metavar="SERIES", help="A SeriesInstanceUID.")] = None,
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    accession: Accession = None,
    patient: Patient = None,
    study: Study = None,
    as_json: Json = False,
) -> None:
    """Say rule by rule why a series was admitted or refused; or every series of a study."""
    from dicom_node.catalog.histories import newest_series, series_history

    with catalog_to_read(settings, database).read() as view:
        if series is not None:
            uids = [series]
        else:
            asked = _asked(settings, database, accession, patient, study, None, None)
            if not asked.anything:
                raise NodeError(NOTHING_LOOKED_UP, kind="series", command="explain")
            uids = [one.series_instance_uid for one in newest_series(view, None, asked)]
        histories = [series_history(view, uid) for uid in uids]
    if as_json:
        told = [history.to_json() for history in histories]
        console.print_json(console.OUTPUT, told[0] if series is not None else told)
    else:
        for history in histories:
            console.print_series(console.OUTPUT, history)
    if not histories:
        console.print_series_lines(console.OUTPUT, [])
        raise typer.Exit(1)


def add_commands(app: typer.Typer) -> None:
    """Make them commands of `dissm-node`."""
    for command in (cases, show, series, explain):
        app.command()(command)


def _asked(
    settings: Path,
    database: Path | None,
    accession: str | None,
    patient: str | None,
    study: str | None,
    since: datetime | None,
    until: datetime | None,
) -> LookedUp:
    from dicom_node.catalog.lookup import LookedUp
    from dicom_node.catalog.lookup_key import LookupKind

    key = _key(settings, database) if accession is not None or patient is not None else None
    return LookedUp(
        accession_digest=key.digest(LookupKind.ACCESSION, _text(accession)) if key and accession else None,
        patient_digest=key.digest(LookupKind.PATIENT, _text(patient)) if key and patient else None,
        study_instance_uid=study,
        since=since.date() if since else None,
        until=until.date() if until else None,
    )


def _key(settings: Path, database: Path | None) -> LookupKey:
    """The node's own key. Raises NodeError(NO_LOOKUP_KEY): a copy of the database comes without it."""
    from dicom_node.catalog.lookup_key import KEY_NAME, LookupKey

    folder = load_with_warnings(settings).node.data_folder if database is None else database.parent
    key = LookupKey.existing(folder)
    if key is None:
        raise NodeError(NO_LOOKUP_KEY, file=folder / KEY_NAME)
    return key


def _text(given: str) -> str:
    return typer.prompt("looked up by", hide_input=True) if given == "-" else given
