"""`dissm-node`: every command of the node.

What a command needs is imported when it runs: `--help` and a mistyped word are answered without the database, DICOM or
the engine being loaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dicom_node.cli import console
from dicom_node.cli.export_command import export
from dicom_node.reasons import AUDIT_BROKEN, FILE_UNUSABLE, NEVER_STARTED, CatalogError, NodeError
from dissm_engine.errors import DissmError

if TYPE_CHECKING:
    from dicom_node.catalog.database import Catalog
    from dicom_node.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A DICOM node that delineates the liver in venous-phase CT and sends back SEG and Surface Segmentation.",
)
audit_app = typer.Typer(no_args_is_help=True, help="The audit log: list, prove, hand over.")
app.add_typer(audit_app, name="audit")
app.command()(export)

SettingsFile = Annotated[Path, typer.Option("--settings", help="The settings file.")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
DatabaseFile = Annotated[Path | None, typer.Option("--database", help="An SQLite file instead of the node's own.")]
DEFAULT_SETTINGS = Path("settings.toml")


def _say_version(asked: bool) -> None:
    if asked:
        from dicom_node.values.equipment import SOFTWARE_VERSION

        print(f"dissm-node {SOFTWARE_VERSION}")
        raise typer.Exit()


@app.callback()
def _all_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry of the command: an error with a reason is one line on standard error and exit code 2."""
    try:
        app()
    except (DissmError, OSError, json.JSONDecodeError) as problem:
        print(f"dissm-node: {_in_one_line(problem)}", file=sys.stderr)
        sys.exit(2)


def _in_one_line(problem: Exception) -> str:
    if isinstance(problem, OSError):
        file, said = problem.filename or "a file or connection", problem.strerror or type(problem).__name__
        return str(NodeError(FILE_UNUSABLE, file=file, problem=said))
    if isinstance(problem, json.JSONDecodeError):
        # All JSON that a command reads is a column of the database, written by nobody but the node.
        return str(CatalogError(AUDIT_BROKEN, problem="the facts of a row are no JSON"))
    return str(problem)


@app.command()
def start(
    settings: SettingsFile = DEFAULT_SETTINGS,
    role: Annotated[Literal["all", "worker"], typer.Option(help="worker: only delineate, on a further host.")] = "all",
) -> None:
    """Run the node: listener, control and workers, until SIGTERM or Ctrl-C."""
    from dicom_node.processes.supervisor import run_node

    run_node(_load_settings(settings), role)


@app.command()
def check(
    settings: SettingsFile = DEFAULT_SETTINGS,
    echo: Annotated[bool, typer.Option("--echo/--no-echo", help="Ask every destination by C-ECHO.")] = True,
    as_json: Json = False,
) -> None:
    """Say whether the node would work with these settings, and what is wrong. Exit code 1 if something is."""
    from dicom_node.cli.check import check_all
    from dicom_node.settings import load_settings

    findings = []
    for checked in check_all(load_settings(settings), echo=echo):
        findings.append(checked)
        if not as_json:
            console.print_checked(console.OUTPUT, checked)
    if as_json:
        console.print_json(
            console.OUTPUT, [{"what": each.what, "good": each.good, "said": each.said} for each in findings]
        )
    raise typer.Exit(1 if any(each.good is False for each in findings) else 0)


@app.command()
def process(
    inputs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders, .tar or .tar.xz of DICOM files.")],
    out: Annotated[Path, typer.Option("--out", help="Where the audit and the objects go.")],
    settings: Annotated[Path | None, typer.Option("--settings", help="The settings file.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Cases at the same time.")] = 1,
    profile: Annotated[str | None, typer.Option(help="Objects or profiles to make, with commas between.")] = None,
    as_json: Json = False,
) -> None:
    """Do with folders what the node does with what it receives: eligibility, engine, objects, proof, audit."""
    from dicom_node.processes.logs import configure_logs
    from dicom_node.processes.offline import process_folders
    from dicom_node.processes.worker_process import load_engine

    chosen = _load_settings(settings) if settings else _default_settings()
    if profile is not None:
        chosen = _with_profile(chosen, profile)
    configure_logs("warning", "process")
    # Before the display, whose lines would be mixed with the error.
    out.mkdir(parents=True, exist_ok=True)
    with console.case_progress(console.ERRORS) as watch:
        report = process_folders(inputs, out, chosen, load=load_engine, jobs=jobs, watch=watch)
    if as_json:
        console.print_json(console.OUTPUT, report.to_json())
    else:
        console.print_offline(console.OUTPUT, report, out)
    raise typer.Exit(report.exit_code)


@app.command()
def demo(
    given: Annotated[Path | None, typer.Option("--input", help="A folder, .tar or .tar.xz of DICOM files.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the picture and the objects go.")] = Path("demo-output"),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the node's own folder.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the synthetic CT.")] = 1,
) -> None:
    """Start a node and an archive on this machine, send a CT, and show what comes back."""
    from dicom_node.demo import run_demo

    raise typer.Exit(run_demo(given, out, keep=keep, seed=seed, console=console.OUTPUT))


@app.command()
def cases(
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    newest: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """List the newest cases."""
    from dicom_node.catalog.histories import newest_cases

    with _catalog(settings, database).read() as view:
        found = newest_cases(view, newest)
    if as_json:
        console.print_json(console.OUTPUT, [case.to_json() for case in found])
    else:
        console.print_cases(console.OUTPUT, found)


@app.command(name="show")
def show_case(
    case: str, settings: SettingsFile = DEFAULT_SETTINGS, database: DatabaseFile = None, as_json: Json = False
) -> None:
    """Tell the whole history of one case."""
    from dicom_node.catalog.histories import case_history

    with _catalog(settings, database).read() as view:
        history = case_history(view, case)
    console.print_json(console.OUTPUT, history.to_json()) if as_json else console.print_case(console.OUTPUT, history)


@app.command()
def series(
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    newest: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """List the newest series, admitted and refused; `explain` takes their UIDs."""
    from dicom_node.catalog.histories import newest_series

    with _catalog(settings, database).read() as view:
        found = newest_series(view, newest)
    if as_json:
        console.print_json(console.OUTPUT, [one.to_json() for one in found])
    else:
        console.print_series_lines(console.OUTPUT, found)


@app.command()
def explain(
    series: Annotated[str, typer.Argument(metavar="SERIES", help="A SeriesInstanceUID.")],
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    as_json: Json = False,
) -> None:
    """Say rule by rule why a series was admitted or refused."""
    from dicom_node.catalog.histories import series_history

    with _catalog(settings, database).read() as view:
        history = series_history(view, series)
    console.print_json(console.OUTPUT, history.to_json()) if as_json else console.print_series(console.OUTPUT, history)


@app.command()
def retry(
    name: Annotated[str, typer.Argument(metavar="CASE|SERIES")], settings: SettingsFile = DEFAULT_SETTINGS
) -> None:
    """Queue a case again that was refused, held, parked or failed, or decide a refused series again.

    A series is named by its SeriesInstanceUID: of use after a setting was changed that its refusal named.
    """
    from dicom_node.catalog.intake import retry_series
    from dicom_node.catalog.leases import retry_case

    recorder = _existing(_load_settings(settings)).acting_as("retry")
    if "." in name:
        with recorder.write() as tx:
            retry_series(tx, name)
        console.OUTPUT.print(f"series {name} will be decided again")
        return
    state = retry_case(recorder, name)
    console.OUTPUT.print(f"case {name} is {'queued' if state == 'QUEUED' else 'offered to the destinations'} again")


@app.command()
def status(settings: SettingsFile = DEFAULT_SETTINGS, as_json: Json = False) -> None:
    """Say whether the node does its work. Exit code 1 if not."""
    from dicom_node.watch.status import node_status

    chosen = _load_settings(settings)
    with _existing(chosen).read() as view:
        found = node_status(view, chosen)
    console.print_json(console.OUTPUT, found.to_json()) if as_json else console.print_status(console.OUTPUT, found)
    raise typer.Exit(0 if found.healthy else 1)


@audit_app.command("list")
def audit_list(
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
    newest: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    as_json: Json = False,
) -> None:
    """List the newest audit rows."""
    from dicom_node.catalog import audit

    with _catalog(settings, database).read() as view:
        rows = audit.last_rows(view, newest)
    if as_json:
        console.print_json(console.OUTPUT, [row.to_json() for row in rows])
    else:
        console.print_audit(console.OUTPUT, rows)


@audit_app.command("verify")
def audit_verify(
    settings: SettingsFile = DEFAULT_SETTINGS, database: DatabaseFile = None, as_json: Json = False
) -> None:
    """Recompute the whole chain and compare it with its anchor. Exit code 1 if it was touched."""
    from dicom_node.catalog.verify import read_anchor, verify

    anchor = _anchor(settings, database)
    with _catalog(settings, database).read() as view:
        verdict = verify(view, read_anchor(anchor), must_be_anchored=database is None)
    if as_json:
        console.print_json(console.OUTPUT, verdict.to_json())
    else:
        console.print_verdict(console.OUTPUT, verdict, anchor)
    raise typer.Exit(0 if verdict.untouched else 1)


@audit_app.command("export")
def audit_export(
    out: Annotated[Path | None, typer.Option("--out", help="A file; else standard output.")] = None,
    settings: SettingsFile = DEFAULT_SETTINGS,
    database: DatabaseFile = None,
) -> None:
    """Write every audit row as a line of JSON, with the hashes to prove them elsewhere."""
    from dicom_node.catalog import audit

    with _catalog(settings, database).read() as view:
        console.write_json_lines((row.to_json() for row in audit.rows(view)), out)


def _load_settings(file: Path) -> Settings:
    """The settings, with a line on standard error for each key that stands there under its old name."""
    from dicom_node.processes.logs import warn_of_settings
    from dicom_node.settings import load_settings

    settings = load_settings(file)
    for renamed in settings.renamed:
        warn_of_settings(file, str(renamed))
    return settings


def _default_settings() -> Settings:
    from dicom_node.settings import Settings

    return _load_settings(DEFAULT_SETTINGS) if DEFAULT_SETTINGS.exists() else Settings()


def _with_profile(settings: Settings, profile: str) -> Settings:
    """The settings with other objects to make. Raises typer.BadParameter where a name is not known."""
    from dicom_node.values.object_kinds import kinds_named

    try:
        kinds = kinds_named(profile.split(","))
    except ValueError as problem:
        raise typer.BadParameter(str(problem), param_hint="--profile") from problem
    results = settings.results.model_copy(update={"objects": kinds, "surface": True})
    return settings.model_copy(update={"results": results})


def _existing(settings: Settings) -> Catalog:
    """The node's catalogue as it is: looking at it makes nothing."""
    from dicom_node.catalog.database import Catalog, open_existing
    from dicom_node.catalog.database_url import is_sqlite, sqlite_file

    url = settings.node.catalog_url
    if not is_sqlite(url):
        return Catalog(url)
    file = sqlite_file(url)
    if not file.exists():
        raise CatalogError(NEVER_STARTED, database=file)
    return open_existing(file)


def _catalog(settings: Path, database: Path | None) -> Catalog:
    from dicom_node.catalog.database import open_copy

    return open_copy(database) if database is not None else _existing(_load_settings(settings))


def _anchor(settings: Path, database: Path | None) -> Path:
    """Where the head of the chain that is asked for was remembered."""
    from dicom_node.settings import ANCHOR_NAME

    return _load_settings(settings).node.audit_anchor if database is None else database.with_name(ANCHOR_NAME)
