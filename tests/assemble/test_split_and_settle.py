"""When a series is complete, and how one series UID becomes several stacks (C3)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.assemble.completeness import settle_quiet_series
from dicom_node.catalog import audit
from dicom_node.catalog.states import SeriesState
from dicom_node.catalog.tables import Association, Series
from dicom_node.values.received import InstanceUse
from dissm_engine.volume import Volume
from tests.builders.ct_series import abdomen, rearranged, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import changed_rows, rows

BODY = abdomen((60, 16, 18), (20.0, 20.0, 2.5))


def renamed(prefix: str):
    """Images of a second stack under the same series, but with SOP Instance UIDs of their own."""

    def change(k: int, image: Dataset) -> None:
        image.SOPInstanceUID = f"1.2.3.{prefix}.{k}"

    return change


def decided(intake: Intake, folder: Path) -> dict[str, str]:
    return {stack.label: stack.reason_code or "ADMITTED" for stack in intake.decide(folder)}


def test_two_acquisitions_under_one_series_uid_become_two_stacks(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct" / "a", BODY, acquisition_number=1, series_description="LIVER 2 PHASE")
    write_ct_series(
        tmp_path / "ct" / "b", BODY, acquisition_number=2, each=renamed("9"), series_description="LIVER 2 PHASE"
    )
    assert decided(intake, tmp_path / "ct") == {"acquisition 1": "ADMITTED", "acquisition 2": "ADMITTED"}
    assert len(intake.cases()) == 2


def test_two_passes_that_only_instance_numbers_tell_apart_become_two_stacks(intake: Intake, tmp_path: Path) -> None:
    def second(k: int, image: Dataset) -> None:
        renamed("9")(k, image)
        image.InstanceNumber = 1001 + k

    write_ct_series(tmp_path / "ct" / "a", BODY)
    write_ct_series(tmp_path / "ct" / "b", BODY, each=second)
    assert set(decided(intake, tmp_path / "ct")) == {"pass 1", "pass 2"}


def test_passes_that_could_be_mixed_up_are_refused_as_a_clash(intake: Intake, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(120)

    def number(first: int, prefix: str):
        def change(k: int, image: Dataset) -> None:
            renamed(prefix)(k, image)
            image.InstanceNumber = int(order[first + k])

        return change

    write_ct_series(tmp_path / "ct" / "a", BODY, each=number(0, "8"))
    write_ct_series(tmp_path / "ct" / "b", BODY, each=number(60, "9"))
    assert decided(intake, tmp_path / "ct") == {"whole series": "POSITION_CLASH"}


def test_passes_that_share_their_numbers_are_refused_and_never_mixed(intake: Intake, tmp_path: Path) -> None:
    """The order of arrival is no evidence: interleaved on the wire, each pass would get half of either stack."""
    write_ct_series(tmp_path / "ct", BODY, name="a", attributes={"SeriesInstanceUID": "1.2.3"})
    write_ct_series(tmp_path / "ct", BODY, name="b", attributes={"SeriesInstanceUID": "1.2.3"})
    files = sorted((tmp_path / "ct").glob("*.dcm"), key=lambda file: file.stem.split("_")[::-1])
    for n, file in enumerate(files):
        # Arrives as a1 b1 b2 a2 a3 b3 ...
        file.rename(file.with_name(f"{n ^ ((n >> 1) & 1):04d}.dcm"))
    assert decided(intake, tmp_path / "ct") == {"whole series": "POSITION_CLASH"}


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "AcquisitionTime", "ContentTime", "ConvolutionKernel"])
def test_two_stacks_half_a_step_apart_are_not_one_stack_of_half_the_spacing(
    intake: Intake, tmp_path: Path, keyword: str
) -> None:
    fine = abdomen((120, 16, 18), (20.0, 20.0, 1.25))
    values = {"AcquisitionNumber": (1, 2), "ConvolutionKernel": ("B30f", "B70f")}.get(keyword, ("101500", "101540"))

    def change(k: int, image: Dataset) -> None:
        setattr(image, keyword, values[k % 2])

    write_ct_series(tmp_path / "ct", fine, each=change)
    stacks = intake.decide(tmp_path / "ct")
    assert [len(stack.images) for stack in stacks] == [60, 60]
    images = [
        {intake_position(intake, number) for number in (image.instance_id for image in stack.images)}
        for stack in stacks
    ]
    assert all(len({position % 2 for position in one}) == 1 for one in images)


def intake_position(intake: Intake, instance_id: int) -> int:
    """The k of an image of `abdomen` with steps of 1.25 mm."""
    from dicom_node.catalog.tables import Instance

    with rows(intake.catalog) as session:
        path = session.get_one(Instance, instance_id).path
    image = pydicom.dcmread(intake.settings.node.spool / path, specific_tags=["ImagePositionPatient"])
    return round((image.ImagePositionPatient[2] + 300) / 1.25)


def test_interleaved_halves_that_are_too_coarse_are_refused_and_never_joined(intake: Intake, tmp_path: Path) -> None:
    coarse = abdomen((30, 16, 18), (20.0, 20.0, 5.0))

    def change(k: int, image: Dataset) -> None:
        image.AcquisitionNumber = 1 + k % 2

    write_ct_series(tmp_path / "ct", coarse, each=change)
    assert set(decided(intake, tmp_path / "ct").values()) == {"TOO_FEW_SLICES"}


def test_contiguous_acquisitions_with_even_steps_stay_one_stack(intake: Intake, tmp_path: Path) -> None:
    def change(k: int, image: Dataset) -> None:
        image.AcquisitionNumber = 1 + k // 20

    write_ct_series(tmp_path / "ct", BODY, each=change)
    assert decided(intake, tmp_path / "ct") == {"whole series": "ADMITTED"}


def test_a_scout_in_another_orientation_does_not_spoil_the_stack(intake: Intake, tmp_path: Path) -> None:
    write_ct_series(tmp_path / "ct", BODY)
    scout = rearranged(BODY, (1, 0, 2), flips=(1,))
    scout = Volume(scout.hu[:1], scout.lps_from_voxel)
    localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_ct_series(tmp_path / "ct" / "scout", scout, each=renamed("5"), attributes=localizer)
    outcome = decided(intake, tmp_path / "ct")
    assert sorted(outcome.values()) == ["ADMITTED", "LOCALIZER"]


def test_mixed_sizes_that_make_no_stack_by_themselves_are_refused_as_mixed(intake: Intake, tmp_path: Path) -> None:
    other = abdomen((60, 18, 18), (20.0, 20.0, 2.5))
    paths = write_ct_series(tmp_path / "ct", BODY)
    for path in paths[1::2]:
        path.unlink()
    more = write_ct_series(tmp_path / "ct" / "more", other, each=renamed("5"))
    for path in more[0::2]:
        path.unlink()
    for path in (tmp_path / "ct").rglob("*_001*.dcm"):
        path.unlink()
    assert decided(intake, tmp_path / "ct") == {"whole series": "MIXED_SIZE"}


def test_one_truncated_image_refuses_the_stack_and_says_so(intake: Intake, tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path / "ct", abdomen((60, 40, 40), (8.0, 8.0, 2.5)))
    paths[7].write_bytes(paths[7].read_bytes()[:-1500])
    assert decided(intake, tmp_path / "ct") == {"whole series": "TRUNCATED_FILE"}


def test_the_real_two_phase_series_is_split_by_acquisition_in_whatever_order_it_comes(
    intake: Intake, hcc_002: Path
) -> None:
    stacks = intake.decide(hcc_002)
    assert [(stack.label, stack.admitted, len(stack.images)) for stack in stacks] == [
        ("acquisition 1", True, 109),
        ("acquisition 2", True, 109),
    ]
    once = {case.id for case in intake.cases()}
    intake.decide(hcc_002)
    assert {case.id for case in intake.cases()} == once
    assert len(once) == 2


def receiving(intake: Intake, quiet_for: float, since: float = 0.0, ended: str | None = "released") -> None:
    """A series with one image from one association; `ended` None: the association is still open."""
    from dicom_node.catalog.tables import Instance

    now = audit.utc_now()
    with changed_rows(intake.catalog) as session:
        association = Association(
            calling_ae="SENDER",
            called_ae="DISSM",
            address="127.0.0.1",
            opened_at=now,
            stored=1,
            closed_at=now if ended else None,
            ended=ended,
            process_id=1,
        )
        series = Series(
            series_instance_uid="1.2.3",
            study_instance_uid="1.2",
            calling_ae="SENDER",
            state=SeriesState.RECEIVING,
            first_received_at=now - timedelta(seconds=since or quiet_for),
            last_received_at=now - timedelta(seconds=quiet_for),
        )
        session.add_all([association, series])
        session.flush()
        session.add(
            Instance(
                series_id=series.id,
                association_id=association.id,
                sop_instance_uid="1.2.3.1",
                sop_class_uid="1.2",
                transfer_syntax_uid="1.2",
                digest="0",
                path="x",
                size=1,
                received_at=now,
                use=InstanceUse.IN_USE,
            )
        )


def settled_as(intake: Intake) -> str | None:
    settle_quiet_series(intake.catalog.acting_as("test"), intake.settings.assemble)
    (series,) = intake.series()
    return series.completeness if series.state == SeriesState.SETTLED else None


def test_a_quiet_series_settles_as_assumed(intake: Intake) -> None:
    receiving(intake, quiet_for=1.0)
    assert settled_as(intake) == "assumed"


def test_a_series_that_is_not_quiet_yet_waits(tmp_path: Path) -> None:
    intake = Intake(tmp_path / "patient", assemble={"quiet_seconds": 60.0})
    receiving(intake, quiet_for=0.0)
    assert settled_as(intake) is None
    intake.close()


def test_a_series_that_was_whole_when_the_node_stopped_is_whole_after_a_night(intake: Intake) -> None:
    receiving(intake, quiet_for=8 * 3600.0, since=8 * 3600.0 + 20)
    assert settled_as(intake) == "assumed"


def test_an_open_association_that_still_sends_the_series_holds_it_open(intake: Intake) -> None:
    receiving(intake, quiet_for=60.0, ended=None)
    assert settled_as(intake) is None


def test_max_receiving_seconds_ends_the_waiting_and_calls_the_series_incomplete(intake: Intake) -> None:
    receiving(intake, quiet_for=0.0, since=3601.0, ended=None)
    assert settled_as(intake) == "incomplete"


def test_a_series_from_before_the_clock_was_set_back_waits_the_quiet_time_and_no_longer(intake: Intake) -> None:
    receiving(intake, quiet_for=-3600.0)
    now = audit.utc_now()
    assert settled_as(intake) is None
    later = now + timedelta(seconds=intake.settings.assemble.quiet_seconds + 5)
    assert settle_quiet_series(intake.catalog.acting_as("test"), intake.settings.assemble, now=later) == 1
    (series,) = intake.series()
    assert series.first_received_at < later


@pytest.mark.parametrize("ended", ["aborted", "lost"])
def test_a_broken_association_makes_the_series_incomplete(intake: Intake, ended: str) -> None:
    receiving(intake, quiet_for=1.0, ended=ended)
    assert settled_as(intake) == "incomplete"
