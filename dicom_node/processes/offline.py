"""`dissm-node process`: the node's path over folders and archives, without a network (D2).

Everything lies in the output folder: the catalogue with its audit (`audit.sqlite`), the spool, and one folder with the
objects of each case. Called again on the same folder it goes on where it stopped.
"""

from __future__ import annotations

import multiprocessing
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import structlog

from dicom_node.admit.admission import admit_stacks
from dicom_node.assemble.completeness import settle_every_series
from dicom_node.assemble.content_comparison import compare_waiting
from dicom_node.assemble.stacks import assemble_settled_series
from dicom_node.catalog import audit
from dicom_node.catalog.case_results import proven_objects
from dicom_node.catalog.database import Recorder, View, open_catalog
from dicom_node.catalog.database_url import sqlite_url
from dicom_node.catalog.histories import all_series_histories, cases_in_motion, newest_cases
from dicom_node.catalog.leases import attempts_in_all, unfinished_cases
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.verify import anchor_head
from dicom_node.processes.case_processing import Engine
from dicom_node.processes.control_process import stack_builder
from dicom_node.processes.logs import configure_logs
from dicom_node.processes.worker_process import work_once
from dicom_node.receive.importing import ImportCounts, ImportFailedError, import_folder
from dicom_node.settings import Settings
from dicom_node.values.case_history import CaseRecord, SeriesHistory
from dicom_node.values.facts import Facts
from dicom_node.work.lost_cases import requeue_lost_cases
from dissm_engine.atomic_file import atomic_path
from dissm_engine.errors import DissmError

_log = structlog.get_logger()
_PROCESS = "process"
_LOOK_SECONDS = 0.3
_BROKEN = (CaseState.FAILED, CaseState.PARKED)
EngineLoader = Callable[[Settings], Engine]
Watch = Callable[[Sequence[CaseRecord]], None]
"""Called now and then with the cases that are being worked on or moved since the last call."""


@dataclass(frozen=True)
class OfflineReport:
    """What became of the inputs. imports: per input its counts, or why it could not be read."""

    imports: dict[str, ImportCounts | str]
    series: tuple[SeriesHistory, ...]
    cases: tuple[CaseRecord, ...]

    @property
    def exit_code(self) -> int:
        """0: everything was proven, held or refused by its reason. 1: something failed. 2: nothing could be read."""
        unread = [name for name, found in self.imports.items() if isinstance(found, str)]
        if len(unread) == len(self.imports):
            return 2
        return 1 if unread or any(case.state in _BROKEN for case in self.cases) else 0

    def to_json(self) -> Facts:
        """For `--json`."""
        imports = {name: found if isinstance(found, str) else asdict(found) for name, found in self.imports.items()}
        return {
            "imports": imports,
            "series": [series.to_json() for series in self.series],
            "cases": [case.to_json() for case in self.cases],
        }


def process_folders(
    inputs: Sequence[Path], out: Path, settings: Settings, *, load: EngineLoader, jobs: int = 1, watch: Watch
) -> OfflineReport:
    """Import, assemble, admit, delineate, prove, and copy the objects to OUT/<case>/.

    load: makes the engine in each working process (a function of a module when jobs > 1). Raises DissmError.
    """
    settings = offline_settings(settings, out, jobs)
    out.mkdir(parents=True, exist_ok=True)
    settings.node.spool.mkdir(exist_ok=True, mode=0o700)
    catalog = open_catalog(settings.node.catalog_url)
    recorder = catalog.acting_as(_PROCESS)
    try:
        imports = {str(source): _import(recorder, settings, source) for source in inputs}
        compare_waiting(recorder, settings.node.spool)
        settle_every_series(recorder)
        assemble_settled_series(recorder, stack_builder(settings))
        admit_stacks(recorder, settings.admit, settings.node.spool)
        _work(recorder, settings, load, jobs, watch)
        _copy_objects(recorder, settings.node.spool, out)
        anchor_head(recorder, settings.node.audit_anchor)
        with recorder.read() as view:
            return OfflineReport(imports, tuple(all_series_histories(view)), tuple(newest_cases(view)))
    finally:
        catalog.close()


def offline_settings(settings: Settings, out: Path, jobs: int) -> Settings:
    """The site's rules, but everything in `out`, the threads shared by the jobs, and nobody to send to."""
    node = settings.node.model_copy(
        update={"data_folder": out.absolute(), "database_url": sqlite_url(out / "audit.sqlite")}
    )
    work = settings.work.model_copy(update={"threads": max(1, settings.work.threads // jobs)})
    return settings.model_copy(update={"node": node, "work": work, "destinations": ()})


def _import(recorder: Recorder, settings: Settings, source: Path) -> ImportCounts | str:
    try:
        return import_folder(recorder, settings.node.spool, source)
    except ImportFailedError as problem:
        return str(problem)


def _work(recorder: Recorder, settings: Settings, load: EngineLoader, jobs: int, watch: Watch) -> None:
    """Work until no case waits; a case whose worker died or fell is tried again like anywhere else."""
    while _count(recorder, unfinished_cases):
        attempts = _count(recorder, attempts_in_all)
        requeue_lost_cases(recorder, settings.work.max_attempts)
        stop = threading.Event()
        with _executor(jobs) as pool:
            own = stop if jobs == 1 else None
            running = {pool.submit(_work_off, settings, load, f"{_PROCESS}-{n + 1}", own) for n in range(jobs)}
            seen_until = datetime.min
            try:
                while wait(running, timeout=_LOOK_SECONDS).not_done:
                    seen_until = _report(recorder, watch, seen_until)
            except KeyboardInterrupt:
                stop.set()
                raise
        _report(recorder, watch, seen_until)
        # Where the image spoke against a stack, the next one of its study gets its turn.
        admit_stacks(recorder, settings.admit, settings.node.spool)
        for ended in running:
            problem = ended.exception()
            # Where no case was even taken, the next round would end like this one.
            if isinstance(problem, DissmError) or (problem and _count(recorder, attempts_in_all) == attempts):
                raise problem
            if problem:
                _log.error("a worker fell, its case is tried again", exc_info=problem)


def _report(recorder: Recorder, watch: Watch, since: datetime) -> datetime:
    """Show what moved since then; the time up to which it was seen."""
    now = audit.utc_now()
    with recorder.read() as view:
        watch(cases_in_motion(view, since))
    return now


def _executor(jobs: int) -> Executor:
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _work_off(settings: Settings, load: EngineLoader, name: str, stop: threading.Event | None) -> None:
    """Work off every queued case; runs in a thread of its own or in a process of its own."""
    configure_logs("warning", name)
    catalog = open_catalog(settings.node.catalog_url)
    engine, recorder = load(settings), catalog.acting_as(name)
    while (stop is None or not stop.is_set()) and work_once(settings, recorder, engine, stop):
        pass
    catalog.close()


def _count(recorder: Recorder, count: Callable[[View], int]) -> int:
    with recorder.read() as view:
        return count(view)


def _copy_objects(recorder: Recorder, spool: Path, out: Path) -> None:
    with recorder.read() as view:
        proven = proven_objects(view)
    for item in proven:
        target = out / item.case_id / Path(item.path).name
        target.parent.mkdir(exist_ok=True, mode=0o700)
        with atomic_path(target) as partial:
            # `copy` takes the mode along: readable by its owner only (C10).
            shutil.copy(spool / item.path, partial)
