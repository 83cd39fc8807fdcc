"""A node of several real processes, as an administrator would run it, with what a test needs to strike at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from dicom_node.catalog.database import View, open_catalog
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import AuditRow, Case, Process, Series
from dicom_node.catalog.verify import read_anchor, verify
from dicom_node.demo.node import answers_echo, free_port
from dicom_node.settings import load_settings
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.rows import rows
from tests.conftest import ROOT
from tests.thirdparty import need

MAX_SECONDS = 120.0


@dataclass
class Node:
    """Start, strike, start again. destinations: (name, AE title, port)."""

    folder: Path
    destinations: Sequence[tuple[str, str, int]] = ()
    engine_seconds: float = 0.0
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        text = f"""
[node]
data_folder = "{self.folder / "data"}"
[listen]
port = {self.port}
disk_watermark_mb = 0
[assemble]
quiet_seconds = 1
study_quiet_seconds = 1
[work]
threads = 1
"""
        for name, ae_title, port in self.destinations:
            text += f"""
[[destinations]]
name = "{name}"
ae_title = "{ae_title}"
host = "127.0.0.1"
port = {port}
timeout_seconds = 10
first_retry_seconds = 0.5
max_retry_seconds = 1
"""
        self.settings_file = self.folder / "settings.toml"
        self.settings_file.write_text(text, encoding="utf-8")
        self.settings = load_settings(self.settings_file)
        self.catalog = open_catalog(self.settings.node.catalog_url)

    def __enter__(self) -> Node:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.catalog.close()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.end_to_end.analytic_node"]
        with open(self.folder / "node.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.settings_file), str(self.engine_seconds)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(lambda: {"listener", "control", "worker-1"} <= set(self.pids()), "all processes beat")
        self.wait(lambda: answers_echo(self.settings.listen), "the listener answers")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(40)

    def kill_everything(self) -> None:
        """As a power cut would: the supervisor and all its children at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def send(self, folder: Path) -> None:
        """By DCMTK's storescu."""
        storescu = need("storescu")
        subprocess.run(
            [storescu, "-R", "+sd", "+r", "-aec", "DISSM", "127.0.0.1", str(self.port), folder],
            check=True,
            capture_output=True,
            timeout=MAX_SECONDS,
            env={**os.environ, "TCP_NODELAY": "1"},
        )

    def pids(self) -> dict[str, int]:
        """The processes that beat since this start, by name."""
        assert self.process is not None
        return {row.name: row.pid for row in self.rows(Process) if _session_of(row.pid) == self.process.pid}

    def rows(self, table: Any) -> list[Any]:
        with rows(self.catalog) as session:
            return list(session.scalars(select(table)))

    def case_states(self) -> list[CaseState]:
        return [case.state for case in self.rows(Case)]

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = MAX_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"did not come: {what}; {self.report()}"
            assert self.process is None or self.process.poll() is None, f"the node ended: {self.report()}"
            time.sleep(0.05)

    def wait_for(self, *states: CaseState, seconds: float = MAX_SECONDS) -> None:
        """Until the cases are in exactly these states."""
        self.wait(lambda: sorted(self.case_states()) == sorted(states), f"cases {states}", seconds)

    def events(self) -> list[str]:
        return [row.event for row in self.rows(AuditRow)]

    def audit_is_whole(self) -> bool:
        with rows(self.catalog) as session:
            return verify(View(session), read_anchor(self.settings.node.audit_anchor)).untouched

    def report(self) -> str:
        """What a failed test prints."""
        log = (self.folder / "node.log").read_text(errors="replace")[-3000:]
        series = [(row.state, row.reason_code) for row in self.rows(Series)]
        return f"series {series}, cases {self.case_states()}, audit {self.events()[-12:]}\n{log}"


def ct_folder(folder: Path, name: str = "ct") -> Path:
    """A small venous CT that every check admits."""
    write_ct_series(folder / name, abdomen(), name=name, study=name)
    return folder / name


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
