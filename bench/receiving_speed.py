"""How many images a second one DCMTK sender gets acknowledged, by us and by others: python -m bench.receiving_speed."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.machine import MIB, describe_file_system, describe_machine, program_version
from bench.receivers import MAX_PDU_BYTES, Receiver, receivers
from bench.report import PROGRESS, Cell, Report
from dicom_node.demo.ct_images import SyntheticStudy, write_ct_images
from dicom_node.receive.spool import Spool
from dissm_engine.volume import Volume

_SIDE = 512
_SEND_SECONDS = 600
_DISK_ALONE = "the spool alone, no network, no rows"


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(arguments)
    if program_version("storescu") is None:
        sys.exit("storescu is not installed (Debian package dcmtk): there is nothing to send with")
    # Without it DCMTK and Orthanc wait 40 ms for every image: on both sides, so for all programs started from here.
    os.environ["TCP_NODELAY"] = "1"
    facts = describe_machine()
    with tempfile.TemporaryDirectory(prefix="dissm-bench-", dir=asked.folder) as name:
        folder = Path(name)
        images = _images(folder / "images", asked.slices)
        size = statistics.mean(file.stat().st_size for file in images)
        facts |= {
            "spool": describe_file_system(folder),
            "sender": f"DCMTK storescu {program_version('storescu')}, one association, TCP_NODELAY=1 on both sides",
            "images": f"{len(images)} of {size / 1000:.1f} kB, explicit little endian, PDU {MAX_PDU_BYTES}",
            "rounds": asked.rounds,
        }
        present = receivers()
        rates = _interleaved(present, images, asked.rounds, folder)
    _report(facts, present, rates, size).show(asked.json)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.receiving_speed", description=__doc__)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on whose file system is measured; default: the temporary folder")
    parser.add_argument("--json", action="store_true")
    return parser


def _images(folder: Path, count: int) -> list[Path]:
    """CT images of 525 kB. Their pixels are noise, so that no program gains by compressing them."""
    with PROGRESS.status("making the images"):
        hu = np.random.default_rng(1).integers(-1000, 1500, (count, _SIDE, _SIDE), dtype=np.int16)
        return write_ct_images(Volume(hu, np.diag([0.78, 0.78, 1.0, 1.0])), SyntheticStudy(1, "Benchmark"), folder)


def _interleaved(
    present: Sequence[Receiver], images: Sequence[Path], rounds: int, folder: Path
) -> Mapping[str, list[float]]:
    """Images a second of each receiver and round; every receiver once a round, so that a busy minute hits all."""
    rates: dict[str, list[float]] = {name: [] for name in (*(receiver.name for receiver in present), _DISK_ALONE)}
    for number in range(rounds):
        for receiver in present:
            if receiver.version is not None:
                PROGRESS.print(f"round {number + 1} of {rounds}: {receiver.name}")
                rates[receiver.name].append(_in_new_folder(folder, partial(_received, receiver, images)))
        rates[_DISK_ALONE].append(_in_new_folder(folder, partial(_spooled, images)))
    return rates


def _in_new_folder(folder: Path, measure: Callable[[Path], float]) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        rate = measure(Path(name))
    # What an earlier receiver left to be written shall not slow down the next one's fsync.
    os.sync()
    return rate


def _received(receiver: Receiver, images: Sequence[Path], folder: Path) -> float:
    """Images a second from the sender's start to its end. Raises OSError unless every one arrived."""
    with receiver.start(folder) as running:
        command = ["storescu", "--required", "--max-pdu", str(MAX_PDU_BYTES), "--scan-directories", "-aec", "BENCH"]
        started = time.perf_counter()
        sent = subprocess.run(
            [*command, "127.0.0.1", str(running.port), str(images[0].parent)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SEND_SECONDS,
        )
        seconds = time.perf_counter() - started
        stored = running.stored()
    if sent.returncode != 0 or stored != len(images):
        raise OSError(f"{receiver.name} holds {stored} of {len(images)} images: {sent.stderr[-300:]}")
    return len(images) / seconds


def _spooled(images: Sequence[Path], folder: Path) -> float:
    """The disk's share: our spool's write, fsync, rename, fsync of the folder, image after image."""
    contents = [file.read_bytes() for file in images]
    spool = Spool(folder)
    started = time.perf_counter()
    for content in contents:
        spool.keep(content)
    return len(images) / (time.perf_counter() - started)


def _report(
    facts: Mapping[str, Cell], present: Sequence[Receiver], rates: Mapping[str, list[float]], size: float
) -> Report:
    rows: list[list[Cell]] = [
        [receiver.name, receiver.version or "not installed", receiver.durable, *_row(rates[receiver.name], size)]
        for receiver in present
    ]
    rows.append([_DISK_ALONE, None, "file and folder", *_row(rates[_DISK_ALONE], size)])
    return Report(
        title="Images a second acknowledged to one DCMTK sender",
        facts=facts,
        columns=["receiver", "version", "synced before Success", "images/s", "MiB/s", "slowest", "fastest"],
        rows=rows,
        notes=[
            "images/s: median of the rounds, over the time of the whole storescu process.",
            "`row`: the catalogue's commit (SQLite, WAL, synchronous FULL).",
            "Orthanc's index and storescp's files are not synced before Success.",
        ],
    )


def _row(rates: Sequence[float], size: float) -> list[Cell]:
    if not rates:
        return [None] * 4
    median = statistics.median(rates)
    return [round(median, 1), round(median * size / MIB, 1), round(min(rates), 1), round(max(rates), 1)]


if __name__ == "__main__":
    main()
