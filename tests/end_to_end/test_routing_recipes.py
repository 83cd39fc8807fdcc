"""The recipes for Orthanc, as the documents print them: a CT goes to the node, its results come back, no loop."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Instance, Series
from dicom_node.demo.node import free_port
from tests.builders.senders import wait_until
from tests.conftest import ROOT
from tests.end_to_end.harness import Node, ct_folder
from tests.end_to_end.orthanc import Orthanc
from tests.thirdparty import need

_LOOKS_FOR_A_LOOP = 6.0
"""Three times Orthanc's StableAge: the results are stable by then."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["route_to_dissm.lua", "route_to_dissm.py"])
def test_orthanc_sends_ct_series_only_and_receives_the_results(tmp_path: Path, name: str) -> None:
    storescu = need("storescu")
    port = free_port()
    script = ROOT / "examples" / "routing" / name
    with (
        Node(tmp_path, [("orthanc", "ORTHANC", port)]) as node,
        Orthanc(tmp_path / "orthanc", node.port, port, script) as orthanc,
    ):
        folder = ct_folder(tmp_path)
        to = ["-aec", "ORTHANC", "127.0.0.1", str(port)]
        subprocess.run([storescu, "+sd", *to, folder], check=True, capture_output=True, timeout=60)
        node.wait_for(CaseState.DELIVERED)
        wait_until(lambda: len(orthanc.series()) == 3)
        time.sleep(_LOOKS_FOR_A_LOOP)
        sent = [job for job in orthanc.jobs() if job["Type"] == "DicomModalityStore"]
        assert len(sent) == 1
        assert len(node.rows(Instance)) == 60
        assert len(node.rows(Series)) == 1
