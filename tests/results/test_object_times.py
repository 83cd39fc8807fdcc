"""Dates and times of our objects stand beside the source's: in its zone, or in that of the place (PS3.3 C.12.1.1.8)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from dicom_node.results.write import write_results
from dicom_node.settings import ResultSettings
from tests.builders.ct_series import abdomen
from tests.builders.result_case import CREATED_AT, INPUT_DIGEST, case_in_memory

SMALL = abdomen((24, 24, 26), (12.0, 12.0, 6.0))


@pytest.fixture
def clock_of_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def objects(folder: Path, zone: str | None, created_at: datetime = CREATED_AT) -> list[Dataset]:
    """SEG and surface of a case whose source declares this zone."""
    stack = case_in_memory(folder / "source", SMALL).stack
    for header in stack.headers:
        if zone is not None:
            header.TimezoneOffsetFromUTC = zone
    found = case_in_memory(folder / "found", SMALL).delineation
    written = write_results(stack, found, ResultSettings(), folder, input_digest=INPUT_DIGEST, created_at=created_at)
    return [pydicom.dcmread(item.path) for item in written]


def date_times(dataset: Dataset) -> set[tuple[str, str]]:
    names = ("Series", "Content", "InstanceCreation")
    return {(dataset[f"{name}Date"].value, dataset[f"{name}Time"].value) for name in names}


def contribution(dataset: Dataset) -> str:
    return str(dataset.ContributingEquipmentSequence[-1].ContributionDateTime)


@pytest.mark.parametrize(
    ("zone", "date", "clock"),
    [
        ("+0130", "20260304", "063607.890000"),
        ("-0800", "20260303", "210607.890000"),
        ("+0000", "20260304", "050607.890000"),
    ],
)
@pytest.mark.usefixtures("clock_of_berlin")
def test_the_source_s_zone_is_kept_and_ours_are_of_it(tmp_path: Path, zone: str, date: str, clock: str) -> None:
    for dataset in objects(tmp_path, zone):
        assert date_times(dataset) == {(date, clock)}
        assert dataset.TimezoneOffsetFromUTC == zone
        assert contribution(dataset) == f"{date}{clock}{zone}"


@pytest.mark.parametrize("zone", [None, "", "abc", "-0000", "+1500", "-1230", "+01:00", "0100"])
@pytest.mark.usefixtures("clock_of_berlin")
def test_without_a_zone_of_the_source_ours_are_local_and_name_none(tmp_path: Path, zone: str | None) -> None:
    for dataset in objects(tmp_path, zone):
        assert date_times(dataset) == {("20260304", "060607.890000")}
        assert "TimezoneOffsetFromUTC" not in dataset
        # A DT carries its own offset and gives no other value another meaning (PS3.5 6.2).
        assert contribution(dataset) == "20260304060607.890000+0100"
        # What was copied from the source means what it meant there.
        assert (dataset.StudyDate, dataset.StudyTime) == ("20240131", "101500")


@pytest.mark.usefixtures("clock_of_berlin")
def test_date_and_time_change_together_at_midnight(tmp_path: Path) -> None:
    before = objects(tmp_path / "before", None, datetime(2026, 3, 4, 22, 59, 59, 999999))
    after = objects(tmp_path / "after", None, datetime(2026, 3, 4, 23, 0))
    for dataset in before:
        assert date_times(dataset) == {("20260304", "235959.999999")}
    for dataset in after:
        assert date_times(dataset) == {("20260305", "000000.000000")}


@pytest.mark.usefixtures("clock_of_berlin")
def test_local_time_is_that_of_the_case_s_day_and_not_of_today(tmp_path: Path) -> None:
    """Summer time: the same clock of UTC is an hour later."""
    for dataset in objects(tmp_path, None, datetime(2026, 7, 4, 22, 30)):
        assert date_times(dataset) == {("20260705", "003000.000000")}
