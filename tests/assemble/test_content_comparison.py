"""The same image in other bytes is a duplicate; only another content is quarantined (C2)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from sqlalchemy import select

from dicom_node.assemble.content_comparison import _compare, compare_waiting
from dicom_node.assemble.image_content import CONTENT_FIELDS, stack_digest
from dicom_node.assemble.volume import decode_image, read_volume
from dicom_node.catalog.comparisons import claim_comparisons, record_comparisons
from dicom_node.catalog.histories import series_history
from dicom_node.catalog.tables import AuditRow, Instance
from dicom_node.processes.worker_process import work_once, work_until_stopped
from dissm_engine.volume import Volume
from tests.builders.analytic import EllipsoidEngine
from tests.builders.ct_series import abdomen, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import rows
from tests.builders.senders import audit_facts, instances, wait_until

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))
SMALL = Volume(abdomen().hu[:3], abdomen().lps_from_voxel)
ENCODINGS = (
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)
COERCED = {"PatientName": "DOE^JANE", "PatientID": "MASTER-7", "AccessionNumber": "RIS-1", "StudyDescription": "CT"}


def uses(node: Intake) -> list[str]:
    return [row.use.value for row in instances(node)]


def compare(node: Intake) -> int:
    return compare_waiting(node.catalog.acting_as("worker-1"), node.settings.node.spool)


def take(node: Intake, folder: Path, volume: Volume = SMALL, **options: Any) -> None:
    write_ct_series(folder, volume, **options)
    node.take(folder)


def quarantine_reasons(node: Intake) -> list[str]:
    return [facts["differs"] for facts in audit_facts(node, "QUARANTINED")]


@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize("signed", [False, True])
def test_the_content_digest_of_an_image_is_the_same_in_every_transfer_syntax(
    tmp_path: Path, syntax: str, signed: bool
) -> None:
    options: dict[str, Any] = {"signed": signed, "intercept": 0.0 if signed else -1024.0}
    plain = write_ct_series(tmp_path / "plain", SMALL, **options)
    other = write_ct_series(tmp_path / "other", SMALL, transfer_syntax=syntax, **options)
    assert plain[0].read_bytes() != other[0].read_bytes()
    for one, two in zip(plain, other, strict=True):
        assert decode_image(one, 0).content() == decode_image(two, 0).content()


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_the_same_series_in_another_encoding_is_kept_as_duplicates(intake: Intake, tmp_path: Path, syntax: str) -> None:
    take(intake, tmp_path / "first")
    take(intake, tmp_path / "again", transfer_syntax=syntax)
    assert uses(intake) == ["in use"] * 3 + ["waiting"] * 3
    assert compare(intake) == 3
    assert uses(intake) == ["in use"] * 3 + ["duplicate"] * 3
    (series,) = intake.series()
    assert (series.image_count, series.quarantined_count) == (3, 0)
    assert series.stored_bytes == sum(row.size for row in instances(intake)[:3])
    assert len(audit_facts(intake, "DUPLICATE")) == 3
    assert compare(intake) == 0


def test_interleaved_senders_of_two_encodings_make_one_case_without_a_doubt(intake: Intake, tmp_path: Path) -> None:
    one = write_ct_series(tmp_path / "one", BODY)
    two = write_ct_series(tmp_path / "two", BODY, transfer_syntax=RLELossless, attributes=COERCED)
    for index, files in enumerate(zip(one, two, strict=True)):
        for number, file in enumerate(files if index % 2 else files[::-1]):
            folder = tmp_path / f"{index}-{number}"
            folder.mkdir()
            file.rename(folder / file.name)
            intake.take(folder)
    compare(intake)
    (stack,) = intake.decide()
    assert stack.admitted
    assert len(stack.images) == 60
    assert "one content an image" not in {line["rule"] for line in stack.evidence}
    assert uses(intake).count("duplicate") == 60


def test_texts_that_a_pacs_coerced_do_not_count_and_are_named_without_their_values(
    intake: Intake, tmp_path: Path
) -> None:
    take(intake, tmp_path / "first")
    take(intake, tmp_path / "again", attributes=COERCED)
    compare(intake)
    assert uses(intake) == ["in use"] * 3 + ["duplicate"] * 3
    facts = audit_facts(intake, "DUPLICATE")[0]
    assert facts["coerced"] == sorted(COERCED)
    assert not any(value in str(facts) for value in COERCED.values())


def another_pixel(_k: int, image: Dataset) -> None:
    pixels = np.frombuffer(image.PixelData, "<u2").copy()
    pixels[5] += 1
    image.PixelData = pixels.tobytes()


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"each": another_pixel}, "PixelData"),
        ({"attributes": {"RescaleIntercept": "-1023"}}, "RescaleIntercept"),
        ({"attributes": {"ImagePositionPatient": ["0", "0", "1"]}}, "ImagePositionPatient"),
        ({"frame_of_reference": "other"}, "FrameOfReferenceUID"),
        ({"attributes": {"StudyInstanceUID": "1.2.3"}}, "StudyInstanceUID"),
        ({"attributes": {"LossyImageCompression": "01"}}, "LossyImageCompression"),
        ({"each": another_pixel, "attributes": {"InstanceNumber": 99}}, "PixelData, InstanceNumber"),
    ],
)
def test_a_duplicated_sop_instance_uid_with_another_content_is_named_and_quarantined(
    intake: Intake, tmp_path: Path, change: dict[str, Any], differs: str
) -> None:
    take(intake, tmp_path / "first")
    take(intake, tmp_path / "again", transfer_syntax=ImplicitVRLittleEndian, **change)
    compare(intake)
    assert uses(intake) == ["in use"] * 3 + ["quarantined"] * 3
    assert quarantine_reasons(intake) == [differs] * 3
    assert intake.series()[0].quarantined_count == 3
    with intake.catalog.read() as view:
        rows = series_history(view, intake.series()[0].series_instance_uid).audit
    assert {row.reason_code for row in rows if row.event == "QUARANTINED"} == {"DUPLICATE_SOP_INSTANCE_UID"}


def test_numbers_and_times_that_are_only_written_otherwise_are_the_same(intake: Intake, tmp_path: Path) -> None:
    take(intake, tmp_path / "first", attributes={"ContentTime": "101500", "RescaleSlope": "1"})
    other = {"ContentTime": "101500.000", "RescaleSlope": "1.000000", "RescaleIntercept": "-1.024e3"}
    take(intake, tmp_path / "again", attributes=other)
    compare(intake)
    assert uses(intake) == ["in use"] * 3 + ["duplicate"] * 3


def test_what_cannot_be_decoded_is_quarantined_by_its_own_reason(intake: Intake, tmp_path: Path) -> None:
    take(intake, tmp_path / "first")
    for file in write_ct_series(tmp_path / "again", SMALL):
        file.write_bytes(file.read_bytes()[:-300])
    intake.take(tmp_path / "again")
    compare(intake)
    assert uses(intake) == ["in use"] * 3 + ["quarantined"] * 3
    assert "cannot be decoded" in audit_facts(intake, "QUARANTINED")[0]["problem"]


def test_an_image_whose_comparison_ends_its_process_holds_up_no_other_and_is_given_up(
    intake: Intake, tmp_path: Path
) -> None:
    take(intake, tmp_path / "first")
    take(intake, tmp_path / "again", transfer_syntax=RLELossless)
    recorder = intake.catalog.acting_as("worker-1")
    for _ in range(3):
        with recorder.write() as tx:
            # Nobody ends what is taken here, and the time for it is over at once.
            assert claim_comparisons(tx, 1, -1.0)
    # The first was taken once, like the two others: whoever was never begun goes first.
    assert [row.comparisons for row in instances(intake)] == [0, 0, 0, 1, 1, 1]
    with recorder.write() as tx:
        tx.session.get_one(Instance, 4).comparisons = 3
    assert compare(intake) == 3
    assert uses(intake)[3:] == ["quarantined", "duplicate", "duplicate"]
    assert "3 attempts" in audit_facts(intake, "QUARANTINED")[0]["problem"]


def test_a_comparison_with_an_image_that_is_no_longer_in_use_is_made_again(intake: Intake, tmp_path: Path) -> None:
    take(intake, tmp_path / "first", volume=BODY, frame_of_reference=None)
    take(intake, tmp_path / "waiting", volume=BODY, frame_of_reference=None, transfer_syntax=RLELossless)
    recorder = intake.catalog.acting_as("worker-1")
    with recorder.write() as tx:
        claimed = claim_comparisons(tx, 100, 60.0)
    results = [_compare(intake.settings.node.spool, each) for each in claimed]
    assert [stack.reason_code for stack in intake.decide()] == ["NO_FRAME_OF_REFERENCE"]
    take(intake, tmp_path / "corrected", volume=BODY)
    with recorder.write() as tx:
        record_comparisons(tx, results)
    assert uses(intake) == ["quarantined"] * 60 + ["waiting"] * 60 + ["in use"] * 60
    assert compare(intake) == 60
    assert set(quarantine_reasons(intake)) == {"FrameOfReferenceUID"}


def test_the_worker_keeps_the_digests_so_that_an_image_in_use_is_not_decoded_twice(
    intake: Intake, tmp_path: Path
) -> None:
    body = abdomen()
    write_ct_series(tmp_path / "ct", body)
    intake.decide(tmp_path / "ct")
    assert work_once(intake.settings, intake.catalog.acting_as("worker-1"), EllipsoidEngine())
    assert all(row.content_digest for row in instances(intake))
    take(intake, tmp_path / "again", volume=body, transfer_syntax=RLELossless)
    for row in instances(intake)[:60]:
        # Its header can be read; its pixels are not needed any more.
        path = intake.settings.node.spool / row.path
        path.write_bytes(path.read_bytes()[:-500])
    assert compare(intake) == 60
    assert uses(intake)[60:] == ["duplicate"] * 60


def test_a_stack_has_one_digest_in_every_encoding_and_file_order(tmp_path: Path) -> None:
    found = set()
    for number, syntax in enumerate((ExplicitVRLittleEndian, *ENCODINGS)):
        paths = write_ct_series(tmp_path / str(number), abdomen(), transfer_syntax=syntax)
        found.add(stack_digest(read_volume(paths if number % 2 else paths[::-1]).content_digests))
    assert len(found) == 1
    paths = write_ct_series(tmp_path / "other", abdomen(), each=another_pixel)
    assert stack_digest(read_volume(paths).content_digests) not in found


def test_every_field_that_counts_says_why_and_is_an_attribute_of_dicom() -> None:
    keywords = [field.keyword for field in CONTENT_FIELDS]
    assert len(keywords) == len(set(keywords))
    assert all(pydicom.datadict.tag_for_keyword(name) for name in keywords)
    assert all(len(field.because) > 10 for field in CONTENT_FIELDS)


def test_a_worker_compares_between_cases_without_being_asked(intake: Intake, tmp_path: Path) -> None:
    take(intake, tmp_path / "first")
    take(intake, tmp_path / "again", transfer_syntax=RLELossless)
    stop = threading.Event()
    arguments = (intake.settings, intake.catalog.acting_as("worker-1"), stop, EllipsoidEngine())
    worker = threading.Thread(target=work_until_stopped, args=arguments)
    worker.start()
    try:
        wait_until(lambda: uses(intake) == ["in use"] * 3 + ["duplicate"] * 3)
    finally:
        stop.set()
        worker.join(30)
    assert {row.process for row in audit_rows(intake, "DUPLICATE")} == {"worker-1"}


def audit_rows(node: Intake, event: str) -> list[AuditRow]:
    with rows(node.catalog) as session:
        return list(session.scalars(select(AuditRow).where(AuditRow.event == event)))
