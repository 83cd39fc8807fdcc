"""How long the engine takes for CTs of 512 x 512 x 200 voxels, and how much memory: python -m bench.delineation.

With --beside, another version's checkout is measured in turns with this one, on the same CTs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import GIB, describe_machine
from bench.report import PROGRESS, Cell, Limit, Report
from bench.synthetic_ct import ODD, BenchmarkCt, benchmark_ct
from dissm_engine.bundle import Bundle
from dissm_engine.errors import DissmError

MAX_SECONDS, MAX_GB = 20.0, 2.0
CASES = {"ordinary": (), "odd": ODD}
MAX_RATIO = {"ordinary": 0.7, "odd": 1.5}
"""Time against that of the other version."""
_ROOT = Path(__file__).resolve().parent.parent
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """All runs of one program on one CT."""

    case: str
    is_other: bool
    runs: tuple[Run, ...]

    @property
    def slowest(self) -> Run:
        """The run that is shown and judged."""
        return max(self.runs, key=lambda run: float(run["seconds"]))

    @property
    def title(self) -> str:
        """Case, and the bundle that served it."""
        return f"{self.case}, bundle {self.slowest['bundle']['version']}{' (beside)' if self.is_other else ''}"


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(arguments)
    facts: dict[str, Cell] = {**describe_machine(), "threads": asked.threads}
    columns: list[Column] = []
    for case in asked.cases:
        try:
            with PROGRESS.status(f"making the synthetic CT of the {case} case"):
                ct = benchmark_ct(Bundle.load(asked.bundle), asked.seed, CASES[case])
        except DissmError as problem:
            sys.exit(str(problem))
        facts[case] = ct.description
        with tempfile.TemporaryDirectory(prefix="dissm-bench-") as name:
            _keep(ct, Path(name))
            columns += _columns(case, Path(name), asked)
    _report(facts, columns).show(asked.json)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.delineation", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="folder or zip; default: the bundle that ships with the engine")
    parser.add_argument("--beside", type=Path, help="checkout of another version that is measured in the same run")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="each in a fresh process; the slowest one is judged")
    parser.add_argument("--seed", type=int, default=1, help="of the phantom")
    parser.add_argument("--json", action="store_true")
    return parser


def _keep(ct: BenchmarkCt, folder: Path) -> None:
    np.save(folder / "hu.npy", ct.phantom.volume.hu)
    np.save(folder / "lps_from_voxel.npy", ct.phantom.volume.lps_from_voxel)
    np.save(folder / "mask.npy", ct.phantom.mask)


def _columns(case: str, folder: Path, asked: argparse.Namespace) -> list[Column]:
    """This version's runs and, in turns with them, those of the other one."""
    own, other = [], []
    for number in range(asked.runs):
        PROGRESS.print(f"{case}, run {number + 1} of {asked.runs}")
        own.append(_in_fresh_process(folder, asked.threads, asked.bundle, _ROOT))
        if asked.beside:
            other.append(_in_fresh_process(folder, asked.threads, None, asked.beside))
    return [Column(case, False, tuple(own)), *([Column(case, True, tuple(other))] if other else [])]


def _in_fresh_process(folder: Path, threads: int, bundle: Path | None, root: Path) -> Run:
    """The packages are those of `root`: `-m` finds those of the current folder first."""
    command = [sys.executable, "-m", "bench.one_delineation", str(folder), str(threads)]
    done = subprocess.run(
        [*command, *([str(bundle.absolute())] if bundle else [])],
        env={**os.environ, "PYTHONPATH": str(root), **dict.fromkeys(_THREAD_VARIABLES, str(threads))},
        cwd=root,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _report(facts: Mapping[str, Cell], columns: Sequence[Column]) -> Report:
    shown = [column.slowest for column in columns]
    stages = list(dict.fromkeys(stage for run in shown for stage in run["stage_seconds"]))
    rows: list[list[Cell]] = [["load the bundle, s", *(run["load_seconds"] for run in shown)]]
    rows += [[f"  {stage}, s", *(run["stage_seconds"].get(stage) for run in shown)] for stage in stages]
    rows += [
        ["whole delineation, s", *(run["seconds"] for run in shown)],
        ["processor time of it, s", *(run["cpu_seconds"] for run in shown)],
        ["rounds of fit and refinement", *(run.get("rounds") for run in shown)],
        ["peak resident memory, GB", *(max(run["peak_bytes"] for run in column.runs) / 1e9 for column in columns)],
        ["DSC with the truth", *(round(run["dsc"], 4) for run in shown)],
    ]
    return Report(
        title="Delineation of synthetic CTs, each run in a fresh process, the slowest shown",
        facts=facts,
        columns=["", *(column.title for column in columns)],
        rows=rows,
        limits=[limit for column in columns if not column.is_other for limit in _limits(column, columns)],
        notes=[f"GB: 10^9 bytes; {MAX_GB:g} GB are {MAX_GB * 1e9 / GIB:.2f} GiB. Read volume and bundle included."],
    )


def _limits(column: Column, columns: Sequence[Column]) -> list[Limit]:
    seconds, case = float(column.slowest["seconds"]), column.case
    peak = max(float(run["peak_bytes"]) for run in column.runs)
    return [
        Limit(f"whole delineation, {case}", seconds, MAX_SECONDS, "s"),
        Limit(f"peak resident memory, {case}", peak / 1e9, MAX_GB, "GB"),
        *(
            Limit(f"time of the other version, {case}", seconds / float(other.slowest["seconds"]), MAX_RATIO[case], "x")
            for other in columns
            if other.is_other and other.case == case
        ),
    ]


if __name__ == "__main__":
    main()
