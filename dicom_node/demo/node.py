"""A node of the demo's own: temporary settings, loopback, free ports, started by the command `dissm-node start`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.demo.archive import Archive
from dicom_node.dicom.association_client import RemoteEntity, associate_for_echo
from dicom_node.reasons import NODE_NOT_UP, NodeError
from dicom_node.settings import ListenSettings, Settings, load_settings

QUIET_SECONDS = 2.0
_START_SECONDS, _STOP_SECONDS, _ECHO_SECONDS = 60.0, 30.0, 30.0
_LOG_TAIL = 800
_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class RunningNode:
    """A node that answered C-ECHO. log: what its processes said."""

    settings: Settings
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """Raises NodeError if the node ended by itself."""
        if self.process.poll() is not None:
            raise NodeError(NODE_NOT_UP, problem=f"it ended with code {self.process.returncode}: {_tail(self.log)}")


def write_settings(folder: Path, archive: Archive, bundle: Path | None = None) -> Path:
    """The settings file of the demo's node: only what differs from the defaults."""
    quoted = {"folder": json.dumps(str(folder / "data")), "bundle": json.dumps(str(bundle)) if bundle else None}
    file = folder / "settings.toml"
    file.write_text(
        f"""\
[node]
data_folder = {quoted["folder"]}
{f"bundle = {quoted['bundle']}" if bundle else "# bundle: the one that ships with the engine"}

[listen]
address = "127.0.0.1"
port = {free_port()}
disk_watermark_mb = 256

[assemble]
quiet_seconds = {QUIET_SECONDS}
study_quiet_seconds = {QUIET_SECONDS}

[work]
threads = {os.cpu_count() or 1}

[[destinations]]
name = "archive"
ae_title = "{archive.ae_title}"
host = "127.0.0.1"
port = {archive.port}
first_retry_seconds = 1
""",
        encoding="utf-8",
    )
    return file


def start_command(settings_file: Path) -> list[str]:
    """What an administrator would type."""
    return [sys.executable, "-m", "dicom_node", "start", "--settings", str(settings_file)]


@contextmanager
def running_node(settings_file: Path, command: Sequence[str] | None = None) -> Iterator[RunningNode]:
    """The node, from the moment it answers until the block ends. Raises NodeError if it does not come up.

    command: how it is started; default `dissm-node start`.
    """
    settings = load_settings(settings_file)
    log = settings_file.with_name("node.log")
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY), "wb") as stream:
        process = subprocess.Popen(command or start_command(settings_file), stdout=stream, stderr=stream)
    node = RunningNode(settings, process, log)
    try:
        _wait_for_echo(node)
        yield node
    finally:
        stop_process(process)


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_echo(listen: ListenSettings) -> bool:
    """Whether the listener answers C-ECHO now."""
    with socket.socket() as probe:
        if probe.connect_ex((listen.address, listen.port)) != 0:
            return False
    with associate_for_echo(
        RemoteEntity(listen.address, listen.port, listen.ae_title, "DEMO", _ECHO_SECONDS)
    ) as association:
        return association.established and association.echo() == 0


def _wait_for_echo(node: RunningNode) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        node.check_alive()
        if answers_echo(node.settings.listen):
            return
        time.sleep(0.2)
    raise NodeError(NODE_NOT_UP, problem=f"no answer to C-ECHO: {_tail(node.log)}")


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Ask a program to end, and end it if it does not."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:].strip()
