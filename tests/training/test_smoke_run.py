import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dissm_engine.bundle import Bundle
from training.cli import app
from training.evaluate.stage import frozen_phantoms
from training.pipeline import STAGES
from training.sources.held_out import split_held_out
from training.sources.surfaces import open_source

pytestmark = pytest.mark.slow


def test_the_smoke_preset_runs_every_stage_and_leaves_a_bundle_that_loads(shared_data: Path, tmp_path: Path) -> None:
    surfaces = shared_data / "amos_livers_watertight_lps.npz"
    arguments = ["run", "--preset", "smoke", "--surfaces", str(surfaces), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert all((tmp_path / f"{stage}.done").exists() for stage in STAGES)
    assert Bundle.load(tmp_path / "bundle").name == "liver-smoke"
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["phantoms"] == report["frozen_phantoms"] == 2
    assert "refined" in result.output

    before = (tmp_path / "bundle" / "manifest.json").read_bytes()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert (tmp_path / "bundle" / "manifest.json").read_bytes() == before


def test_every_frozen_phantom_is_of_a_liver_kept_out(shared_data: Path) -> None:
    training, held_out = split_held_out(open_source(shared_data / "amos_livers_watertight_lps.npz", (6,)).load())
    frozen = frozen_phantoms()
    assert Counter(entry["edition"] for entry in frozen) == {1: 20, 2: 8, 3: 8}
    assert {entry["liver"] for entry in frozen} == set(held_out)
    assert not {entry["liver"] for entry in frozen} & set(training)
    assert len({entry["sha256"] for entry in frozen}) == 36


def test_an_unknown_preset_is_named_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "--preset", "huge", "--surfaces", str(tmp_path)])
    assert result.exit_code == 2
    assert "smoke, small, paper" in result.output
