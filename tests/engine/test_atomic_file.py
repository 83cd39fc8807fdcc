"""A file appears whole or not at all, on the disk before the writer says so, and nothing is left beside it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dissm_engine.atomic_file import (
    atomic_path,
    open_atomic,
    remove_partial_files,
    write_bytes,
    write_json,
    write_text,
)


@pytest.fixture
def umask_022() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_bytes_text_and_json_are_written_and_replace_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    write_bytes(target, b"\x00first")
    assert target.read_bytes() == b"\x00first"
    write_text(target, "Leber, größer")
    assert target.read_bytes() == "Leber, größer".encode()
    write_json(target, {"a": [1, 2.5, None, True], "b": {"c": "d"}})
    assert json.loads(target.read_text()) == {"a": [1, 2.5, None, True], "b": {"c": "d"}}
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_while_writing_leaves_the_old_content_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")

    def stream_a_part() -> None:
        with open_atomic(target) as stream:
            stream.write(b"new, but only a part")
            raise RuntimeError("in the middle")

    def let_a_library_write_a_part() -> None:
        with atomic_path(target) as path:
            path.write_bytes(b"new, but only a part")
            raise RuntimeError("in the middle")

    for writer in (stream_a_part, let_a_library_write_a_part):
        with pytest.raises(RuntimeError, match="in the middle"):
            writer()
    with pytest.raises(TypeError):
        write_json(target, {"no JSON": object()})  # type: ignore[dict-item]
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_is_killed_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "target.npz"
    target.write_bytes(b"old")
    program = (
        "import os, pathlib, signal, sys\n"
        "from dissm_engine.atomic_file import open_atomic\n"
        "with open_atomic(pathlib.Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'x' * 100_000)\n"
        "    stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, target], check=False, timeout=60).returncode == -9
    assert target.read_bytes() == b"old"
    assert list(tmp_path.glob("*.npz")) == [target]
    assert len(list(tmp_path.iterdir())) == 2
    remove_partial_files(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_file_and_folder_are_on_the_disk_before_the_writer_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def recorded(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append(f"{kind}, target {'there' if (tmp_path / 'target').exists() else 'not there'}")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    write_bytes(tmp_path / "target", b"content")
    assert synced == ["file, target not there", "folder, target there"]
    (tmp_path / "target").unlink()
    synced.clear()
    with atomic_path(tmp_path / "target") as path:
        path.write_bytes(b"content")
    assert synced == ["file, target not there", "folder, target there"]
    synced.clear()
    write_bytes(tmp_path / "target", b"content", sync=False)
    assert synced == []


@pytest.mark.usefixtures("umask_022")
def test_a_file_has_the_mode_asked_for_from_its_first_byte_and_an_ordinary_one_otherwise(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with open_atomic(secret, mode=0o600) as stream:
        (partial,) = tmp_path.iterdir()
        assert permissions(partial) == 0o600
        stream.write(b"content")
    assert permissions(secret) == 0o600
    write_bytes(tmp_path / "ordinary", b"content")
    assert permissions(tmp_path / "ordinary") == 0o644
    with atomic_path(tmp_path / "by a library", mode=0o600) as path:
        assert permissions(path.parent) == 0o700
        path.write_bytes(b"content")
    assert permissions(tmp_path / "by a library") == 0o600


def test_a_library_that_chooses_the_format_by_the_name_gets_the_targets_own(tmp_path: Path) -> None:
    target = tmp_path / "values.npz"
    with atomic_path(target) as path:
        assert path.name == "values.npz"
        np.savez(path, values=np.arange(3))
    with np.load(target) as stored:
        assert stored["values"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [target]


def test_a_library_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "target"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_can_be_read_before_it_has_its_name(tmp_path: Path) -> None:
    with open_atomic(tmp_path / "target") as stream:
        stream.write(b"content")
        stream.seek(0)
        assert stream.read() == b"content"
        assert not (tmp_path / "target").exists()


def test_many_writers_of_one_file_at_once_leave_the_whole_content_of_one(tmp_path: Path) -> None:
    target = tmp_path / "target"
    contents = [bytes([number]) * 50_000 for number in range(8)]

    def write(content: bytes) -> None:
        for _ in range(10):
            write_bytes(target, content, sync=False)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not target.exists() or target.read_bytes() in contents
    assert target.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_file_may_have_a_name_and_a_folder_of_its_own(tmp_path: Path) -> None:
    target, partial = tmp_path / "target", tmp_path / "incoming" / "17-0"
    partial.parent.mkdir()
    with open_atomic(target, partial=partial) as stream:
        stream.write(b"content")
        assert (partial.exists(), target.exists()) == (True, False)
    assert target.read_bytes() == b"content"
    assert not list(partial.parent.iterdir())
