"""One whole node a data folder: the lock that its supervisor holds, and who that is."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.reasons import NODE_RUNNING, NodeError

_NAME = "node.lock"


@contextmanager
def hold_node_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a data folder, and write this process' id into it. Raises NodeError(NODE_RUNNING)."""
    descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(descriptor)
        raise NodeError(NODE_RUNNING, folder=folder) from problem
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def node_runs(folder: Path) -> bool:
    """Whether a node holds the lock of this data folder."""
    try:
        with (folder / _NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def supervisor_of(folder: Path) -> int | None:
    """The process id of the supervisor that holds the lock; None where no node runs there."""
    if not node_runs(folder):
        return None
    written = (folder / _NAME).read_bytes()
    return int(written) if written.isdigit() else None
