"""One set of objects written and proven in a process of its own, as a worker would; `bench.result_objects` starts it.

python -m bench.one_object_set FOLDER OUT KIND...: FOLDER is what `bench.object_case` made. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.machine import peak_memory_bytes
from bench.object_case import CREATED_AT, INPUT_DIGEST, load_case
from dicom_node.results import proof, write
from dicom_node.results.proof_request import ProofRequest
from dicom_node.settings import ResultSettings
from dicom_node.values.results import ObjectKind, WrittenObject

Seconds = dict[str, float]
"""`cpu` and `wall`."""


@contextmanager
def _timed() -> Iterator[Seconds]:
    """CPU seconds of all threads of this process, and wall seconds, of the block."""
    taken: Seconds = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield taken
    taken["cpu"], taken["wall"] = time.process_time() - cpu, time.perf_counter() - wall


def measure(folder: Path, out: Path, kinds: tuple[ObjectKind, ...]) -> dict[str, object]:
    """Seconds of writing and proving, and the bytes of each kind."""
    stack, delineation = load_case(folder)
    with _timed() as writing:
        written = write.write_results(
            stack,
            delineation,
            ResultSettings(),
            out,
            input_digest=INPUT_DIGEST,
            created_at=CREATED_AT,
            kinds=kinds,
        )
    findings = delineation.findings
    request = ProofRequest(
        stack, delineation, ProofRequest.files_of(written), mark=findings.verdict, reasons=findings.reasons
    )
    with _timed() as proving:
        proof.prove(request)
    return {"writing": writing, "proving": proving, "kinds": _sizes(written), "peak_bytes": peak_memory_bytes()}


def _sizes(written: tuple[WrittenObject, ...]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for item in written:
        size = found.setdefault(item.kind.value, {"files": 0, "bytes": 0})
        size["files"] += 1
        size["bytes"] += item.path.stat().st_size
    return found


def main() -> None:
    folder, out, *kinds = sys.argv[1:]
    print(json.dumps(measure(Path(folder), Path(out), tuple(ObjectKind(kind) for kind in kinds))))


if __name__ == "__main__":
    main()
