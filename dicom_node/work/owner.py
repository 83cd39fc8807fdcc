"""Who holds a lease: a process that can be told to be gone before its lease runs out."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Owner:
    """A process of a host. place: host name and process id namespace. started: its start in seconds since 1970."""

    place: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.place}/{self.pid}/{self.started}"

    @property
    def is_gone(self) -> bool:
        """Certain only about processes of this place; of others it says False and their lease must run out."""
        if self.place != _place():
            return False
        try:
            return int(psutil.Process(self.pid).create_time()) != self.started
        except psutil.NoSuchProcess:
            return True


def this_process() -> Owner:
    """The process that asks."""
    return Owner(_place(), os.getpid(), int(psutil.Process().create_time()))


def owner_from(text: str) -> Owner:
    """The inverse of `str(owner)`. Raises ValueError."""
    place, pid, started = text.rsplit("/", 2)
    return Owner(place, int(pid), int(started))


def _place() -> str:
    # Containers may share a host name and still not see each other's processes.
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return f"{socket.gethostname()[:30]}:{namespace}"
