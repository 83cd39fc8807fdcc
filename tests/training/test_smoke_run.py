"""The whole chain, small: every stage, a kill in the middle, and the judging of a bundle that is there already."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from dissm_engine.bundle import Bundle
from training.cli import app, published_surfaces
from training.context import RunContext
from training.evaluate.evaluation_stage import judge_bundle
from training.evaluate.frozen_phantoms import frozen_phantoms
from training.pipeline import STAGES, run
from training.presets import Preset
from training.sources.held_out import split_livers
from training.sources.source_at_path import open_source

pytestmark = pytest.mark.slow


def smoke(out: Path) -> Result:
    """The command as it stands in the README; the surfaces are those of the test data."""
    return CliRunner().invoke(app, ["run", "--preset", "smoke", "--out", str(out)])


@pytest.fixture(scope="module", autouse=True)
def surfaces_at_hand(shared_data: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISSM_TEST_DATA", str(shared_data))
        # With an untrained network no surface ever stands still, and each scan would take all rounds.
        patch.setattr("dissm_engine.rounds.MAX_ROUNDS", 1)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("smoke")
    return folder, smoke(folder)


def test_the_smoke_preset_runs_every_stage_and_leaves_a_bundle_that_loads(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.exit_code == 0, result.output
    assert all((folder / f"{stage}.done").exists() for stage in STAGES)
    assert Bundle.load(folder / "bundle").name == "liver-smoke"
    report = json.loads((folder / "evaluation.json").read_text())
    assert report["phantoms"] == report["frozen_phantoms"] == 2
    assert report["bundle"]["weights"] == Bundle.load(folder / "bundle").weights_digest
    assert "refined" in result.output
    card = (folder / "bundle" / "model_card.md").read_text()
    assert f"| refined | {100 * report['summary']['refined']['dsc']:.1f} (" in card
    assert "| free code |" in card


def test_a_finished_run_does_nothing_again(finished: tuple[Path, Result]) -> None:
    manifest = finished[0] / "bundle" / "manifest.json"
    before = manifest.read_bytes()
    assert smoke(finished[0]).exit_code == 0
    assert manifest.read_bytes() == before


class KilledError(Exception):
    """As a kill would end a stage: after its first case."""


def killed(_stage: str, _done: float) -> None:
    raise KilledError


def test_a_stage_that_was_killed_goes_on_with_the_case_it_has_and_leaves_none(
    finished: tuple[Path, Result], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    assert not (folder / "trust" / "cases").exists()
    (folder / "trust.done").unlink()
    with pytest.raises(KilledError):
        run(RunContext(folder, published_surfaces(), Preset.named("smoke"), progress=killed), "trust", "trust")
    first = folder / "trust" / "cases" / "fit_000.json"
    pair, *others = json.loads(first.read_text())
    # A mark that only this file can have brought into the answer.
    first.write_text(json.dumps([pair | {"dsc": 0.4321}, *others]))
    run(RunContext(folder, published_surfaces(), Preset.named("smoke")), "trust", "trust")
    content = json.loads((folder / "trust" / "trust.json").read_text())
    assert content["fit"][0]["dsc"] == 0.4321
    assert len(content["fit"]) == 1 + len(others)
    assert content["test"]
    assert not {each["liver"] for each in content["fit"]} & {each["liver"] for each in content["test"]}
    assert not (folder / "trust" / "cases").exists()


def test_a_bundle_is_judged_without_the_run_that_made_it_and_a_kill_costs_one_case(
    finished: tuple[Path, Result], tmp_path: Path
) -> None:
    bundle = finished[0] / "bundle"
    with pytest.raises(KilledError):
        judge_bundle(RunContext(tmp_path, published_surfaces(), Preset.named("smoke"), progress=killed), bundle)
    (first,) = (tmp_path / "evaluation").rglob("*.json")
    case = json.loads(first.read_text())
    mark = case["stages"]["refined"]["dsc"] = 0.4321
    first.write_text(json.dumps(case))
    arguments = ["evaluate", "--preset", "smoke", "--bundle", str(bundle), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    own, again = (json.loads((folder / "evaluation.json").read_text()) for folder in (finished[0], tmp_path))
    assert again["cases"][0]["stages"]["refined"]["dsc"] == mark
    assert [case["stages"] for case in again["cases"][1:]] == [case["stages"] for case in own["cases"][1:]]
    assert again["shape_model"] == own["shape_model"]
    assert not list((tmp_path / "evaluation").rglob("*.json"))


def test_without_surfaces_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISSM_TEST_DATA", str(tmp_path))
    result = smoke(tmp_path / "run")
    assert "give --surfaces" in str(result.exception)


def test_every_frozen_phantom_is_of_a_liver_kept_out(shared_data: Path) -> None:
    split = split_livers(open_source(shared_data / "amos_livers_watertight_lps.npz", (6,)).load())
    frozen = frozen_phantoms(final=True)
    assert Counter(entry.edition for entry in frozen if entry.edition < 4) == {1: 20, 2: 8, 3: 8}
    assert {entry.liver for entry in frozen} == set(split.held_out)
    assert not {entry.liver for entry in frozen} & {*split.training, *split.validation}
    assert len({entry.sha256 for entry in frozen}) == len(frozen)


def test_an_unknown_preset_is_named_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "--preset", "huge", "--surfaces", str(tmp_path)])
    assert result.exit_code == 2
    assert "smoke, small, paper" in result.output
