"""The tables of objects and profiles, and what settings make of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.uid import UID

from dicom_node.results.provers import PROVERS
from dicom_node.results.write import WRITERS
from dicom_node.settings import Destination, ResultSettings, Settings
from dicom_node.values.object_kinds import OBJECT_KINDS, PROFILES, kinds_named
from dicom_node.values.results import ObjectKind

MADE = set(ObjectKind) - {ObjectKind.REJECTION_NOTE}
"""What is made of a delineation."""


def destination(**options: object) -> Destination:
    return Destination.model_validate({"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104, **options})


def test_every_kind_has_its_line_its_writer_and_its_prover() -> None:
    assert set(OBJECT_KINDS) == MADE == set(WRITERS)
    assert set(PROVERS) | {ObjectKind.SEG, ObjectKind.SURFACE} == MADE


def test_kinds_are_storage_classes_in_series_of_their_own() -> None:
    for facts in OBJECT_KINDS.values():
        assert UID(facts.sop_class_uid).type == "SOP Class"
        assert "Storage" in UID(facts.sop_class_uid).name
    for said in ("series_offset", "description"):
        assert len({getattr(facts, said) for facts in OBJECT_KINDS.values()}) == len(OBJECT_KINDS)


def test_profiles_and_lists_mean_each_kind_once_in_the_order_of_writing() -> None:
    assert kinds_named(["surface", "seg", "seg"]) == (ObjectKind.SEG, ObjectKind.SURFACE)
    for name, kinds in PROFILES.items():
        assert kinds_named(name) == kinds_named([name, *kinds])
        assert set(kinds_named(name)) == set(kinds)


@pytest.mark.parametrize("names", ["movie", ["seg", "movie"], "rejection_note", [], 7])
def test_a_name_that_is_no_object_is_refused(names: object) -> None:
    with pytest.raises(ValidationError, match=r"no profile and no kind|names no object|needs the name"):
        ResultSettings.model_validate({"objects": names})


def test_what_a_destination_names_is_made_and_a_seg_always(tmp_path: Path) -> None:
    everything = Settings(results=ResultSettings(objects="seg"), destinations=(destination(objects="all"),))
    assert everything.objects_made == PROFILES["all"]
    only_seg = Settings(results=ResultSettings(objects=["seg"]), destinations=(destination(objects=["seg"]),))
    assert only_seg.objects_made == (ObjectKind.SEG,)
    assert ResultSettings(objects=["surface"]).objects_made() == (ObjectKind.SEG, ObjectKind.SURFACE)


def test_settings_of_0_3_mean_what_they_meant() -> None:
    assert Settings().objects_made == (ObjectKind.SEG, ObjectKind.SURFACE)
    assert destination().objects == (ObjectKind.SEG, ObjectKind.SURFACE)
    no_surface = Settings(results=ResultSettings(surface=False), destinations=(destination(),))
    assert no_surface.objects_made == (ObjectKind.SEG,)
    numbers = ResultSettings(seg_series_number=7, surface_series_number=8).series_numbers
    assert (numbers[ObjectKind.SEG], numbers[ObjectKind.SURFACE]) == (7, 8)


def test_series_numbers_are_distinct_whatever_is_set() -> None:
    numbers = ResultSettings().series_numbers
    assert (numbers[ObjectKind.SEG], numbers[ObjectKind.SURFACE]) == (9101, 9102)
    assert len(set(numbers.values())) == len(MADE)
    for taken in (9102, ResultSettings().rejection_note_series_number):
        with pytest.raises(ValidationError, match="are equal"):
            ResultSettings(seg_series_number=taken)


def test_the_reference_names_every_kind_and_profile_as_the_tables_do() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "objects.md").read_text(encoding="utf-8")
    for kind, facts in OBJECT_KINDS.items():
        (row,) = (
            line for line in page.splitlines() if line.startswith(f"| `{kind}` |") and facts.sop_class_uid in line
        )
        assert row.endswith(f"| {facts.sop_class_uid} | {facts.modality} | {9100 + facts.series_offset} |")
    for name, kinds in PROFILES.items():
        assert f"| `{name}` | " + ", ".join(f"`{kind}`" for kind in kinds) + " |" in page
