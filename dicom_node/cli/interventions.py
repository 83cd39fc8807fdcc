"""Commands by which a person changes what the node would do: each is one transaction, audited with the user's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli import console
from dicom_node.cli.acting_user import acting_as
from dicom_node.cli.opening import DEFAULT_SETTINGS, SettingsFile, existing_catalog, load_with_warnings
from dicom_node.reasons import NO_SUCH_DESTINATION, NodeError

if TYPE_CHECKING:
    from dicom_node.catalog.deliveries import WantedObjects
    from dicom_node.settings import Settings

CaseId = Annotated[str, typer.Argument(metavar="CASE")]


def retry(
    name: Annotated[str, typer.Argument(metavar="CASE|SERIES")], settings: SettingsFile = DEFAULT_SETTINGS
) -> None:
    """Queue a case again that was refused, held, parked, cancelled or failed, or decide a refused series again.

    A series is named by its SeriesInstanceUID: of use after a setting was changed that its refusal named.
    """
    from dicom_node.catalog.intake import retry_series
    from dicom_node.catalog.leases import retry_case

    recorder = existing_catalog(load_with_warnings(settings)).acting_as(acting_as("retry"))
    if "." in name:
        with recorder.write() as tx:
            retry_series(tx, name)
        console.OUTPUT.print(f"series {name} will be decided again")
        return
    state = retry_case(recorder, name)
    console.OUTPUT.print(f"case {name} is {'queued' if state == 'QUEUED' else 'offered to the destinations'} again")


def resend(
    case: CaseId,
    destination: Annotated[list[str] | None, typer.Option("--to", help="A destination; else all of them.")] = None,
    settings: SettingsFile = DEFAULT_SETTINGS,
) -> None:
    """Deliver the proven objects of a case again, the same ones: nothing is delineated again."""
    from dicom_node.catalog.administration import resend_case

    chosen = load_with_warnings(settings)
    wanted = _wanted(chosen, destination or ())
    with existing_catalog(chosen).acting_as(acting_as("resend")).write() as tx:
        count = resend_case(tx, case, wanted)
    names = ", ".join(each.destination for each in wanted)
    console.OUTPUT.print(f"case {case}: {count} objects wait for {names}", highlight=False)


def cancel(case: CaseId, settings: SettingsFile = DEFAULT_SETTINGS) -> None:
    """End a case that is queued or worked on; nothing of it is made or sent. `retry` queues it again."""
    from dicom_node.catalog.administration import cancel_case

    with existing_catalog(load_with_warnings(settings)).acting_as(acting_as("cancel")).write() as tx:
        cancel_case(tx, case)
    console.OUTPUT.print(f"case {case} is cancelled", highlight=False)


def priority(case: CaseId, settings: SettingsFile = DEFAULT_SETTINGS) -> None:
    """Put a queued case before all others that are queued now."""
    from dicom_node.catalog.administration import put_first

    with existing_catalog(load_with_warnings(settings)).acting_as(acting_as("priority")).write() as tx:
        put_first(tx, case)
    console.OUTPUT.print(f"case {case} is the next one", highlight=False)


def process_now(
    uid: Annotated[str, typer.Argument(metavar="SERIES|STUDY", help="A SeriesInstanceUID or StudyInstanceUID.")],
    settings: SettingsFile = DEFAULT_SETTINGS,
) -> None:
    """Do not wait for the quiet time of a series or of a study: what has come is all that will come."""
    from dicom_node.catalog import administration

    with existing_catalog(load_with_warnings(settings)).acting_as(acting_as("process-now")).write() as tx:
        waited = administration.process_now(tx, uid)
    for series in waited:
        console.OUTPUT.print(f"series {series} is not waited for any longer", highlight=False, soft_wrap=True)


def reload(settings: SettingsFile = DEFAULT_SETTINGS) -> None:
    """Let the running node take what was changed in its settings, and say what needs a restart."""
    from dicom_node.cli.reload_request import ask_to_reload

    answer = ask_to_reload(load_with_warnings(settings))
    console.print_reload(console.OUTPUT, answer)
    raise typer.Exit(0 if answer.problem is None else 1)


def add_commands(app: typer.Typer) -> None:
    """Make them commands of `dissm-node`."""
    for command in (retry, resend, cancel, priority, reload):
        app.command()(command)
    app.command(name="process-now")(process_now)


def _wanted(settings: Settings, names: Sequence[str]) -> list[WantedObjects]:
    """The destinations of these names, all without any. Raises NodeError(NO_SUCH_DESTINATION)."""
    from dicom_node.deliver.outbox import wanted_objects

    known = {each.name: each for each in settings.destinations}
    for name in names:
        if name not in known:
            raise NodeError(NO_SUCH_DESTINATION, name=name, known=", ".join(known) or "none")
    return wanted_objects([known[name] for name in names or known])
