"""`dissm-node check`: would the node work with these settings? Said in plain words, nothing is changed."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import shutil
import socket
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.catalog.database_url import is_sqlite, missing_driver, shown_url, sqlite_file
from dicom_node.deliver.stow_client import ask_web_service
from dicom_node.dicom.association_client import RemoteEntity, associate_for_echo
from dicom_node.settings import AnyDestination, Destination, Settings, WebDestination
from dissm_engine.errors import BundleError


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at. good: None where it works but somebody should know."""

    what: str
    good: bool | None
    said: str


def check_all(settings: Settings, *, echo: bool) -> Iterator[Checked]:
    """Look at everything a start needs, one by one. echo: ask each destination by C-ECHO."""
    for renamed in settings.renamed:
        yield Checked("settings", None, str(renamed))
    yield _data_folder(settings.node.data_folder)
    yield _disk(settings)
    yield _database(settings.node.catalog_url)
    yield _listening(settings)
    yield _senders(settings)
    yield _bundle(settings)
    yield _device(settings)
    for destination in settings.destinations:
        yield _destination(destination, echo)
    if not settings.destinations:
        yield Checked("destinations", None, "none is set: results are made and stay in the spool")


def _data_folder(folder: Path) -> Checked:
    folder = folder.absolute()
    existing = _nearest_existing(folder)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Checked("data folder", False, f"{folder}: this user cannot write in {existing}; give it the right to")
    if existing != folder:
        return Checked("data folder", True, f"{folder} will be made at the first start")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        return Checked("data folder", False, f"{folder} is open to other users (mode {mode:o}); run chmod 700 {folder}")
    return Checked("data folder", True, str(folder))


def _disk(settings: Settings) -> Checked:
    free = shutil.disk_usage(_nearest_existing(settings.node.data_folder)).free // 2**20
    min_mb = settings.listen.disk_watermark_mb
    if free < min_mb:
        return Checked(
            "disk", False, f"{free} MB are free; under {min_mb} MB (listen.disk_watermark_mb) nothing is taken"
        )
    return Checked("disk", True, f"{free} MB are free")


def _database(url: str) -> Checked:
    if not is_sqlite(url):
        return _server_database(url)
    file = sqlite_file(url)
    if not file.exists():
        return Checked("database", True, f"{file} will be made at the first start")
    try:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as problem:
        return Checked("database", False, f"{file} cannot be read: {problem}")
    return Checked("database", answer == "ok", f"{file}: {answer}")


def _server_database(url: str) -> Checked:
    shown, missing = shown_url(url), missing_driver(url)
    if missing is not None:
        return Checked("database", False, f"{shown}: its driver is not installed ({missing}); pip install it")
    return Checked("database", None, f"{shown} is tried at start")


def _listening(settings: Settings) -> Checked:
    listen = settings.listen
    where = f"{listen.ae_title} on {listen.address}:{listen.port}"
    try:
        family = socket.getaddrinfo(listen.address, listen.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listen.address, listen.port))
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE and _node_runs(settings.node.data_folder):
            return Checked("listening", None, f"{where}: in use by this node, which is running")
        cure = "stop the other program or change listen.port" if problem.errno == errno.EADDRINUSE else "change it"
        return Checked("listening", False, f"{where}: {problem.strerror}; {cure}")
    return Checked("listening", True, where)


def _node_runs(folder: Path) -> bool:
    """Whether a node holds the lock of this data folder."""
    try:
        with (folder / "node.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _senders(settings: Settings) -> Checked:
    listen = settings.listen
    lists = {"calling_ae_titles": listen.calling_ae_titles, "calling_addresses": listen.calling_addresses}
    empty = [f"listen.{name}" for name, entries in lists.items() if not entries]
    if empty and not _is_loopback(listen.address):
        return Checked("senders", False, f"no other machine may send: name the PACS in {' and '.join(empty)}")
    said = [f"{name}: {', '.join(entries)}" for name, entries in lists.items() if entries]
    return Checked("senders", True, "; ".join(said) or "everybody on this machine")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _bundle(settings: Settings) -> Checked:
    from dissm_engine.bundle import Bundle

    try:
        bundle = Bundle.load(settings.node.bundle)
    except BundleError as problem:
        return Checked("bundle", False, str(problem))
    return Checked("bundle", True, f"{bundle.name} {bundle.version}, {bundle.digest[:12]}")


def _device(settings: Settings) -> Checked:
    import torch

    if settings.work.device == "cuda" and not torch.cuda.is_available():
        return Checked("device", False, "work.device is cuda, but torch sees no GPU; set cpu or mend the driver")
    return Checked("device", True, f"{settings.work.device}, {settings.work.workers} workers")


def _destination(to: AnyDestination, echo: bool) -> Checked:
    what = f"destination {to.name}"
    if isinstance(to, WebDestination):
        return Checked(what, *_web_destination(to, echo))
    where = f"{to.ae_title} on {to.host}:{to.port}, as {to.calling_ae_title}"
    if not echo:
        return Checked(what, None, f"{where}: not asked")
    problem = _echo(to)
    return Checked(what, problem is None, f"{where}: {problem or 'answers'}")


def _web_destination(to: WebDestination, echo: bool) -> tuple[bool | None, str]:
    file = to.secret_file
    if file is not None and file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o007:
        return False, f"{file} can be read by every user of this machine; run chmod o= {file}"
    if not echo:
        return None, f"{to.url}: not asked"
    problem = ask_web_service(to)
    return problem is None, f"{to.url}: {problem or 'answers'}"


def _echo(to: Destination) -> str | None:
    """C-ECHO (PS3.7 9.1.5); None when it was answered, else what went wrong."""
    try:
        association = associate_for_echo(
            RemoteEntity(to.host, to.port, to.ae_title, to.calling_ae_title, to.timeout_seconds)
        )
    except socket.gaierror:
        return f"the name {to.host} cannot be resolved; look at host and at this machine's name service"
    except (OSError, ValueError) as problem:
        return f"it cannot be asked ({type(problem).__name__}); look at host, port and the AE titles"
    with association:
        if association.rejection is not None:
            return "it rejects the association; does it know our AE title and address, and is its own title right?"
        if not association.established:
            return "nobody answers there; look at host, port and firewall"
        status = association.echo()
    return None if status == 0 else f"it answered C-ECHO with {'nothing' if status is None else hex(status)}"


def _nearest_existing(folder: Path) -> Path:
    folder = folder.absolute()
    return folder if folder.exists() else _nearest_existing(folder.parent)
