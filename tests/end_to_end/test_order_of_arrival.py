"""The series of a study in any order and with any pause end with one current result, the same one (C4).

The catalogue, the spool, admission, the worker's way with proof, and the outbox are the real ones; only the engine is
a stand-in, which says of each stack the phase that was written into it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations, product
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.catalog.leases import take_lease
from dicom_node.catalog.states import CaseState
from dicom_node.catalog.tables import Case
from dicom_node.deliver.outbox import queue_proven
from dicom_node.processes.case_processing import CaseWork, process_case
from dicom_node.processes.worker_process import work_once
from dicom_node.values.lease import Lease
from dissm_engine.delineation import Delineation
from dissm_engine.progress import Cancellation, Progress, no_progress
from dissm_engine.volume import Volume
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.ct_series import abdomen, derived_uid, write_ct_series
from tests.builders.intake import Intake
from tests.builders.rows import rows

TISSUES = {
    1: {"liver": 105.0, "spleen": 154.0, "aorta": 219.0, "kidney": 210.0},
    2: {"liver": 64.0, "spleen": 99.0, "aorta": 338.0, "kidney": 228.0},
    3: {},
}
"""Median HU by what stands in a stack's first voxel: venous, arterial, nothing that could be measured."""
VENOUS, ARTERIAL, UNCLEAR = 1, 2, 3


class Pause(StrEnum):
    """What the node does between two series."""

    NONE = "none"
    DECIDED = "decided"
    RUNNING = "running"
    """A worker has taken a case, and ends it only after the next series was decided."""
    DELIVERED = "delivered"


@dataclass(frozen=True)
class Sent:
    """A series: what its text says, its distance of slices in mm, what the image shows."""

    name: str
    text: str
    spacing: float
    image: int


class ImageEngine:
    """Finds an ellipsoid in everything, and in its tissues what was written into the first voxel."""

    def delineate(
        self, volume: Volume, progress: Progress = no_progress, cancellation: Cancellation | None = None
    ) -> Delineation:
        return ellipsoid_delineation(volume.grid, tissue_hu=TISSUES[int(volume.hu[0, 0, 0])], field_spacing_mm=4.0)


class Study:
    """One node that takes the series of one study."""

    def __init__(self, folder: Path) -> None:
        assemble = {"min_slices": 4, "min_extent_mm": 30}
        self.intake = Intake(folder, assemble=assemble)
        self.held: Lease | None = None

    def take(self, folder: Path) -> None:
        self.intake.take(folder)

    def pause(self, pause: Pause) -> None:
        if pause is Pause.NONE:
            return
        self.intake.decide()
        self.end_running()
        if pause is Pause.RUNNING:
            self.held = take_lease(self.intake.catalog.acting_as("worker"), "stand-in:1", 600.0)
        elif pause is Pause.DELIVERED:
            self.finish()

    def end_running(self) -> None:
        if self.held is None:
            return
        lease, self.held = self.held, None
        recorder = self.intake.catalog.acting_as("worker")
        process_case(CaseWork(recorder, self.intake.settings, ImageEngine(), lease, no_progress, Cancellation()))

    def finish(self) -> None:
        """Work, choose and queue for delivery until nothing moves any more."""
        self.intake.decide()
        self.end_running()
        moved = True
        while moved:
            worked = work_once(
                self.intake.settings, self.intake.catalog.acting_as("worker"), ImageEngine(), threading.Event()
            )
            self.intake.decide()
            moved = bool(queue_proven(self.intake.catalog.acting_as("control"), ())) or worked

    def cases(self) -> list[Case]:
        with rows(self.intake.catalog) as session:
            return list(session.scalars(select(Case).order_by(Case.created_at)))

    def answer(self) -> tuple[str, str, str]:
        """Series, state and images of the one current result; and what must hold of every other case."""
        with rows(self.intake.catalog) as session:
            current = session.scalars(select(Case).where(Case.current)).all()
            assert len(current) == 1, f"{len(current)} results are current"
            (case,) = current
            ends = {CaseState.DELIVERED, CaseState.REFUSED, CaseState.SUPERSEDED, CaseState.WITHDRAWN}
            cases = session.scalars(select(Case)).all()
            assert {one.state for one in cases} <= ends
            assert [one.id for one in cases if one.state == CaseState.DELIVERED] == [case.id]
            return case.stack.series.series_instance_uid, case.state, case.stack.input_digest

    def close(self) -> None:
        self.intake.close()


SERIES = (
    Sent("arterial", "ABD ARTERIAL", 5.0, ARTERIAL),
    Sent("thick venous", "ABD VENOUS", 8.0, VENOUS),
    Sent("thin venous", "ABD VENOUS", 5.5, VENOUS),
)
WITHOUT_TEXT = (
    Sent("one", "ABD", 5.0, ARTERIAL),
    Sent("two", "ABD", 5.5, UNCLEAR),
    Sent("three", "ABD", 8.0, VENOUS),
)
MISLEADING = (
    Sent("says arterial, looks venous", "ABD ARTERIAL", 5.0, VENOUS),
    Sent("says venous, looks arterial", "ABD VENOUS", 5.5, ARTERIAL),
    Sent("says nothing, looks venous", "ABD", 8.0, VENOUS),
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of every series, written once."""
    root, folders = tmp_path_factory.mktemp("series"), {}
    for sent in {*SERIES, *WITHOUT_TEXT, *MISLEADING}:
        body = abdomen((round(80 / sent.spacing) + 1, 16, 18), (8.0, 8.0, sent.spacing))
        hu = body.hu.copy()
        hu[0, 0, 0] = sent.image
        folders[sent.name] = root / sent.name.replace(" ", "_").replace(",", "")
        write_ct_series(
            folders[sent.name], Volume(hu, body.lps_from_voxel), name=sent.name, series_description=sent.text
        )
    return folders


def answers(
    folder: Path, written: dict[str, Path], runs: Iterable[tuple[Sequence[Sent], Sequence[Pause]]]
) -> tuple[set[tuple[str, str, str]], int]:
    """The different ends of the runs, and how many runs there were."""
    ends, count = set(), 0
    for count, (order, pauses) in enumerate(runs, start=1):
        study = Study(folder / str(count))
        for sent, pause in zip(order, (*pauses, Pause.DELIVERED), strict=True):
            study.take(written[sent.name])
            study.pause(pause)
        ends.add(study.answer())
        study.close()
    return ends, count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "best", "pauses"),
    [
        (SERIES, "thin venous", tuple(Pause)),
        (WITHOUT_TEXT, "three", (Pause.NONE, Pause.DELIVERED)),
        (MISLEADING, "says nothing, looks venous", (Pause.NONE, Pause.DELIVERED)),
    ],
    ids=["texts that tell", "texts that say nothing", "texts that mislead"],
)
def test_every_order_with_every_pause_ends_with_the_one_same_result(
    tmp_path: Path, written: dict[str, Path], sent: tuple[Sent, ...], best: str, pauses: tuple[Pause, ...]
) -> None:
    runs = product(permutations(sent), product(pauses, repeat=len(sent) - 1))
    ends, count = answers(tmp_path, written, runs)
    print(f"{count} runs")
    assert count == 6 * len(pauses) ** 2
    assert {uid for uid, _, _ in ends} == {derived_uid("series", best)}
    assert len(ends) == 1


def test_a_queued_case_of_a_lesser_series_is_withdrawn_and_a_running_one_ends_first(
    tmp_path: Path, written: dict[str, Path]
) -> None:
    study = Study(tmp_path)
    study.take(written["thick venous"])
    study.pause(Pause.RUNNING)
    study.take(written["arterial"])
    study.take(written["thin venous"])
    study.intake.decide()
    assert [case.state for case in study.cases()] == [CaseState.RUNNING, CaseState.QUEUED]
    study.end_running()
    study.intake.decide()
    assert queue_proven(study.intake.catalog.acting_as("control"), ()) == 0, "a lesser result is not sent any more"
    study.finish()
    assert [case.state for case in study.cases()] == [CaseState.SUPERSEDED, CaseState.DELIVERED]
    assert [one.reason_code for one in study.intake.series()] == ["NOT_CHOSEN", "NOT_CHOSEN", None]
    study.close()
