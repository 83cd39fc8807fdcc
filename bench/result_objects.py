"""How long all objects of a CT of 512 x 512 x 300 voxels take to write and prove: python -m bench.result_objects.

Beside it, in the same run, dcmqi's itkimage2segimage writes a SEG of the same mask; it proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import describe_file_system, describe_machine
from bench.object_case import make_case
from bench.report import PROGRESS, Cell, Limit, Report
from dicom_node.values.object_kinds import PROFILES
from dicom_node.values.results import ObjectKind
from dissm_engine.errors import DissmError

SETS = {
    "all": PROFILES["all"],
    "seg, surface, sr": (ObjectKind.SEG, ObjectKind.SURFACE, ObjectKind.SR),
    "seg": (ObjectKind.SEG,),
}
MAX_SECONDS = {"all": 10.0, "seg, surface, sr": 5.0}
MAX_MB = {ObjectKind.SEG: 11.0, ObjectKind.SURFACE: 2.0}
_PEER = "dcmqi, seg"
_ROOT = Path(__file__).resolve().parent.parent
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Run = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """All runs of one set of objects, or of the peer."""

    name: str
    runs: tuple[Run, ...]

    def median(self, stage: str, clock: str) -> float | None:
        """Seconds of a stage over the runs. clock: `cpu` or `wall`. None where the stage was not run."""
        if stage not in self.runs[0]:
            return None
        return statistics.median(float(run[stage][clock]) for run in self.runs)

    def whole(self, clock: str) -> float:
        """Seconds of writing and proving."""
        return sum(self.median(stage, clock) or 0.0 for stage in ("writing", "proving"))

    def megabytes(self, kind: ObjectKind) -> float | None:
        """10^6 bytes of all files of a kind."""
        size = self.runs[0]["kinds"].get(kind.value)
        return None if size is None else float(size["bytes"]) / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(arguments)
    facts: dict[str, Cell] = {**describe_machine(), "threads": asked.threads}
    with tempfile.TemporaryDirectory(prefix="dissm-bench-", dir=asked.folder) as name:
        folder = Path(name)
        facts["file system"] = describe_file_system(folder)
        try:
            with PROGRESS.status("making the CT and its delineation"):
                facts["case"] = make_case(folder, asked.seed)
        except DissmError as problem:
            sys.exit(str(problem))
        columns = _columns(folder, asked.threads, asked.runs)
    report(facts, columns).show(asked.json)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.result_objects", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where files are written; default: the temporary folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3, help="each in a fresh process, in turns; the median is shown")
    parser.add_argument("--seed", type=int, default=1, help="of the liver and the noise")
    parser.add_argument("--json", action="store_true")
    return parser


def _columns(folder: Path, threads: int, rounds: int) -> list[Column]:
    runs: dict[str, list[Run]] = {name: [] for name in (*SETS, _PEER)}
    for number in range(rounds):
        PROGRESS.print(f"round {number + 1} of {rounds}")
        for name, kinds in SETS.items():
            runs[name].append(_own(folder, threads, kinds))
        if (peer := _peer(folder)) is not None:
            runs[_PEER].append(peer)
    return [Column(name, tuple(found)) for name, found in runs.items() if found]


def _own(folder: Path, threads: int, kinds: Sequence[ObjectKind]) -> Run:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "bench.one_object_set", str(folder), str(out), *kinds],
        env={**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))},
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _peer(folder: Path) -> Run | None:
    """dcmqi writes every frame of the same mask as we do; None where it is not installed."""
    program = shutil.which("itkimage2segimage", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        return None
    out, about = folder / "dcmqi.dcm", folder / "dcmqi.json"
    about.write_text(json.dumps(_peer_metadata()), encoding="utf-8")
    given = ["--inputImageList", str(folder / "mask.nrrd"), "--inputDICOMDirectory", str(folder / "ct")]
    how = ["--outputDICOM", str(out), "--inputMetadata", str(about), "--skip", "0"]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([program, *given, *how], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "writing": {"cpu": cpu, "wall": wall},
        "kinds": {ObjectKind.SEG.value: {"files": 1, "bytes": out.stat().st_size}},
    }


def _peer_metadata() -> dict[str, Any]:
    structure = {"CodeValue": "123037004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Anatomical Structure"}
    liver = {"CodeValue": "10200004", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Liver"}
    segment = {
        "labelID": 1,
        "SegmentDescription": "Liver",
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "bench",
        "SegmentedPropertyCategoryCodeSequence": structure,
        "SegmentedPropertyTypeCodeSequence": liver,
        "recommendedDisplayRGBValue": [221, 130, 101],
    }
    return {
        "ContentCreatorName": "bench",
        "SeriesDescription": "bench",
        "SeriesNumber": "9101",
        "InstanceNumber": "1",
        "segmentAttributes": [[segment]],
    }


def report(facts: Mapping[str, Cell], columns: Sequence[Column]) -> Report:
    """The table and its limits. Seconds are the medians of the columns' runs."""
    rows: list[list[Cell]] = [
        [f"{stage}, {clock} s", *(column.median(stage, clock) for column in columns)]
        for clock in ("cpu", "wall")
        for stage in ("writing", "proving")
    ]
    rows += [[f"{kind}, MB", *(column.megabytes(kind) for column in columns)] for kind in ObjectKind]
    return Report(
        title="Objects of a CT of 512x512x300, each set in a fresh process, median of the rounds",
        facts=facts,
        columns=["", *(column.name for column in columns)],
        rows=rows,
        limits=[limit for column in columns if column.name in SETS for limit in _limits(column)],
        notes=[
            "MB: 10^6 bytes. dcmqi reads the CT's files, too, and proves nothing; ours has the CT in memory by then.",
            "Limits are of the processor's seconds, which other programs on the machine change less than the clock's.",
        ],
    )


def _limits(column: Column) -> list[Limit]:
    found = []
    if column.name in MAX_SECONDS:
        found.append(Limit(f"written and proven: {column.name}", column.whole("cpu"), MAX_SECONDS[column.name], "s"))
    if column.name == "all":
        found += [Limit(str(kind), column.megabytes(kind) or 0.0, most, "MB") for kind, most in MAX_MB.items()]
    return found


if __name__ == "__main__":
    main()
