"""What is done about results that were sent and replaced since: a rejection note, or a word to a person (C8)."""

from __future__ import annotations

from pathlib import Path

import structlog

from dicom_node.catalog import audit
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.replaced import (
    ReplacedResult,
    record_left_behind,
    record_rejection_note,
    replaced_results,
)
from dicom_node.reasons import ProofError
from dicom_node.settings import Settings
from dicom_node.values.results import ObjectKind

_log = structlog.get_logger()


def answer_for_replaced(recorder: Recorder, settings: Settings) -> int:
    """For every replaced result at a destination that has the newer one; how many it were.

    Where the destination takes rejection notes, one is written, read back, proven and queued; elsewhere the audit says
    what a person must delete.
    """
    noted = {each.name for each in settings.destinations if each.replaced_results == "key-object"}
    with recorder.read() as view:
        replaced = replaced_results(view)
    for result in replaced:
        if result.destination not in noted or not _queue_note(recorder, settings, result):
            with recorder.write() as tx:
                record_left_behind(tx, result)
    return len(replaced)


def _queue_note(recorder: Recorder, settings: Settings, result: ReplacedResult) -> bool:
    """False where no note can be made of what is left of the files: then a person has to act."""
    # highdicom takes seconds to import, and most nodes never replace anything.
    from dicom_node.results.rejection_note import prove_rejection_note, write_rejection_note

    spool = settings.node.spool
    files, path = [spool / one for one in result.paths], _path(spool, result)
    number = settings.results.rejection_note_series_number
    try:
        note = write_rejection_note(files, path, series_number=number, created_at=audit.utc_now())
        objects = prove_rejection_note(path, files)
    except (OSError, ValueError, AttributeError, ProofError) as problem:
        _log.error("no rejection note", case=result.case_id, problem=type(problem).__name__)
        return False
    with recorder.write() as tx:
        record_rejection_note(tx, result, note, str(path.relative_to(spool)), objects)
    return True


def _path(spool: Path, result: ReplacedResult) -> Path:
    """A file of its own for each note: what was sent later needs another."""
    name = f"{ObjectKind.REJECTION_NOTE}_{result.destination}_{min(result.delivery_ids)}.dcm"
    return spool / "results" / result.case_id / name
