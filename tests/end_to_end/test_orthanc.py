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
from dicom_node.settings import ResultSettings
from dicom_node.values.object_kinds import PROFILES
from tests.builders.ct_series import abdomen, oriented
from tests.builders.result_case import case_in_memory
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


def test_every_kind_of_object_comes_back_from_orthanc_bit_for_bit(tmp_path: Path) -> None:
    """Data sets are compared as bytes. The file meta group may be the archive's own: it names who wrote the file."""
    storescu = need("storescu")
    volume = oriented(abdomen(shape=(22, 25, 27), spacing=(5.0, 5.5, 6.0)), "oblique")
    case = case_in_memory(tmp_path / "results", volume, ResultSettings(objects="all"))
    case.prove()
    sent = {item.sop_instance_uid: item for item in case.written}
    assert {item.kind for item in case.written} == set(PROFILES["all"])
    with Orthanc(tmp_path / "orthanc", node_port=free_port()) as orthanc:
        files = [item.path for item in case.written]
        to = ["-R", "-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom_port)]
        subprocess.run([storescu, *to, *files], check=True, capture_output=True, timeout=120)
        stored = [orthanc.file(number) for one in orthanc.series().values() for number in one["Instances"]]
        assert len(orthanc.series()) == len(PROFILES["all"])
    assert len(stored) == len(sent)
    for content in stored:
        original = sent[str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID)].path.read_bytes()
        assert after_file_meta(content) == after_file_meta(original)


def after_file_meta(content: bytes) -> bytes:
    """The data set as it is encoded: what follows group 0002, whose length its first element says (PS3.10 7.1)."""
    assert content[128:132] == b"DICM"
    return content[144 + int.from_bytes(content[140:144], "little") :]


def instances(orthanc: Orthanc, folder: Path):  # type: ignore[no-untyped-def]
    """One instance of each series in Orthanc, as a data set and as a file."""
    for number, one in enumerate(orthanc.series().values()):
        content = orthanc.file(one["Instances"][0])
        file = folder / f"from_orthanc_{number}.dcm"
        file.write_bytes(content)
        yield dcmread(BytesIO(content)), file
