"""How long the engine takes for a CT of 512 x 512 x 200 voxels, and how much memory: python -m bench.delineation."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import GIB, describe_machine
from bench.report import PROGRESS, Limit, Report
from bench.synthetic_ct import BenchmarkCt, benchmark_ct
from dissm_engine.bundle import Bundle
from dissm_engine.errors import DissmError

MAX_SECONDS, MAX_GB = 20.0, 4.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Run = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(arguments)
    facts = describe_machine()
    try:
        with PROGRESS.status("making the synthetic CT"):
            ct = benchmark_ct(Bundle.load(asked.bundle), asked.seed)
    except DissmError as problem:
        sys.exit(str(problem))
    with tempfile.TemporaryDirectory(prefix="dissm-bench-") as name:
        _keep(ct, Path(name))
        runs = []
        for number in range(asked.runs):
            PROGRESS.print(f"run {number + 1} of {asked.runs}")
            runs.append(_in_fresh_process(Path(name), asked.threads, asked.bundle))
    bundle = runs[0]["bundle"]
    facts |= {
        "threads": asked.threads,
        "bundle": f"{bundle['name']} {bundle['version']} {bundle['digest'][:12]}",
        "ct": ct.description,
    }
    _report(facts, runs).show(asked.json)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.delineation", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="folder or zip; default: the bundle that ships with the engine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="each in a fresh process; the worst one is judged")
    parser.add_argument("--seed", type=int, default=1, help="of the phantom")
    parser.add_argument("--json", action="store_true")
    return parser


def _keep(ct: BenchmarkCt, folder: Path) -> None:
    np.save(folder / "hu.npy", ct.phantom.volume.hu)
    np.save(folder / "lps_from_voxel.npy", ct.phantom.volume.lps_from_voxel)
    np.save(folder / "mask.npy", ct.phantom.mask)


def _in_fresh_process(folder: Path, threads: int, bundle: Path | None) -> Run:
    command = [sys.executable, "-m", "bench.one_delineation", str(folder), str(threads)]
    done = subprocess.run(
        [*command, *([str(bundle)] if bundle else [])],
        env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _report(facts: Mapping[str, Any], runs: Sequence[Run]) -> Report:
    rows: list[list[str | float]] = [["load the bundle, s", *(run["load_seconds"] for run in runs)]]
    rows += [[f"  {stage}, s", *(run["stage_seconds"][stage] for run in runs)] for stage in runs[0]["stage_seconds"]]
    rows += [
        ["whole delineation, s", *(run["seconds"] for run in runs)],
        ["processor time of it, s", *(run["cpu_seconds"] for run in runs)],
        ["peak resident memory, GB", *(run["peak_bytes"] / 1e9 for run in runs)],
        ["DSC with the truth", *(round(run["dsc"], 4) for run in runs)],
    ]
    return Report(
        title="Delineation of a synthetic CT, each run in a fresh process",
        facts=facts,
        columns=["", *(f"run {number + 1}" for number in range(len(runs)))],
        rows=rows,
        limits=[
            Limit("whole delineation, slowest run", max(run["seconds"] for run in runs), MAX_SECONDS, "s"),
            Limit("peak resident memory", max(run["peak_bytes"] for run in runs) / 1e9, MAX_GB, "GB"),
        ],
        notes=[f"GB: 10^9 bytes; {MAX_GB:g} GB are {MAX_GB * 1e9 / GIB:.2f} GiB. Read volume and bundle included."],
    )


if __name__ == "__main__":
    main()
