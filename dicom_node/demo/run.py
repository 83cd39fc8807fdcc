"""`dissm-node demo` from its first line to its last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.verify import read_anchor, verify
from dicom_node.demo.archive import Archive
from dicom_node.demo.node import RunningNode, running_node, start_command, write_settings
from dicom_node.demo.overview import draw_overview
from dicom_node.demo.report import histories_of, print_log, print_returned, print_verdicts
from dicom_node.demo.returned import Returned, dice, read_returned
from dicom_node.demo.source import CtSource, given_source, synthetic_source
from dicom_node.demo.watching import follow_to_the_end
from dicom_node.reasons import DEMO_SEND_FAILED, RESULT_REJECTED, NodeError
from dicom_node.values.case_history import CaseHistory, CaseRecord
from dicom_node.values.results import ObjectKind
from dissm_engine.bundle import Bundle
from dissm_engine.errors import DissmError

DEFAULT_SEED = 1
_MAX_SECONDS = 1800.0
_BY_REASON = {CaseState.DELIVERED, CaseState.REFUSED, CaseState.SUPERSEDED}
"""Ends that are as they should be. A result that is held because the engine rejects it is told apart."""


@dataclass(frozen=True)
class _Demo:
    """What the steps of one run share. folder: the node's own, removed at the end unless it is kept."""

    console: Console
    out: Path
    folder: Path
    command: Callable[[Path], Sequence[str]]


def run_demo(
    given: Path | None,
    out: Path,
    *,
    keep: bool = False,
    seed: int = DEFAULT_SEED,
    console: Console | None = None,
    command: Callable[[Path], Sequence[str]] = start_command,
) -> int:
    """Send a CT to a node of its own and show everything that comes of it.

    given: folder, or .tar/.tar.xz/... of DICOM; None makes a synthetic CT by `seed`. out: gets `archive/` with what
    came back and `overview.png`. keep: leaves the node's folder (settings, spool, catalogue, log) in `out`.
    command: how the node is started from its settings file.
    Returns 0 only if a case was delivered, both of its objects are back, re-read and lie right, and everything else
    was refused by a reason. Raises DissmError for an input, bundle or node that cannot be used.
    """
    started = time.monotonic()
    shown = console or Console()
    with _private_files(), _own_folder(_made(out), keep) as folder:
        right = _run(_Demo(shown, out, folder, command), given, seed)
        if keep:
            shown.print(Text(f"the node's folder: {folder}"))
    shown.print()
    shown.print(Text(f"whole run: {time.monotonic() - started:.1f} s", "bold"))
    return 0 if right else 1


def _run(demo: _Demo, given: Path | None, seed: int) -> bool:
    source = _source(demo, given, seed)
    demo.console.print(Text(f"sending {len(source.images)} images of {source.name}", "bold"))
    if source.others:
        demo.console.print(f"{source.others} files are no DICOM images and are not sent")
    _remove_pictures(demo.out)
    with Archive(_emptied(demo.out / "archive")) as archive:
        settings_file = write_settings(demo.folder, archive)
        with running_node(settings_file, demo.command(settings_file)) as node:
            catalog = Catalog(node.settings.node.catalog_url)
            _send(demo, node, source)
            follow_to_the_end(node, catalog, demo.console, _MAX_SECONDS)
        files = {kept.sop_instance_uid: kept.path for kept in archive.kept}
    with catalog.read() as view:
        series, cases = histories_of(view)
        chain = verify(view, read_anchor(node.settings.node.audit_anchor))
        print_verdicts(demo.console, series, cases)
        right = _returned_right(demo, source, cases, files)
        print_log(demo.console, view, chain)
    catalog.close()
    return right and chain.untouched


def _source(demo: _Demo, given: Path | None, seed: int) -> CtSource:
    if given is not None:
        return given_source(given, demo.folder / "unpacked")
    with demo.console.status("making a synthetic CT"):
        return synthetic_source(Bundle.load().model.shape, seed, demo.folder / "synthetic")


def _send(demo: _Demo, node: RunningNode, source: CtSource) -> None:
    """From another process, as a scanner would. Raises NodeError if nothing could be sent at all."""
    listed = demo.folder / "files.txt"
    listed.write_text("\n".join(str(path.absolute()) for path in source.images.values()), encoding="utf-8")
    listen = node.settings.listen
    sender = [sys.executable, "-m", "dicom_node.demo.sender", listen.address, str(listen.port), listen.ae_title]
    done = subprocess.run([*sender, str(listed)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NodeError(DEMO_SEND_FAILED, problem=done.stderr.strip()[-300:])
    sent: dict[str, Any] = json.loads(done.stdout)
    answers = ", ".join(f"{count} answered {answer}" for answer, count in sent["answers"].items())
    demo.console.print(f"sent by C-STORE in {sent['seconds']:.1f} s: {answers}")


def _returned_right(demo: _Demo, source: CtSource, cases: Mapping[str, CaseHistory], files: dict[str, Path]) -> bool:
    """Print and draw what came back. True if a case came back and all of it is right, and all others have a reason."""
    delivered = [history for history in cases.values() if history.case.state == CaseState.DELIVERED]
    right = bool(delivered)
    for number, history in enumerate(delivered):
        picture = demo.out / ("overview.png" if number == 0 else f"overview-{number + 1}.png")
        right &= _case_right(demo, source, history, files, picture)
    if not delivered:
        demo.console.print(Text("\nnothing was delivered", "bold red"))
    ends = [history.case for history in cases.values()]
    return right and all(case.state in _BY_REASON or _rejected(case) for case in ends)


def _rejected(case: CaseRecord) -> bool:
    reason = case.reason.code if case.reason else None
    return case.state == CaseState.HELD and reason == RESULT_REJECTED.code


def _case_right(demo: _Demo, source: CtSource, history: CaseHistory, files: dict[str, Path], picture: Path) -> bool:
    back = {item.kind: files[item.sop_instance_uid] for item in history.objects if item.sop_instance_uid in files}
    missing = {ObjectKind.SEG, ObjectKind.SURFACE} - set(back)
    if missing:
        demo.console.print(
            Text(f"\ncase {history.case.id}: not in the archive: {', '.join(sorted(missing))}", "bold red")
        )
        return False
    try:
        returned = read_returned(back[ObjectKind.SEG], back[ObjectKind.SURFACE], source.images)
    except DissmError as problem:
        demo.console.print(Text(f"\ncase {history.case.id}: {problem}", "bold red"))
        return False
    dsc = dice(returned.mask, returned.stack.volume.grid, source.truth) if source.truth else None
    print_returned(demo.console, history.case.id, returned, {kind: str(path) for kind, path in back.items()}, dsc)
    if returned.mask.any():
        _draw(returned, history, dsc, picture)
        demo.console.print(Text(f"  picture  {picture}"))
    return returned.right


def _draw(returned: Returned, history: CaseHistory, dsc: float | None, picture: Path) -> None:
    results, case = history.results, history.case
    assert results is not None, "a delivered case was delineated"
    lines = [
        f"estimated DSC {results.estimated_dsc:.2f}",
        *([f"DSC with the truth {dsc:.3f}"] if dsc is not None else []),
        f"phase {results.phase.phase}",
        f"bundle {results.bundle_name} {results.bundle_version}",
    ]
    title = f"Case {case.id}: liver {returned.volume_ml:.0f} ml, {case.verdict}"
    draw_overview(returned.stack.volume, returned.mask, returned.mesh, title, lines, picture)


def _emptied(folder: Path) -> Path:
    """The archive's folder without the objects of an earlier run; nothing but those is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for old in folder.glob("[0-9][0-9][0-9][0-9].dcm"):
        old.unlink()
    return folder


def _remove_pictures(out: Path) -> None:
    """Those of an earlier run: after one that ends without a result they would be taken for its own."""
    for old in [*out.glob("overview.png"), *out.glob("overview-[0-9]*.png")]:
        old.unlink()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _private_files() -> Iterator[None]:
    """Whatever this process makes meanwhile is readable by its owner only: what comes back names the patient (C10)."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _own_folder(out: Path, keep: bool) -> Iterator[Path]:
    """A new folder beside the results, readable by its owner only: images never lie anywhere else (C10)."""
    folder = Path(tempfile.mkdtemp(prefix="node-", dir=out)).absolute()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)
