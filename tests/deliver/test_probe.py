"""`dissm-node probe`: what each destination accepts is asked, told, and proposed in words that settings.toml takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    SurfaceSegmentationStorage,
)
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.deliver.probe import probe, propose
from dicom_node.values.object_kinds import OBJECT_KINDS, PROFILES, kinds_named
from dicom_node.values.results import ObjectKind
from tests.deliver.destinations import destination, free_port, storage_scp


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_profile_needs_is_proposed_as_that_profile(profile: str) -> None:
    assert propose(PROFILES[profile]) == (profile,)


def test_a_proposal_covers_exactly_what_is_accepted() -> None:
    for number in range(1, 2 ** len(OBJECT_KINDS)):
        accepted = tuple(kind for bit, kind in enumerate(OBJECT_KINDS) if number >> bit & 1)
        assert kinds_named(propose(accepted)) == accepted
    assert propose([]) == propose([ObjectKind.REJECTION_NOTE]) == ()


def test_every_kind_is_asked_and_nothing_is_sent() -> None:
    classes = (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage)
    with storage_scp(classes=classes) as pacs:
        found = probe(destination(pacs.port, replaced_results="key-object"))
    answers = {one.kind: one.accepted for one in found.kinds}
    assert {kind for kind, accepted in answers.items() if accepted} == {"seg", "sr", "capture"}
    assert set(answers) == set(ObjectKind)
    assert {one.kind for one in found.kinds if one.wanted} == {"seg", "surface", "rejection_note"}
    assert (found.proposal, found.good, pacs.received) == (("viewer-seg", "capture"), False, [])


def test_a_class_that_is_taken_in_another_syntax_only_is_told_apart_from_an_unknown_one() -> None:
    with storage_scp(syntaxes=(ImplicitVRLittleEndian,)) as pacs:
        found = {one.kind: one for one in probe(destination(pacs.port)).kinds}
    assert (found[ObjectKind.SEG].accepted, found[ObjectKind.SEG].other_syntaxes) == (
        False,
        ("Implicit VR Little Endian",),
    )
    assert "transfer syntax" in found[ObjectKind.SEG].why_not
    assert "abstract syntax" in found[ObjectKind.STL].why_not


def _settings(folder: Path, *ports: int) -> list[str]:
    blocks = [
        f'[[destinations]]\nname = "pacs{n}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
        for n, port in enumerate(ports)
    ]
    (folder / "settings.toml").write_text("\n".join(blocks))
    return ["--settings", str(folder / "settings.toml")]


def test_the_command_shows_a_table_and_what_to_write(tmp_path: Path) -> None:
    with storage_scp(syntaxes=(ExplicitVRLittleEndian,)) as pacs:
        done = CliRunner().invoke(app, ["probe", "pacs0", *_settings(tmp_path, pacs.port, free_port())])
    assert done.exit_code == 0, done.output
    assert 'objects = ["seg", "surface"]' in done.output
    assert "pacs1" not in done.output


def test_the_command_fails_where_something_is_not_accepted_or_not_there(tmp_path: Path) -> None:
    with storage_scp(classes=(SurfaceSegmentationStorage,)) as pacs:
        done = CliRunner().invoke(app, ["probe", "--json", *_settings(tmp_path, pacs.port, free_port())])
    assert done.exit_code == 1
    first, second = json.loads(done.stdout)
    assert (first["proposal"], first["problem"]) == (["surface"], None)
    assert second["problem"] == "nobody answers there"
    assert CliRunner().invoke(app, ["probe", "other", *_settings(tmp_path, 1)]).exit_code == 2
