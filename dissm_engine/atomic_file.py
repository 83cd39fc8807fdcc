"""Files that appear whole or not at all.

Every writer here puts the content into a temporary file beside the target, flushes it to the disk, renames it to the
target's name and flushes the folder. Whoever reads the target, and whoever finds it after a crash, sees the old content
or the new one, never a part. Two processes may write the same target at once: each has a temporary file of its own,
and the last one to rename wins.

A writer that was killed leaves its temporary file behind; its name begins with a dot and ends with `.partial`, so that
no search for files by their suffix finds it. `remove_partial_files` removes such files.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path

from dissm_engine.json_value import JsonValue

DEFAULT_MODE = 0o666
"""Permission bits of a new file before the process's umask is taken off, as for any file that `open` creates."""

PARTIAL_SUFFIX = ".partial"


def write_bytes(
    path: Path, content: bytes, *, mode: int = DEFAULT_MODE, sync: bool = True, partial: Path | None = None
) -> None:
    """Write a file of bytes.

    Args:
        path: The target. Its folder must exist.
        content: The whole content.
        mode: Permission bits of the new file; the process's umask is taken off.
        sync: Whether file and folder are flushed to the disk before this returns. Without it a power failure may cost
            the new content, but a reader still never sees a part of it.
        partial: The temporary file's own name, on the same disk and used by nobody else; None makes one beside the
            target.

    Raises:
        OSError: If the file cannot be written; the target is then as it was before.
    """
    with open_atomic(path, mode=mode, sync=sync, partial=partial) as stream:
        stream.write(content)


def write_text(path: Path, text: str, *, mode: int = DEFAULT_MODE, sync: bool = True) -> None:
    """Write a file of UTF-8 text. Arguments and errors are those of `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), mode=mode, sync=sync)


def write_json(
    path: Path, value: JsonValue, *, indent: int | None = 1, mode: int = DEFAULT_MODE, sync: bool = True
) -> None:
    """Write a value as JSON.

    Args:
        path: The target. Its folder must exist.
        value: What `json.dumps` takes.
        indent: Spaces for each level; None writes one line.
        mode: As in `write_bytes`.
        sync: As in `write_bytes`.

    Raises:
        OSError: As `write_bytes`.
        TypeError: If the value has a part that JSON cannot hold; nothing is written then.
    """
    write_text(path, json.dumps(value, indent=indent), mode=mode, sync=sync)


@contextmanager
def open_atomic(
    path: Path, *, mode: int = DEFAULT_MODE, sync: bool = True, partial: Path | None = None
) -> Iterator[BufferedRandom]:
    """Open a temporary file for writing and reading; it becomes `path` when the `with` block ends without an error.

    After an error in the block the temporary file is removed and the target is as it was before.

    Args:
        path: The target. Its folder must exist.
        mode: As in `write_bytes`.
        sync: As in `write_bytes`.
        partial: As in `write_bytes`.

    Yields:
        The temporary file, opened in mode "w+b".

    Raises:
        OSError: As `write_bytes`.
    """
    partial = partial or _partial_name(path)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)


@contextmanager
def atomic_path(path: Path, *, mode: int | None = None, sync: bool = True) -> Iterator[Path]:
    """Yield a path for a library that wants to write a file by its name; the file becomes `path` afterwards.

    The temporary path has the target's own name, so that libraries which choose a format by the suffix choose the right
    one. It lies in a temporary folder beside the target that only this user can open.

    Args:
        path: The target. Its folder must exist.
        mode: Permission bits that the file gets; None leaves those that the library gave it.
        sync: As in `write_bytes`.

    Yields:
        The path to write to. Nothing is there yet.

    Raises:
        FileNotFoundError: If the `with` block wrote no file.
        OSError: As `write_bytes`.
    """
    folder = _partial_name(path)
    folder.mkdir(mode=0o700)
    try:
        written = folder / path.name
        yield written
        if mode is not None:
            written.chmod(mode)
        if sync:
            _sync_file(written)
        written.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if sync:
        _sync_folder(path.parent)


def remove_partial_files(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder, not in the folders below it.

    Call it only where nobody else writes to the folder: a file that is being written looks the same.
    """
    for left in folder.glob(f".*{PARTIAL_SUFFIX}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                left.unlink()


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries, without which a renamed file may have its old name after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
