"""Scans without a liver (DICOM.md C9), by the shipped bundle where every phase is taken: each ends as NO_LIVER."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from dicom_node.processes.offline import process_folders
from dicom_node.processes.worker_process import load_engine
from dicom_node.settings import Settings
from dissm_engine.mesh import TriangleMesh
from dissm_engine.volume import Volume
from dissm_phantom import ScanProtocol, build_anatomy, head, scan, without_liver
from tests.builders.ct_series import write_ct_series

pytestmark = pytest.mark.slow


def ellipsoid() -> TriangleMesh:
    sphere = trimesh.creation.icosphere(4)
    return TriangleMesh(np.asarray(sphere.vertices) * [95.0, 70.0, 75.0], np.asarray(sphere.faces, dtype=np.int64))


def body_without_liver(seed: int) -> Volume:
    anatomy = build_anatomy(ellipsoid(), seed, whole_liver=True)
    return scan(without_liver(anatomy, seed), ScanProtocol(slice_mm=4.0, matrix=256), seed).volume


@pytest.fixture(scope="module")
def engine() -> Callable[[Settings], Any]:
    loaded: dict[str, Any] = {}

    def load(settings: Settings) -> Any:
        if "engine" not in loaded:
            loaded["engine"] = load_engine(settings)
        return loaded["engine"]

    return load


@pytest.mark.parametrize("seed", [71, 72])
@pytest.mark.parametrize("scanned", [body_without_liver, head], ids=["body without a liver", "head"])
def test_a_scan_without_a_liver_is_refused_as_such(
    engine: Callable[[Settings], Any], tmp_path: Path, scanned: Callable[[int], Volume], seed: int
) -> None:
    write_ct_series(tmp_path / "ct", scanned(seed), series_description="portal venous")
    settings = Settings.model_validate({"admit": {"phase": "any"}})
    report = process_folders([tmp_path / "ct"], tmp_path / "out", settings, load=engine, watch=lambda _: None)
    (case,) = report.cases
    assert case.state == "REFUSED", case
    assert case.reason is not None
    assert case.reason.code == "NO_LIVER"
