"""How each real series must end (DICOM.md C9), by the shipped bundle and the node's own path without a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_node.assemble.volume import read_volume
from dicom_node.catalog.database import open_existing
from dicom_node.catalog.histories import case_history
from dicom_node.processes.offline import OfflineReport, process_folders
from dicom_node.processes.worker_process import load_engine
from dicom_node.settings import Settings
from dicom_node.values.case_history import CaseRecord, SeriesRecord
from dicom_node.values.results import FindingRecord
from dissm_engine.volume import Volume
from tests.builders.ct_series import derived_uid, oriented, tilted, write_ct_series

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Ending:
    """How one series ended. case: None where it was not admitted. findings: by name, none where nothing was found."""

    series: SeriesRecord
    case: CaseRecord | None
    findings: Mapping[str, FindingRecord]


@pytest.fixture(scope="module")
def end(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ending]:
    """Process one folder by itself and say how its only series ended."""
    engines: dict[str, Any] = {}

    def load(settings: Settings) -> Any:
        if "engine" not in engines:
            engines["engine"] = load_engine(settings)
        return engines["engine"]

    def run(folder: Path, **tables: Any) -> Ending:
        out = tmp_path_factory.mktemp("out")
        report = processed(folder, out, load, **tables)
        assert len(report.series) == 1
        case = report.cases[0] if report.cases else None
        return Ending(report.series[0].series, case, findings_of(out, case.id) if case else {})

    run.load = load  # type: ignore[attr-defined]
    return run


def processed(folder: Path, out: Path, load: Any, **tables: Any) -> OfflineReport:
    report = process_folders([folder], out, Settings.model_validate(tables), load=load, watch=lambda _: None)
    shutil.rmtree(out / "spool")
    return report


def findings_of(out: Path, case: str) -> dict[str, FindingRecord]:
    """What the engine noticed, as `dissm-node show` tells it."""
    catalog = open_existing(out / "audit.sqlite")
    with catalog.read() as view:
        results = case_history(view, case).results
    catalog.close()
    return {item.name: item for item in results.findings} if results else {}


def code_of(case: CaseRecord) -> str | None:
    return case.reason.code if case.reason else None


@pytest.fixture(scope="module")
def venous(hcc_048: Path) -> Volume:
    return read_volume(sorted(hcc_048.rglob("*.dcm"))).volume


@pytest.fixture(scope="module")
def original(end: Callable[..., Ending], hcc_048: Path) -> Ending:
    return end(hcc_048)


def by_height(folder: Path) -> list[Path]:
    """The files of a series from feet to head."""
    return sorted(folder.rglob("*.dcm"), key=lambda p: float(header(p).ImagePositionPatient[2]))


def header(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def copied(files: list[Path], target: Path) -> Path:
    target.mkdir(exist_ok=True)
    for file in files:
        shutil.copy(file, target / file.name)
    return target


def is_delivered_venous(ending: Ending) -> bool:
    return ending.case is not None and ending.case.state == "PROVEN" and ending.case.phase == "venous"


def says_that_the_liver_was_cut(ending: Ending) -> bool:
    cut = ending.findings["cut_share"]
    return cut.remarkable and cut.value is not None and cut.high is not None and cut.value > cut.high


def test_hcc_048_is_admitted_as_venous_and_delineated(original: Ending) -> None:
    assert is_delivered_venous(original)
    assert not says_that_the_liver_was_cut(original)
    assert original.case is not None
    # By eye, slice by slice: docs/pictures/hcc_048.png. Leaks into spleen or stomach gave 1700 ml and more.
    assert 1350 < original.case.volume_ml < 1650


def test_of_two_phases_under_one_series_uid_the_portal_one_is_delineated_and_the_arterial_refused(
    end: Callable[..., Ending], hcc_002: Path, tmp_path: Path
) -> None:
    report = processed(hcc_002, tmp_path / "out", end.load)  # type: ignore[attr-defined]
    assert len(report.series) == 1
    stacks = {history.stack.label: history for history in report.series[0].stacks}
    assert len(stacks) == 2
    by_label = {label: history.cases[0] for label, history in stacks.items() if history.cases}
    arterial = next(case for label, case in by_label.items() if "1" in label)
    portal = next(case for label, case in by_label.items() if "2" in label)
    assert portal.state == "PROVEN"
    assert portal.phase == "venous"
    assert arterial.state == "REFUSED"
    assert code_of(arterial) == "PHASE_NOT_VENOUS"
    assert all(tissue in str(arterial.reason) for tissue in ("aorta", "liver"))


def test_three_slices_missing_in_the_middle_are_a_gap(
    end: Callable[..., Ending], hcc_048: Path, tmp_path: Path
) -> None:
    files = by_height(hcc_048)
    ending = end(copied(files[:40] + files[43:], tmp_path / "gap"))
    assert ending.case is None
    assert ending.series.reason_code == "GEOMETRY_GAP"


def test_a_liver_cut_at_the_top_is_delineated_closed_and_reviewed(
    end: Callable[..., Ending], hcc_048: Path, tmp_path: Path
) -> None:
    files = by_height(hcc_048)
    ending = end(copied(files[:-25], tmp_path / "cut"))
    assert ending.case is not None
    assert ending.case.state == "PROVEN"
    assert ending.case.verdict == "REVIEW"
    assert says_that_the_liver_was_cut(ending)


def test_three_slices_missing_at_the_top_end_like_the_whole(
    end: Callable[..., Ending], hcc_048: Path, tmp_path: Path, original: Ending
) -> None:
    ending = end(copied(by_height(hcc_048)[:-3], tmp_path / "short"))
    assert is_delivered_venous(ending)
    assert ending.case is not None
    assert original.case is not None
    assert ending.case.volume_ml == pytest.approx(original.case.volume_ml, rel=0.03)


def test_every_second_slice_gives_the_same_volume(
    end: Callable[..., Ending], hcc_048: Path, tmp_path: Path, original: Ending
) -> None:
    ending = end(copied(by_height(hcc_048)[::2], tmp_path / "half"))
    assert is_delivered_venous(ending)
    assert ending.case is not None
    assert original.case is not None
    assert ending.case.volume_ml == pytest.approx(original.case.volume_ml, rel=0.03)


@pytest.mark.parametrize("orientation", ["sagittal", "coronal", "feet_first"])
def test_another_stacking_of_the_same_voxels_gives_the_same_volume(
    end: Callable[..., Ending], venous: Volume, tmp_path: Path, original: Ending, orientation: Any
) -> None:
    rows = Volume(np.ascontiguousarray(venous.hu[:, ::2, ::2]), venous.lps_from_voxel @ np.diag([2.0, 2.0, 1.0, 1.0]))
    write_ct_series(tmp_path / "stack", oriented(rows, orientation), name=orientation, study=orientation)
    ending = end(tmp_path / "stack")
    assert is_delivered_venous(ending)
    assert ending.case is not None
    assert original.case is not None
    assert ending.case.volume_ml == pytest.approx(original.case.volume_ml, rel=0.03)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_a_compressed_copy_gives_the_very_same_volume(
    end: Callable[..., Ending], hcc_048: Path, tmp_path: Path, original: Ending, syntax: str
) -> None:
    target = tmp_path / "compressed"
    target.mkdir()
    for path in hcc_048.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        image.compress(syntax, generate_instance_uid=False)
        image.save_as(target / path.name)
    ending = end(target)
    assert ending.case is not None
    assert original.case is not None
    assert ending.case.volume_ml == original.case.volume_ml


def test_a_gantry_tilt_is_refused_unless_the_site_lets_it_be_resampled(
    end: Callable[..., Ending], venous: Volume, tmp_path: Path, original: Ending
) -> None:
    rows = Volume(np.ascontiguousarray(venous.hu[:, ::2, ::2]), venous.lps_from_voxel @ np.diag([2.0, 2.0, 1.0, 1.0]))
    write_ct_series(tmp_path / "tilt", tilted(rows, 10), name="tilt", study="tilt")
    refused = end(tmp_path / "tilt")
    assert refused.case is None
    assert refused.series.reason_code == "GANTRY_TILT"
    resampled = end(tmp_path / "tilt", assemble={"gantry_tilt": "resample"})
    assert resampled.case is not None
    assert original.case is not None
    assert resampled.case.state == "PROVEN"
    assert resampled.case.volume_ml == pytest.approx(original.case.volume_ml, rel=0.05)


def test_without_a_frame_of_reference_nothing_can_be_placed(
    end: Callable[..., Ending], hcc_048: Path, tmp_path: Path
) -> None:
    target = tmp_path / "frameless"
    target.mkdir()
    for path in hcc_048.rglob("*.dcm"):
        image = pydicom.dcmread(path)
        del image.FrameOfReferenceUID
        image.save_as(target / path.name)
    ending = end(target)
    assert ending.case is None
    assert ending.series.reason_code == "NO_FRAME_OF_REFERENCE"


def test_an_unenhanced_ct_is_refused_by_default_and_reviewed_where_the_site_takes_any_phase(
    end: Callable[..., Ending], shared_data: Path, tmp_path: Path
) -> None:
    image = sitk.ReadImage(str(shared_data / "totalsegmentator_example" / "example_ct.nii.gz"))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    hu = np.rint(np.clip(sitk.GetArrayFromImage(image), -1024, 3071)).astype(np.int16)
    write_ct_series(
        tmp_path / "plain",
        Volume(hu, affine),
        name="plain",
        study="plain",
        series_description="ABDOMEN",
        attributes={"ContrastBolusAgent": None, "StudyInstanceUID": derived_uid("plain")},
    )
    refused = end(tmp_path / "plain")
    assert refused.case is not None
    assert refused.case.state == "REFUSED"
    assert code_of(refused.case) == "PHASE_NOT_VENOUS"
    taken = end(tmp_path / "plain", admit={"phase": "any"})
    assert taken.case is not None
    assert taken.case.state == "PROVEN"
    assert taken.case.verdict == "REVIEW"
    # Its field of view ends within the liver.
    assert says_that_the_liver_was_cut(taken)
