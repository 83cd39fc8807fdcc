"""Which attributes the objects hold, told from objects that the writers wrote.

What two objects of unlike cases have alike is the same in all; what only one of them has depends on the case.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.uid import UID

from dicom_node.results.modules import PATIENT_AND_STUDY_OPTIONAL, PATIENT_AND_STUDY_TYPE_2
from dicom_node.values.results import ObjectKind

sys.path.insert(0, str(Path(__file__).parent))
from example_objects import EXAMPLES, example_objects

NOTE_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
SHARED = {"StudyInstanceUID", "TimezoneOffsetFromUTC", *PATIENT_AND_STUDY_TYPE_2, *PATIENT_AND_STUDY_OPTIONAL}
COPIED = {"FrameOfReferenceUID", "PositionReferenceIndicator", "BodyPartExamined", "LossyImageCompression"}
_MAX_DEPTH = 2
_MAX_VALUE_CHARACTERS = 64
_TREES = {"ContentSequence", "CurrentRequestedProcedureEvidenceSequence"}
"""Contents of documents, for which templates of PS3.16 stand."""

Row = tuple[str, str, str, str, str, str]
"""Name, tag, VR, presence, source, value."""


@cache
def objects_of_all_kinds() -> dict[ObjectKind, tuple[Dataset, Dataset]]:
    """Of every kind an object of a CT whose header says much, and one of a CT whose header says little."""
    full, sparse = (example_objects(example) for example in EXAMPLES)
    return {kind: (full[kind], sparse[kind]) for kind in full}


def rows_of(one: Dataset, other: Dataset, depth: int = 0) -> Iterator[Row]:
    """A row for each attribute that either object has, sequences with the attributes of their last item."""
    for tag in sorted({*one.keys(), *other.keys()}):
        both = [dataset[tag] for dataset in (one, other) if tag in dataset]
        first = both[0]
        if first.keyword in SHARED and depth == 0:
            continue
        name = f"{'>' * depth} {first.name}".strip()
        known = (name, str(first.tag).replace(" ", ""), first.VR)
        yield (*known, _presence(both), _source(both), _value(both))
        if first.VR == "SQ" and depth < _MAX_DEPTH and first.keyword not in _TREES and not _code(first):
            items = [element.value[-1] for element in both if element.value]
            if len(items) == 2:
                yield from rows_of(items[0], items[1], depth + 1)


def _code(element: DataElement) -> str:
    """The code that a sequence holds as its one item, as (value, scheme, meaning); empty where it holds none."""
    items = element.value if element.VR == "SQ" else []
    if len(items) != 1 or "CodeValue" not in items[0]:
        return ""
    return f"({items[0].CodeValue}, {items[0].CodingSchemeDesignator}, {items[0].CodeMeaning})"


def _presence(both: list[DataElement]) -> str:
    if len(both) == 1:
        return "ANAP"
    filled = sum(not element.is_empty for element in both)
    return ("EMPTY", "VNAP", "ALWAYS")[filled]


def _source(both: list[DataElement]) -> str:
    if both[0].keyword in COPIED:
        return "COPY"
    if both[0].keyword == "SeriesNumber":
        return "CONFIG"
    return "FIXED" if _is_fixed(both) else "AUTO"


def _is_fixed(both: list[DataElement]) -> bool:
    if len(both) < 2 or both[0].keyword == "SoftwareVersions":
        return False
    if both[0].VR == "SQ":
        return bool(_code(both[0])) and _code(both[0]) == _code(both[1])
    return bool(both[0].value == both[1].value)


def _value(both: list[DataElement]) -> str:
    """The value that all objects have; of binary ones nothing."""
    value = both[0].value
    if both[0].keyword in COPIED:
        return ""
    if _is_fixed(both) and _code(both[0]):
        return _code(both[0])
    if not _is_fixed(both) or both[0].is_empty or isinstance(value, bytes):
        return ""
    if isinstance(value, UID):
        return f"{value} ({value.name})" if value.name != value else str(value)
    text = "\\".join(map(str, value)) if both[0].VM > 1 else str(value)
    return text if len(text) <= _MAX_VALUE_CHARACTERS else f"{text[:_MAX_VALUE_CHARACTERS]}..."
