"""Orthanc as the PACS: it routes a stable CT to the node, gets both objects back, and nothing goes round."""

from __future__ import annotations

import subprocess
import time
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, SegmentationStorage, SurfaceSegmentationStorage

from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case, Instance, ResultObject, Series
from dicom_node.demo.node import free_port
from dicom_node.results.seg_reader import read_seg
from dicom_node.results.surface.reader import read_surface
from tests.builders.senders import wait_until
from tests.end_to_end.harness import Node, ct_folder
from tests.end_to_end.orthanc import Orthanc
from tests.thirdparty import need

_LOOKS_FOR_A_LOOP = 8.0
"""Four times Orthanc's StableAge: the results were stable, routed back, and refused by then."""

pytestmark = pytest.mark.slow


def offered(orthanc: Orthanc) -> set[str]:
    """The series that Orthanc sent on."""
    return {job["Content"]["ParentResources"][0] for job in orthanc.jobs() if job["Type"] == "DicomModalityStore"}


def test_orthanc_routes_a_ct_and_receives_seg_and_surface_without_a_loop(tmp_path: Path) -> None:
    storescu = need("storescu")
    orthanc_port = free_port()
    with (
        Node(tmp_path, [("orthanc", "ORTHANC", orthanc_port)]) as node,
        Orthanc(tmp_path / "orthanc", node.port, orthanc_port) as orthanc,
    ):
        folder = ct_folder(tmp_path)
        to = ["-aec", "ORTHANC", "127.0.0.1", str(orthanc_port)]
        subprocess.run([storescu, "+sd", *to, folder], check=True, capture_output=True, timeout=60)
        node.wait_for(CaseState.DELIVERED)
        assert len(node.rows(Instance)) == 60

        objects = {row.kind: row for row in node.rows(ResultObject)}
        stored = {dataset.SOPClassUID: (dataset, file) for dataset, file in instances(orthanc, tmp_path)}
        assert set(stored) == {CTImageStorage, SegmentationStorage, SurfaceSegmentationStorage}
        assert stored[SegmentationStorage][0].SOPInstanceUID == objects["seg"].sop_instance_uid
        assert stored[SurfaceSegmentationStorage][0].SOPInstanceUID == objects["surface"].sop_instance_uid
        seg, surface = read_seg(stored[SegmentationStorage][1]), read_surface(stored[SurfaceSegmentationStorage][1])
        assert seg.dataset.StudyInstanceUID == stored[CTImageStorage][0].StudyInstanceUID
        assert sum(int(frame.inside.sum()) for frame in seg.frames) > 1000
        assert surface.mesh.closed

        # Orthanc offers the results to the node as well; they must go no further.
        wait_until(lambda: len(offered(orthanc)) >= 3)
        time.sleep(_LOOKS_FOR_A_LOOP)
        assert len(offered(orthanc)) == 3
        assert len(orthanc.series()) == 3
        assert len(node.rows(Series)) == 1
        assert len(node.rows(Case)) == 1
        assert node.audit_is_whole()


def instances(orthanc: Orthanc, folder: Path):  # type: ignore[no-untyped-def]
    """One instance of each series in Orthanc, as a data set and as a file."""
    for number, one in enumerate(orthanc.series().values()):
        content = orthanc.file(one["Instances"][0])
        file = folder / f"from_orthanc_{number}.dcm"
        file.write_bytes(content)
        yield dcmread(BytesIO(content)), file
