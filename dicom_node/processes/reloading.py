"""Which settings are taken while the node runs, and by which of its processes (`dissm-node reload`, SIGHUP).

A process keeps the settings it began with. To take new ones it is replaced, which is cheap because any process may end
at any moment: control at once, a worker between two cases, the listener between two senders.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.heartbeats import record_node_event
from dicom_node.reasons import CatalogUnavailableError, SettingsError
from dicom_node.settings import Settings, load_settings
from dicom_node.settings_section import Section
from dissm_engine.json_value import JsonValue

_log = structlog.get_logger()


class ProcessKind(StrEnum):
    """A kind of process of the node."""

    LISTENER = "listener"
    CONTROL = "control"
    WORKER = "worker"

    @staticmethod
    def of_child(name: str) -> ProcessKind:
        """The kind of the process of this name, such as worker-2@host."""
        return ProcessKind(name.partition("-")[0])


_ALL = frozenset(ProcessKind)
_NOT_THE_LISTENER = frozenset({ProcessKind.CONTROL, ProcessKind.WORKER})
NEEDS_RESTART: frozenset[ProcessKind] = frozenset()
TAKEN_BY: Mapping[str, frozenset[ProcessKind]] = {
    "node": NEEDS_RESTART,
    "node.log_level": _ALL,
    "node.bundle": frozenset({ProcessKind.WORKER}),
    "listen": frozenset({ProcessKind.LISTENER, ProcessKind.CONTROL}),
    # A port that cannot be had would end a listener that works.
    "listen.address": NEEDS_RESTART,
    "listen.port": NEEDS_RESTART,
    "assemble": _NOT_THE_LISTENER,
    "admit": _NOT_THE_LISTENER,
    "work": _NOT_THE_LISTENER,
    "work.workers": NEEDS_RESTART,
    "results": _NOT_THE_LISTENER,
    "destinations": _NOT_THE_LISTENER,
}
"""By key, else by table, which processes are replaced to take a changed value; none where the node has to restart."""


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """What a reload does.

    settings: what the processes work with from now on: the file's, but with the old values of what needs a restart.
    taken, needs_restart: the changed keys, such as `listen.port`, sorted. parts: whose processes are replaced.
    """

    settings: Settings
    taken: tuple[str, ...]
    needs_restart: tuple[str, ...]
    parts: frozenset[ProcessKind]


def change_between(old: Settings, new: Settings) -> SettingsChange:
    """Compare the settings that the node works with to those of the file."""
    changed = [key for key in _keys(new) if _value(old, key) != _value(new, key)]
    stays = tuple(key for key in changed if not taken_by(key))
    taken = tuple(key for key in changed if taken_by(key))
    parts = frozenset(part for key in taken for part in taken_by(key))
    return SettingsChange(_with_old_values(old, new, stays), taken, stays, parts)


def taken_by(key: str) -> frozenset[ProcessKind]:
    """Which processes are replaced when this key changes."""
    return TAKEN_BY[key] if key in TAKEN_BY else TAKEN_BY[key.partition(".")[0]]


def _keys(settings: Settings) -> list[str]:
    keys: list[str] = []
    for table in sorted(type(settings).model_fields):
        section = getattr(settings, table)
        if isinstance(section, Section):
            keys += [f"{table}.{name}" for name in sorted(type(section).model_fields)]
        else:
            keys.append(table)
    return keys


def _value(settings: Settings, key: str) -> object:
    table, _, name = key.partition(".")
    section = getattr(settings, table)
    return getattr(section, name) if name else section


def _with_old_values(old: Settings, new: Settings, keys: tuple[str, ...]) -> Settings:
    tables: dict[str, Section] = {}
    for key in keys:
        table, _, name = key.partition(".")
        section = tables.get(table, getattr(new, table))
        tables[table] = section.model_copy(update={name: _value(old, key)})
    return new.model_copy(update=tables)


class Reloader:
    """Takes changed settings from their file when it is asked to.

    settings: what the node works with. file: None where there is none: then nothing is taken. asked: set by a signal.
    """

    def __init__(self, settings: Settings, file: Path | None, asked: threading.Event) -> None:
        self._settings, self._file, self._asked = settings, file, asked

    def change_asked(self, recorder: Recorder) -> SettingsChange | None:
        """What is to be done now; None where nobody asked, or the file cannot be used: the audit says why then."""
        if not self._asked.is_set():
            return None
        self._asked.clear()
        if self._file is None:
            _log.warning("asked to take settings again, but they came from no file")
            return None
        try:
            change = change_between(self._settings, load_settings(self._file))
        except SettingsError as problem:
            _log.error("settings not taken", said=str(problem))
            _record(recorder, AuditEvent.RELOAD_REFUSED, problem=str(problem))
            return None
        self._settings = change.settings
        taken, needs_restart = list[JsonValue](change.taken), list[JsonValue](change.needs_restart)
        _log.info("settings taken", taken=taken, needs_restart=needs_restart)
        _record(recorder, AuditEvent.SETTINGS_RELOADED, taken=taken, needs_restart=needs_restart)
        return change


def _record(recorder: Recorder, event: AuditEvent, **facts: JsonValue) -> None:
    """Into the audit, or at least into the log, where a full disk keeps the database from being written."""
    try:
        with recorder.write() as tx:
            record_node_event(tx, event, **facts)
    except CatalogUnavailableError as problem:
        _log.error("not written to the audit", event_name=event, problem=str(problem))
