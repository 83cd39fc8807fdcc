"""Storage SCPs on loopback: our node's listener, Orthanc, DCMTK's storescp. Each with its own folder and free port."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.machine import program_version
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.histories import newest_series
from dicom_node.demo.node import free_port, running_node, stop_process

MAX_PDU_BYTES = 131072
"""Offered by every receiver, so that none is judged by its default."""
_START_SECONDS = 30.0
_AE_TITLE = "BENCH"


@dataclass(frozen=True)
class Running:
    """A receiver that answered C-ECHO. stored: how many images it says it holds."""

    port: int
    stored: Callable[[], int]


@dataclass(frozen=True)
class Receiver:
    """version: None where the program is not installed. start: runs it in a folder while its `with` block does."""

    name: str
    durable: str
    version: str | None
    start: Callable[[Path], AbstractContextManager[Running]]


def receivers() -> list[Receiver]:
    """Ours and its peers, in the order of the table."""
    ours, orthanc, storescp = version("dissm-node"), program_version("Orthanc"), program_version("storescp")
    return [
        Receiver("dissm-node", "file, folder and row", ours, lambda folder: _node(folder, sync=True)),
        Receiver("dissm-node, listen.sync = false", "row", ours, lambda folder: _node(folder, sync=False)),
        Receiver("Orthanc", "file", orthanc, lambda folder: _orthanc(folder, sync=True)),
        Receiver("Orthanc, SyncStorageArea = false", "nothing", orthanc, lambda folder: _orthanc(folder, sync=False)),
        Receiver("DCMTK storescp", "nothing", storescp, _storescp),
    ]


@contextmanager
def _node(folder: Path, sync: bool) -> Iterator[Running]:
    """Listener and control as `dissm-node start` runs them; no worker, and the series never becomes quiet."""
    settings_file = folder / "settings.toml"
    settings_file.write_text(
        f"""\
[node]
data_folder = {json.dumps(str(folder / "data"))}
[listen]
ae_title = "{_AE_TITLE}"
port = {free_port()}
max_pdu_bytes = {MAX_PDU_BYTES}
disk_watermark_mb = 256
sync = {json.dumps(sync)}
[assemble]
quiet_seconds = 3600
[work]
workers = 0
""",
        encoding="utf-8",
    )
    with running_node(settings_file) as node:
        catalog = Catalog(node.settings.node.catalog_url)
        try:
            yield Running(node.settings.listen.port, lambda: _instances(catalog))
        finally:
            catalog.close()


def _instances(catalog: Catalog) -> int:
    with catalog.read() as view:
        return sum(series.instances for series in newest_series(view))


@contextmanager
def _orthanc(folder: Path, sync: bool) -> Iterator[Running]:
    """Its defaults but for ports, folders, the PDU size, and the one option that is measured."""
    port, http_port = free_port(), free_port()
    configuration = folder / "orthanc.json"
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "SyncStorageArea": sync,
        "MaximumPduLength": MAX_PDU_BYTES,
        "DicomAet": _AE_TITLE,
        "DicomPort": port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    configuration.write_text(json.dumps(settings), encoding="utf-8")

    def stored() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/statistics", timeout=10) as answer:
            return int(json.loads(answer.read())["CountInstances"])

    def counts() -> bool:
        try:
            return stored() == 0
        except (urllib.error.URLError, ConnectionError):
            return False

    with _process(["Orthanc", str(configuration)], folder / "orthanc.log", lambda: counts() and _echoes(port)):
        yield Running(port, stored)


@contextmanager
def _storescp(folder: Path) -> Iterator[Running]:
    """Bit preserving: the bytes as they came, what our listener does too."""
    port, kept = free_port(), folder / "storage"
    kept.mkdir()
    command = ["storescp", "--bit-preserving", "--max-pdu", str(MAX_PDU_BYTES), "-od", str(kept), str(port)]
    with _process(command, folder / "storescp.log", lambda: _echoes(port)):
        yield Running(port, lambda: sum(1 for _ in kept.iterdir()))


@contextmanager
def _process(command: list[str], log: Path, answers: Callable[[], bool]) -> Iterator[None]:
    """A program from the moment it answers; stopped by its own process id."""
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]} is not installed")
    with log.open("wb") as stream:
        process = subprocess.Popen([program, *command[1:]], stdout=stream, stderr=stream, cwd=log.parent)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"{command[0]} did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.1)
        yield
    finally:
        stop_process(process)


def _echoes(port: int) -> bool:
    done = subprocess.run(
        ["echoscu", "-aec", _AE_TITLE, "127.0.0.1", str(port)], capture_output=True, check=False, timeout=10
    )
    return done.returncode == 0
