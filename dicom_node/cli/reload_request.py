"""`dissm-node reload`: asks the running node by a signal, and reads its answer from the audit."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent, SubjectKind
from dicom_node.catalog.database import Catalog
from dicom_node.cli.opening import existing_catalog
from dicom_node.processes.node_lock import supervisor_of
from dicom_node.reasons import NODE_NOT_RUNNING, NODE_SILENT, NodeError
from dicom_node.settings import Settings

_PATIENCE_SECONDS = 15.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class ReloadAnswer:
    """Which changed keys the node takes, which need a restart; problem: why it took nothing."""

    taken: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problem: str | None = None


def ask_to_reload(settings: Settings) -> ReloadAnswer:
    """Ask the node of these settings' data folder. Raises NodeError(NODE_NOT_RUNNING, NODE_SILENT), OSError."""
    pid = supervisor_of(settings.node.data_folder)
    if pid is None:
        raise NodeError(NODE_NOT_RUNNING, folder=settings.node.data_folder)
    catalog = existing_catalog(settings)
    try:
        with catalog.read() as view:
            last = max((row.id for row in audit.last_rows(view, 1)), default=0)
        os.kill(pid, signal.SIGHUP)
        return _answer_after(catalog, last)
    finally:
        catalog.close()


def _answer_after(catalog: Catalog, last: int) -> ReloadAnswer:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with catalog.read() as view:
            for row in audit.rows(view, subject_kind=SubjectKind.NODE, after=last):
                if row.event == AuditEvent.RELOAD_REFUSED:
                    return ReloadAnswer(problem=str(row.facts.get("problem")))
                if row.event == AuditEvent.SETTINGS_RELOADED:
                    return ReloadAnswer(_keys(row.facts.get("taken")), _keys(row.facts.get("needs_restart")))
        time.sleep(_LOOK_SECONDS)
    raise NodeError(NODE_SILENT, seconds=_PATIENCE_SECONDS)


def _keys(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()
