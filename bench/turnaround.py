"""From the last slice sent to both objects in the archive, for a CT of 512 x 512 x 200: python -m bench.turnaround."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom.uid import SegmentationStorage, SurfaceSegmentationStorage

from bench.machine import describe_file_system, describe_machine
from bench.report import PROGRESS, Cell, Limit, Report
from bench.synthetic_ct import BenchmarkCt, benchmark_ct
from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.histories import newest_cases, newest_series
from dicom_node.demo.archive import Archive
from dicom_node.demo.ct_images import SyntheticStudy, write_ct_images
from dicom_node.demo.node import RunningNode, running_node, write_settings
from dicom_node.demo.watching import look
from dissm_engine.bundle import Bundle
from dissm_engine.errors import DissmError

MAX_SECONDS_BEYOND_QUIET = 40.0
_MAX_WAIT_SECONDS = 600.0
_LOOK_SECONDS, _LOOKS_PER_QUESTION = 0.02, 50
_OBJECTS = {str(SegmentationStorage): "SEG in the archive", str(SurfaceSegmentationStorage): "surface in the archive"}


class NothingCameBackError(Exception):
    """The node ended the case without sending both objects."""


def main(arguments: Sequence[str] | None = None) -> None:
    asked = _arguments().parse_args(arguments)
    facts: dict[str, Cell] = dict(describe_machine())
    try:
        with tempfile.TemporaryDirectory(prefix="dissm-bench-", dir=asked.folder) as name:
            report = _measured(Path(name), asked.bundle, asked.seed, facts)
    except (DissmError, NothingCameBackError) as problem:
        sys.exit(str(problem))
    report.show(asked.json)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.turnaround", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="folder or zip; default: the bundle that ships with the engine")
    parser.add_argument("--folder", type=Path, help="where the node keeps its data; default: the temporary folder")
    parser.add_argument("--seed", type=int, default=1, help="of the phantom")
    parser.add_argument("--json", action="store_true")
    return parser


def _measured(folder: Path, bundle: Path | None, seed: int, facts: dict[str, Cell]) -> Report:
    with PROGRESS.status("making the synthetic CT"):
        model = Bundle.load(bundle)
        ct = benchmark_ct(model, seed)
        images = write_ct_images(ct.phantom.volume, SyntheticStudy(seed), folder / "images")
    with Archive(folder / "archive") as archive:
        with running_node(write_settings(folder, archive, bundle.absolute() if bundle else None)) as node:
            catalog = Catalog(node.settings.node.catalog_url)
            sent = _send(node, images, folder)
            arrived = _wait_for_objects(node, archive, catalog)
        steps = [*_steps(catalog), *((_OBJECTS[kind], at) for kind, at in arrived.items())]
        last_slice = _last_slice_at(catalog)
        catalog.close()
    facts |= {"bundle": f"{model.name} {model.version} {model.digest[:12]}", **_input_facts(node, ct, sent, folder)}
    return _report(facts, node.settings.assemble.quiet_seconds, last_slice, steps, max(arrived.values()))


def _send(node: RunningNode, images: Sequence[Path], folder: Path) -> Mapping[str, Any]:
    """From another process, as a scanner would. Raises NothingCameBackError unless every slice was taken."""
    PROGRESS.print(f"sending {len(images)} images")
    listed = folder / "files.txt"
    listed.write_text("\n".join(str(path.absolute()) for path in images), encoding="utf-8")
    listen = node.settings.listen
    sender = [sys.executable, "-m", "dicom_node.demo.sender", listen.address, str(listen.port), listen.ae_title]
    done = subprocess.run([*sender, str(listed)], stdout=subprocess.PIPE, text=True, check=True)
    sent: dict[str, Any] = json.loads(done.stdout)
    if sent["answers"] != {"0x0000": len(images)}:
        raise NothingCameBackError(f"not every image was taken: {sent['answers']}")
    return sent


def _wait_for_objects(node: RunningNode, archive: Archive, catalog: Catalog) -> dict[str, datetime]:
    """When each kind of object had come. Raises NothingCameBackError when the case ends without."""
    arrived: dict[str, datetime] = {}
    deadline = time.monotonic() + _MAX_WAIT_SECONDS
    with PROGRESS.status("waiting for the archive"):
        for look_number in itertools.count():
            # The catalogue seldom, not to slow down the node; and before the archive: what a case sent has come then.
            over = look_number % _LOOKS_PER_QUESTION == 0 and _over(catalog)
            for kept in archive.kept:
                arrived.setdefault(kept.sop_class_uid, datetime.now(UTC))
            if _OBJECTS.keys() == arrived.keys():
                break
            node.check_alive()
            if over or time.monotonic() > deadline:
                raise NothingCameBackError(f"the archive got {len(arrived)} of 2 objects; {_ends(catalog)}")
            time.sleep(_LOOK_SECONDS)
    return arrived


def _over(catalog: Catalog) -> bool:
    lines = look(catalog)
    return bool(lines) and all(line.over for line in lines)


def _ends(catalog: Catalog) -> str:
    with catalog.read() as view:
        cases = [f"case {case.id} {case.state} {case.reason or ''}" for case in newest_cases(view)]
    return ", ".join([f"{line.name} {line.state}" for line in look(catalog)] + cases)


def _steps(catalog: Catalog) -> Iterator[tuple[str, datetime]]:
    """When series and case came to each of their states, from the audit."""
    with catalog.read() as view:
        for row in audit.rows(view):
            if row.subject_kind in ("series", "case") and row.to_state and row.to_state != row.from_state:
                yield f"{row.subject_kind} {row.to_state}", datetime.fromisoformat(row.at).replace(tzinfo=UTC)


def _last_slice_at(catalog: Catalog) -> datetime:
    """When the node was about to answer Success for the last slice: a moment before the sender knew."""
    with catalog.read() as view:
        return max(series.last_received_at for series in newest_series(view)).replace(tzinfo=UTC)


def _input_facts(node: RunningNode, ct: BenchmarkCt, sent: Mapping[str, Any], folder: Path) -> dict[str, Cell]:
    return {
        "threads": node.settings.work.threads,
        "ct": ct.description,
        "spool": describe_file_system(folder),
        "sending took": f"{sent['seconds']:.1f} s",
        "quiet time": f"{node.settings.assemble.quiet_seconds:g} s",
    }


def _report(
    facts: Mapping[str, Cell],
    quiet: float,
    last_slice: datetime,
    steps: Sequence[tuple[str, datetime]],
    last_object: datetime,
) -> Report:
    rows: list[tuple[str, float]] = [("last slice stored", 0.0)]
    rows += sorted(
        ((name, (at - last_slice).total_seconds()) for name, at in steps if at > last_slice), key=lambda row: row[1]
    )
    seconds = (last_object - last_slice).total_seconds()
    return Report(
        title="From the last slice sent to both objects in the archive",
        facts=facts,
        columns=["", "seconds"],
        rows=rows,
        limits=[
            Limit(
                f"last slice to both objects, quiet time {quiet:g} s + 40 s",
                seconds,
                quiet + MAX_SECONDS_BEYOND_QUIET,
                "s",
            ),
        ],
    )


if __name__ == "__main__":
    main()
