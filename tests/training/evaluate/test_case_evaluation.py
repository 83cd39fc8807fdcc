"""Judging on CTs with masks: the figures do not depend on how a file lies, and no case ends the evaluation."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from typer.testing import CliRunner

from dissm_engine.delineation import Delineation
from dissm_engine.errors import NO_ORGAN, DelineationError
from dissm_engine.findings import Verdict
from dissm_engine.volume import Grid, Volume
from tests.builders.analytic import ellipsoid_delineation
from tests.builders.image_pairs import grid, organ_mask, write_pair
from training.cli import app
from training.evaluate.case_evaluation import judge_cases, judge_pair
from training.evaluate.case_report import JudgedCase
from training.evaluate.evaluation_report import JudgedBundle
from training.sources.image_pairs import ImagePair, find_image_pairs, read_image_pair

BUNDLE = JudgedBundle("analytic", "1.0.0", "ab" * 32)
SHIFT_MM = np.array([4.0, 0.0, 0.0])


def shifted(volume: Volume) -> Delineation:
    """The true organ, 4 mm to the left of where it is."""
    return ellipsoid_delineation(volume.grid, center_lps=volume.grid.center_lps + SHIFT_MM)


def judged(folder: Path, on: Grid, orientation: str) -> JudgedCase:
    write_pair(folder, "case", on, ".nrrd", orientation)
    (files,) = find_image_pairs(folder)
    pair = read_image_pair(files)
    return judge_pair(pair, shifted(pair.volume))


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SPR", "AIL"])
def test_a_flipped_or_permuted_case_has_the_figures_of_the_unflipped(tmp_path: Path, orientation: str) -> None:
    plain = judged(tmp_path / "plain", grid(), "LPS")
    other = judged(tmp_path / "other", grid(), orientation)
    assert plain.dsc is not None
    assert 0.85 < plain.dsc < 0.97
    for field in ("dsc", "assd_mm", "hd95_mm", "true_ml"):
        assert getattr(other, field) == pytest.approx(getattr(plain, field), rel=1e-6)
    assert plain.statement is not None
    assert other.statement is not None
    assert other.statement.found_ml == pytest.approx(plain.statement.found_ml)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SPR"])
def test_an_oblique_case_has_the_figures_of_the_upright_one_up_to_its_voxels(tmp_path: Path, orientation: str) -> None:
    plain = judged(tmp_path / "plain", grid(), "LPS")
    oblique = judged(tmp_path / "oblique", grid(20.0), orientation)
    assert plain.dsc is not None
    assert plain.true_ml is not None
    assert oblique.dsc == pytest.approx(plain.dsc, abs=0.01)
    assert oblique.assd_mm == pytest.approx(plain.assd_mm, abs=0.2)
    assert oblique.hd95_mm == pytest.approx(plain.hd95_mm, abs=0.4)
    assert oblique.true_ml == pytest.approx(plain.true_ml, rel=0.02)


def test_distances_are_in_mm_and_measured_on_the_surface_of_the_mask() -> None:
    on = grid()
    pair = ImagePair("case", Volume(np.zeros(on.shape, np.int16), on.lps_from_voxel), organ_mask(on))
    exact = judge_pair(pair, ellipsoid_delineation(on, center_lps=on.center_lps))
    assert exact.dsc == 1.0
    assert exact.assd_mm is not None
    # Voxels of 3 x 2.5 x 4 mm say no more than this.
    assert exact.assd_mm < 0.7
    wrong = judge_pair(pair, shifted(pair.volume))
    assert wrong.hd95_mm == pytest.approx(4.0, abs=0.6)


class Engine:
    """Finds the organ, better or worse by the case's number; refuses the second case."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, volume: Volume) -> Delineation:
        self.calls += 1
        if volume.hu[0, 0, 0] == 999:
            raise DelineationError(NO_ORGAN, evidence="volume is 12 ml")
        moved = np.array([float(volume.hu[0, 0, 1]), 0.0, 0.0])
        return ellipsoid_delineation(volume.grid, center_lps=volume.grid.center_lps + moved, verdict=Verdict.ACCEPT)


def mark(folder: Path, name: str, voxel: tuple[int, int, int], value: int) -> None:
    path = str(folder / "images" / f"{name}.nrrd")
    image = SimpleITK.ReadImage(path)
    image[voxel] = value
    SimpleITK.WriteImage(image, path)


@pytest.fixture
def four_cases(tmp_path: Path) -> Path:
    """`a` is found exactly, `b` is refused by the engine, `c` is found 12 mm beside its place, `d` has no label."""
    folder = tmp_path / "pairs"
    for name, moved in (("a", 0), ("b", 0), ("c", 12), ("d", 0)):
        write_pair(folder, name, grid(), ".nrrd")
        mark(folder, name, (1, 0, 0), moved)
    mark(folder, "b", (0, 0, 0), 999)
    (folder / "labels" / "d.nrrd").unlink()
    return folder


def test_a_failing_case_is_a_row_with_its_reason_and_not_the_end(four_cases: Path, tmp_path: Path) -> None:
    report = judge_cases(Engine(), BUNDLE, four_cases, tmp_path / "out", max_pictures=2)
    a, b, c, d = report.cases
    assert (a.dsc, b.dsc, d.dsc) == (1.0, 0.0, None)
    assert c.dsc is not None
    assert c.dsc < 0.9
    assert b.problem.startswith("NO_ORGAN: what was found is not the organ: volume is 12 ml")
    assert d.problem.startswith("IMAGE_WITHOUT_PARTNER: case d has no file in labels/")
    summary = report.summary
    assert (summary.cases, summary.unreadable, summary.not_found) == (4, 1, 1)
    assert summary.mean_dsc == pytest.approx((1.0 + c.dsc) / 3)
    assert summary.accepted_under_090 == ("c",)
    assert summary.verdicts == {Verdict.ACCEPT: 2, Verdict.REVIEW: 0, Verdict.REJECT: 0}


def test_json_table_and_pictures_of_the_worst_are_written(four_cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = judge_cases(Engine(), BUNDLE, four_cases, out, max_pictures=2)
    assert json.loads((out / "cases.json").read_text()) == json.loads(json.dumps(report.to_json()))
    with (out / "cases.csv").open() as lines:
        rows = {row["name"]: row for row in csv.DictReader(lines)}
    assert (rows["a"]["dsc"], rows["a"]["verdict"], rows["d"]["dsc"]) == ("1.0", "ACCEPT", "")
    assert sorted(file.stem for file in (out / "pictures").iterdir()) == ["b", "c"]
    assert (out / "trust.png").read_bytes().startswith(b"\x89PNG")
    assert report.trust is not None
    assert report.trust.counts[Verdict.ACCEPT] == (1, 0, 0, 1)


class KilledError(Exception):
    """As a kill would end an evaluation."""


def test_a_killed_evaluation_goes_on_with_the_case_that_it_had_reached(four_cases: Path, tmp_path: Path) -> None:
    first = Engine()

    def killed(volume: Volume) -> Delineation:
        if first.calls == 2:
            raise KilledError
        return first(volume)

    with pytest.raises(KilledError):
        judge_cases(killed, BUNDLE, four_cases, tmp_path / "out")
    second = Engine()
    report = judge_cases(second, BUNDLE, four_cases, tmp_path / "out")
    assert (first.calls, second.calls) == (2, 1)
    assert [case.name for case in report.cases] == ["a", "b", "c", "d"]
    assert not (tmp_path / "out" / "rows").exists()


def test_rows_of_another_label_or_bundle_do_not_serve_a_run_that_goes_on(four_cases: Path, tmp_path: Path) -> None:
    def killed(volume: Volume) -> Delineation:
        if float(volume.hu[0, 0, 1]) == 12:
            raise KilledError
        return Engine()(volume)

    with pytest.raises(KilledError):
        judge_cases(killed, BUNDLE, four_cases, tmp_path / "out")
    other = Engine()
    judge_cases(other, BUNDLE, four_cases, tmp_path / "out", labels=(1,))
    assert other.calls == 3


def test_the_command_writes_nothing_but_json_where_json_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.nrrd").touch()
    arguments = ["evaluate", "--cases", str(tmp_path), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["summary"]["unreadable"] == 1
    assert content["trust"] is None
    assert "judging the shipped bundle" in result.stderr


def test_the_command_prints_a_case_without_a_result_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nrrd").touch()
    result = CliRunner().invoke(app, ["evaluate", "--cases", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "IMAGE_WITHOUT_PARTNER" in result.output
