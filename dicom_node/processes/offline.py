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
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.admit.admission import admit_stacks
from dicom_node.assemble.completeness import settle_quiet_series
from dicom_node.assemble.stacks import assemble_settled_series
from dicom_node.catalog.database import Catalog, open_catalog, sqlite_url
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case, ResultObject, Series
from dicom_node.catalog.verify import anchor_head
from dicom_node.processes.case_processing import Engine
from dicom_node.processes.logs import configure_logs
from dicom_node.processes.worker_process import work_once
from dicom_node.receive.importing import ImportCounts, ImportFailedError, import_folder
from dicom_node.settings import Settings
from dicom_node.watch.case_history import Story, case_lines, series_story
from dicom_node.work.lease import requeue_lost_cases
from dissm_engine.errors import DissmError

_log = structlog.get_logger()
_PROCESS = "process"
_LOOK_SECONDS = 0.3
_UNFINISHED = (CaseState.QUEUED, CaseState.RUNNING, CaseState.DELINEATED)
_BROKEN = (CaseState.FAILED, CaseState.PARKED)
EngineLoader = Callable[[Settings], Engine]
Watch = Callable[[list[Story]], None]
"""Called now and then with one line for each case."""


@dataclass(frozen=True)
class OfflineReport:
    """What became of the inputs. imports: per input its counts, or why it could not be read."""

    imports: dict[str, ImportCounts | str]
    series: tuple[Story, ...]
    cases: tuple[Story, ...]

    @property
    def exit_code(self) -> int:
        """0: everything was proven, held or refused by its reason. 1: something failed. 2: nothing could be read."""
        unread = [name for name, found in self.imports.items() if isinstance(found, str)]
        if len(unread) == len(self.imports):
            return 2
        return 1 if unread or any(case["state"] in _BROKEN for case in self.cases) else 0

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        imports = {name: found if isinstance(found, str) else asdict(found) for name, found in self.imports.items()}
        return {"imports": imports, "series": list(self.series), "cases": list(self.cases)}


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
    try:
        imports = {str(source): _import(catalog, settings, source) for source in inputs}
        settle_quiet_series(catalog, settings.assemble, process=_PROCESS)
        assemble_settled_series(catalog, settings)
        admit_stacks(catalog, settings, process=_PROCESS)
        _work(catalog, settings, load, jobs, watch)
        _copy_objects(catalog, settings, out)
        anchor_head(catalog, settings.node.audit_anchor, process=_PROCESS)
        with catalog.read() as session:
            return OfflineReport(imports, tuple(_all_series(session)), tuple(case_lines(session, 1_000_000)))
    finally:
        catalog.close()


def offline_settings(settings: Settings, out: Path, jobs: int) -> Settings:
    """The site's rules, but everything in `out`, nothing to wait for and nobody to send to."""
    node = settings.node.model_copy(
        update={"data_folder": out.absolute(), "database_url": sqlite_url(out / "audit.sqlite")}
    )
    assemble = settings.assemble.model_copy(update={"quiet_seconds": 0.0, "max_receiving_seconds": float("1e9")})
    work = settings.work.model_copy(update={"threads": max(1, settings.work.threads // jobs)})
    return settings.model_copy(update={"node": node, "assemble": assemble, "work": work, "destinations": ()})


def _import(catalog: Catalog, settings: Settings, source: Path) -> ImportCounts | str:
    try:
        return import_folder(catalog, settings.node.spool, source, process=_PROCESS)
    except ImportFailedError as problem:
        return str(problem)


def _work(catalog: Catalog, settings: Settings, load: EngineLoader, jobs: int, watch: Watch) -> None:
    """Work until no case waits; a case whose worker died or fell is tried again like anywhere else."""
    while _waiting(catalog):
        attempts = _attempts(catalog)
        requeue_lost_cases(catalog, settings.work.max_attempts, process=_PROCESS)
        stop = threading.Event()
        with _executor(jobs) as pool:
            own = stop if jobs == 1 else None
            running = {pool.submit(_work_off, settings, load, f"{_PROCESS}-{n + 1}", own) for n in range(jobs)}
            try:
                while wait(running, timeout=_LOOK_SECONDS).not_done:
                    watch(_lines(catalog))
            except KeyboardInterrupt:
                stop.set()
                raise
        watch(_lines(catalog))
        for ended in running:
            problem = ended.exception()
            # Where no case was even taken, the next round would end like this one.
            if isinstance(problem, DissmError) or (problem and _attempts(catalog) == attempts):
                raise problem
            if problem:
                _log.error("a worker fell, its case is tried again", exc_info=problem)


def _executor(jobs: int) -> Executor:
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _work_off(settings: Settings, load: EngineLoader, name: str, stop: threading.Event | None) -> None:
    """Work off every queued case; runs in a thread of its own or in a process of its own."""
    configure_logs("warning", name)
    catalog = open_catalog(settings.node.catalog_url)
    engine = load(settings)
    while (stop is None or not stop.is_set()) and work_once(settings, catalog, name, engine, stop):
        pass
    catalog.close()


def _waiting(catalog: Catalog) -> int:
    with catalog.read() as session:
        return session.scalar(select(func.count()).select_from(Case).where(Case.state.in_(_UNFINISHED))) or 0


def _attempts(catalog: Catalog) -> int:
    """How often any case was ever taken."""
    with catalog.read() as session:
        return session.scalar(select(func.sum(Case.attempt))) or 0


def _lines(catalog: Catalog) -> list[Story]:
    with catalog.read() as session:
        return case_lines(session, 1_000_000)


def _copy_objects(catalog: Catalog, settings: Settings, out: Path) -> None:
    with catalog.read() as session:
        proven = session.execute(
            select(Case.id, ResultObject.kind, ResultObject.path)
            .join(ResultObject, ResultObject.case_id == Case.id)
            .where(Case.state == CaseState.PROVEN, ResultObject.attempt == Case.attempt)
        ).all()
    for case_id, kind, path in proven:
        target = out / case_id / f"{kind}.dcm"
        target.parent.mkdir(exist_ok=True, mode=0o700)
        aside = target.with_suffix(".new")
        # `copy` takes the mode along: readable by its owner only (C10).
        shutil.copy(settings.node.spool / path, aside)
        aside.replace(target)


def _all_series(session: Session) -> list[Story]:
    return [series_story(session, uid) for uid in session.scalars(select(Series.series_instance_uid))]
