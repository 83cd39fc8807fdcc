"""A settings file of 0.3 is taken under its old names, and says so."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from subprocess import run

import pytest
from typer.testing import CliRunner

from dicom_node.catalog.database import open_catalog
from dicom_node.cli.app import app
from dicom_node.reasons import SETTINGS_INVALID, SettingsError
from dicom_node.settings import Settings, load_settings
from tests.cli.test_cli import ROOT

RENAMED = [
    ("listen", "maximum_associations", "max_associations", 7),
    ("listen", "maximum_pdu", "max_pdu_bytes", 16384),
    ("listen", "largest_instance_mb", "max_instance_mb", 3),
    ("listen", "largest_series_mb", "max_series_mb", 5),
    ("assemble", "hard_cap_seconds", "max_receiving_seconds", 11.0),
    ("assemble", "least_slices", "min_slices", 4),
    ("assemble", "least_extent_mm", "min_extent_mm", 9.0),
    ("assemble", "most_spacing_mm", "max_spacing_mm", 6.5),
    ("work", "attempts", "max_attempts", 8),
    ("destinations", "longest_retry_seconds", "max_retry_seconds", 77.0),
    ("destinations", "most_failures", "max_failures", 6),
]
PACS = 'name = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


def write(folder: Path, table: str, *lines: str) -> Path:
    """A settings file with these lines in a table, or in the one destination."""
    head = f"[[destinations]]\n{PACS}" if table == "destinations" else f"[{table}]\n"
    file = folder / "settings.toml"
    file.write_text(f'[node]\ndata_folder = "{folder / "data"}"\n' + head + "\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize(("table", "old", "new", "value"), RENAMED)
def test_an_old_name_is_taken_and_listed(tmp_path: Path, table: str, old: str, new: str, value: float) -> None:
    settings = load_settings(write(tmp_path, table, f"{old} = {value}"))
    section = settings.destinations[0] if table == "destinations" else getattr(settings, table)
    assert getattr(section, new) == value
    place = "destinations.0" if table == "destinations" else table
    assert [(one.table, one.old, one.new) for one in settings.renamed] == [(place, old, new)]


@pytest.mark.parametrize(("table", "old", "new", "value"), RENAMED)
def test_both_names_at_once_are_refused(tmp_path: Path, table: str, old: str, new: str, value: float) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, table, f"{old} = {value}", f"{new} = {value}"))
    assert caught.value.reason is SETTINGS_INVALID
    assert f"{old} and {new}" in str(caught.value)


def test_every_limit_is_called_max_or_min() -> None:
    words = re.compile(r"maximum|minimum|largest|longest|smallest|shortest|most|least|hard_cap")
    text = (ROOT / "settings.toml").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if words.search(line.partition("=")[0])]
    assert not load_settings(ROOT / "settings.toml").renamed


def test_a_wrong_value_is_named_by_the_key_that_stands_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, "listen", "maximum_pdu = 5"))
    assert "listen.maximum_pdu is 5" in str(caught.value)


def test_a_command_warns_once_on_standard_error_and_leaves_its_output_alone(tmp_path: Path) -> None:
    file = write(tmp_path, "listen", "maximum_pdu = 16384")
    open_catalog(load_settings(file).node.catalog_url).close()
    command = [sys.executable, "-m", "dicom_node", "cases", "--json", "--settings", file]
    done = run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == []
    (line,) = done.stderr.splitlines()
    assert "listen.maximum_pdu is called listen.max_pdu_bytes now" in line


def test_check_lists_old_names_and_is_satisfied_with_them(tmp_path: Path) -> None:
    file = write(tmp_path, "work", "attempts = 8")
    answer = CliRunner().invoke(app, ["check", "--no-echo", "--json", "--settings", str(file)])
    (found,) = [each for each in json.loads(answer.stdout) if each["what"] == "settings"]
    assert found["good"] is None
    assert "work.attempts is called work.max_attempts now" in found["said"]


def test_settings_made_in_python_know_of_no_old_names() -> None:
    assert Settings().renamed == ()
