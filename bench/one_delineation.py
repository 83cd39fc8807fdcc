"""One delineation in a process of its own, as a worker would do its first; `bench.delineation` starts it.

python -m bench.one_delineation FOLDER THREADS [BUNDLE]: FOLDER holds hu.npy, lps_from_voxel.npy and mask.npy.
Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from bench.machine import peak_memory_bytes
from dissm_engine.bundle import Bundle
from dissm_engine.delineator import Delineator
from dissm_engine.volume import Volume


def measure(folder: Path, threads: int, bundle: Path | None) -> dict[str, object]:
    """Seconds, peak memory and what came out. The truth is read only after memory and time are taken."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    loaded = Bundle.load(bundle)
    engine = Delineator(loaded)
    load_seconds = time.perf_counter() - started
    volume = Volume(np.load(folder / "hu.npy"), np.load(folder / "lps_from_voxel.npy"))
    started, cpu = time.perf_counter(), time.process_time()
    found = engine.delineate(volume)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = peak_memory_bytes()
    truth = np.load(folder / "mask.npy")
    return {
        "load_seconds": load_seconds,
        "stage_seconds": dict(found.stage_seconds),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "rounds": len(found.rounds),
        "peak_bytes": peak,
        "dsc": float(2 * (truth & found.mask).sum() / (truth.sum() + found.mask.sum())),
        "bundle": {
            "name": loaded.name,
            "version": loaded.version,
            "created": loaded.manifest.created,
            "digest": loaded.digest,
        },
    }


def main() -> None:
    folder, threads, *bundle = sys.argv[1:]
    print(json.dumps(measure(Path(folder), int(threads), Path(bundle[0]) if bundle else None)))


if __name__ == "__main__":
    main()
