from __future__ import annotations

import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.catalog.database import View, open_existing
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.verify import read_anchor, verify
from dicom_node.processes.offline import OfflineReport, process_folders
from dicom_node.processes.worker_process import work_once
from dicom_node.receive.importing import ImportCounts
from dicom_node.settings import Settings
from dicom_node.values.case_history import CaseRecord
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Verdict
from dissm_engine.progress import Cancellation, Progress, no_progress
from dissm_engine.volume import Volume
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake, running_listener
from tests.builders.rows import rows
from tests.builders.senders import storescu
from tests.work.engines import load_quick, load_rejecting


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three studies."""
    folders = []
    for name in ("a", "b", "c"):
        folder = tmp_path_factory.mktemp(name)
        write_ct_series(folder, abdomen(), name=name, study=name, series_description="Abdomen portal venous")
        folders.append(folder)
    return folders


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Intake]:
    """A node that listens."""
    opened = Intake(tmp_path / "node")
    with running_listener(opened.settings, opened.catalog):
        yield opened
    opened.close()


def silently(_cases: Sequence[CaseRecord]) -> None:
    """Nobody watches."""


def states(report: OfflineReport) -> list[str]:
    return [case.state for case in report.cases]


def test_a_folder_becomes_proven_objects_beside_an_audit_that_verifies(tmp_path: Path, folders: list[Path]) -> None:
    out = tmp_path / "out"
    report = process_folders(folders[:1], out, Settings(), load=load_quick, watch=silently)
    assert (states(report), report.exit_code) == ([CaseState.PROVEN], 0)
    case = report.cases[0].id
    assert sorted(each.name for each in (out / case).iterdir()) == ["seg.dcm", "surface.dcm"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in (out / case).iterdir()} == {0o600}
    catalog = open_existing(out / "audit.sqlite")
    with rows(catalog) as session:
        verdict = verify(View(session), read_anchor(out / "audit.head"))
    catalog.close()
    # Behind the anchored row comes the one that says so.
    assert (verdict.untouched, verdict.anchored_row) == (True, verdict.rows - 1)


def test_the_same_folder_again_makes_nothing_twice(tmp_path: Path, folders: list[Path]) -> None:
    first = process_folders(folders[:1], tmp_path, Settings(), load=load_quick, watch=silently)
    again = process_folders(folders[:1], tmp_path, Settings(), load=load_quick, watch=silently)
    assert again.cases == first.cases
    counts = again.imports[str(folders[0])]
    assert isinstance(counts, ImportCounts)
    assert (counts.stored, counts.known) == (0, 60)


def test_several_processes_share_the_work(tmp_path: Path, folders: list[Path]) -> None:
    seen: set[str] = set()
    report = process_folders(
        folders,
        tmp_path,
        Settings(),
        load=load_quick,
        jobs=2,
        watch=lambda cases: seen.update(case.id for case in cases),
    )
    assert states(report) == [CaseState.PROVEN] * 3
    assert seen == {case.id for case in report.cases}


def test_an_archive_is_as_good_as_a_folder(tmp_path: Path, folders: list[Path]) -> None:
    archive = tmp_path / "study.tar.xz"
    with tarfile.open(archive, "w:xz") as packed:
        packed.add(folders[1], arcname="study")
    report = process_folders([archive], tmp_path / "out", Settings(), load=load_quick, watch=silently)
    assert states(report) == [CaseState.PROVEN]


def test_what_cannot_be_read_is_said_and_the_rest_is_done(tmp_path: Path, folders: list[Path]) -> None:
    (tmp_path / "empty").mkdir()
    inputs = [tmp_path / "empty", tmp_path / "absent", folders[0]]
    report = process_folders(inputs, tmp_path / "out", Settings(), load=load_quick, watch=silently)
    assert (states(report), report.exit_code) == ([CaseState.PROVEN], 1)
    assert all(isinstance(report.imports[str(each)], str) for each in inputs[:2])
    nothing = process_folders(inputs[:1], tmp_path / "other", Settings(), load=load_quick, watch=silently)
    assert nothing.exit_code == 2


def test_no_result_comes_of_an_archive_that_was_cut_off(tmp_path: Path, folders: list[Path]) -> None:
    archive = tmp_path / "study.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folders[1], arcname="study")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * 0.9)])
    report = process_folders([archive, folders[0]], tmp_path / "out", Settings(), load=load_quick, watch=silently)
    assert (states(report), report.exit_code) == ([CaseState.PROVEN], 1)
    assert "cannot be read" in str(report.imports[str(archive)])


def test_a_rejected_result_leaves_no_object_in_the_output(tmp_path: Path, folders: list[Path]) -> None:
    report = process_folders(folders[:1], tmp_path, Settings(), load=load_rejecting, watch=silently)
    assert states(report) == [CaseState.HELD]
    assert list(tmp_path.glob("*/*.dcm")) == []


class Interrupted(EllipsoidEngine):
    """Fails once for a reason of the machine."""

    failed = False

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        if not Interrupted.failed:
            Interrupted.failed = True
            raise MemoryError
        return super().delineate(volume, progress, cancellation)


def test_a_worker_that_falls_is_replaced_and_its_case_tried_again_in_the_same_run(
    tmp_path: Path, folders: list[Path]
) -> None:
    def load(_settings: Settings) -> Interrupted:
        return Interrupted(verdict=Verdict.ACCEPT)

    Interrupted.failed = False
    report = process_folders(folders[:2], tmp_path, Settings(), load=load, watch=silently)
    assert [case.state for case in report.cases] == [CaseState.PROVEN] * 2
    assert sorted(case.attempt for case in report.cases) == [1, 2]


def test_an_engine_that_cannot_be_loaded_ends_the_run(tmp_path: Path, folders: list[Path]) -> None:
    def load(_settings: Settings) -> Interrupted:
        raise MemoryError

    with pytest.raises(MemoryError):
        process_folders(folders[:1], tmp_path, Settings(), load=load, watch=silently)
    again = process_folders(folders[:1], tmp_path, Settings(), load=load_quick, watch=silently)
    assert states(again) == [CaseState.PROVEN]


def test_process_and_a_node_give_the_same_uids_for_one_ct_in_any_transfer_syntax(tmp_path: Path, node: Intake) -> None:
    """The node takes it by network in implicit VR, with the texts that a PACS changed."""
    found = set()
    for syntax in (ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless):
        folder, out = tmp_path / f"ct {syntax}", tmp_path / f"out {syntax}"
        write_ct_series(folder, abdomen(), transfer_syntax=syntax)
        report = process_folders([folder], out, Settings(), load=load_quick, watch=silently)
        found.add(result_uids(out, report.cases[0].id))
    coerced = {"PatientName": "DOE^JANE", "PatientID": "MASTER-7", "StudyDescription": "CT ABDOMEN"}
    write_ct_series(tmp_path / "sent", abdomen(), transfer_syntax=ImplicitVRLittleEndian, attributes=coerced)
    assert storescu(node, tmp_path / "sent") == 0
    node.decide()
    (case,) = node.cases()
    assert work_once(node.settings, node.catalog.acting_as("worker-1"), load_quick(node.settings))
    found.add(result_uids(node.settings.node.spool / "results", f"{case.id}/1"))
    assert len(found) == 1


def test_a_folder_that_holds_one_ct_in_two_encodings_makes_the_result_of_one(tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct" / "a", abdomen())
    write_ct_series(tmp_path / "ct" / "b", abdomen(), transfer_syntax=RLELossless)
    write_ct_series(tmp_path / "one", abdomen())
    both = process_folders([tmp_path / "ct"], tmp_path / "out", Settings(), load=load_quick, watch=silently)
    one = process_folders([tmp_path / "one"], tmp_path / "out one", Settings(), load=load_quick, watch=silently)
    counts = both.imports[str(tmp_path / "ct")]
    assert isinstance(counts, ImportCounts)
    assert (counts.stored, counts.set_aside) == (60, 60)
    assert both.series[0].series.quarantined == 0
    assert result_uids(tmp_path / "out", both.cases[0].id) == result_uids(tmp_path / "out one", one.cases[0].id)


def result_uids(out: Path, case: str) -> tuple[str, ...]:
    """Of series and objects."""
    read = [pydicom.dcmread(out / case / f"{kind}.dcm", stop_before_pixels=True) for kind in ("seg", "surface")]
    return tuple(str(uid) for one in read for uid in (one.SeriesInstanceUID, one.SOPInstanceUID))
