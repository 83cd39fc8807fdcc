"""Who holds a lease: a process that can be told to be gone before its lease runs out."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROC = Path("/proc")
_OVER_STATES = ("Z", "X")
"""Of a process that ended and only waits for its parent to ask how."""
_MIN_BOOT_START = 10**11
"""Tells a boot's start from seconds since 1970, which are fewer for three thousand years."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process of a host. place: host name and process id namespace. started: tells it from others of its number."""

    place: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.place}/{self.pid}/{self.started}"

    @property
    def is_here(self) -> bool:
        """Whether it is of this place, so that `is_gone` is certain."""
        return self.place == _place()

    @property
    def is_gone(self) -> bool:
        """Certain only about processes of this place; of others it says False and their lease must run out."""
        if not self.is_here:
            return False
        # Small: seconds, written where there is no /proc or by a version before 0.3.0.
        start_now = start_of(self.pid) if self.started >= _MIN_BOOT_START else _start_by_clock(self.pid)
        return start_now != self.started


def this_process() -> ProcessIdentity:
    """The process that asks."""
    started = start_of(os.getpid())
    assert started is not None
    return ProcessIdentity(_place(), os.getpid(), started)


def process_identity_from(text: str) -> ProcessIdentity:
    """The inverse of `str(owner)`. Raises ValueError."""
    place, pid, started = text.rsplit("/", 2)
    return ProcessIdentity(place, int(pid), int(started))


def start_of(pid: int) -> int | None:
    """A number for the boot and the clock tick in it at which the process began; None for one that is over.

    Neither moves when the clock is set. As a digest, since `lease_owner` has room for 64 characters. Where there is no
    /proc: seconds since 1970, which do move.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
    except OSError:
        return _start_by_clock(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets, and may itself hold blanks and brackets (proc_pid_stat(5)).
    after_name = stat.rpartition(")")[2].split()
    state, ticks = after_name[0], after_name[19]
    if state in _OVER_STATES:
        return None
    return _MIN_BOOT_START + int(hashlib.sha256(f"{boot.strip()}/{ticks}".encode()).hexdigest()[:9], 16)


def _start_by_clock(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _place() -> str:
    # Containers may share a host name and still not see each other's processes.
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return f"{socket.gethostname()[:30]}:{namespace}"
