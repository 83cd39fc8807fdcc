"""Which segments of a SEG, or regions of a structure set, are the liver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicom_node.reasons import NO_LIVER_ANNOTATED, NodeError

LIVER_CODES = frozenset({("SCT", "10200004"), ("SRT", "T-62000"), ("99SDM", "T-62000"), ("FMA", "7197")})
"""Coding scheme and value: SNOMED CT, its older identifiers, the Foundational Model of Anatomy."""
LIVER_NAMES = frozenset({"liver", "leber", "foie", "higado", "hígado", "fegato", "figado", "fígado", "hepar", "печень"})
"""Whole names: `Liver tumor` and `liver_vessels` are others."""


@dataclass(frozen=True, slots=True)
class Label:
    """One segment or region. codes: pairs of coding scheme and value that say what it is."""

    number: int
    name: str
    codes: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ChosenLabels:
    """What makes up the liver. by: `code`, `name` or `--label`."""

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    by: str


def segments_of(dataset: Dataset) -> list[Label]:
    """The segments of a SEG (PS3.3 C.8.20.2)."""
    return [
        Label(int(item.SegmentNumber), _text(item, "SegmentLabel"), _codes(item, "SegmentedPropertyTypeCodeSequence"))
        for item in dataset.SegmentSequence
    ]


def regions_of(dataset: Dataset) -> list[Label]:
    """The regions of an RT Structure Set (PS3.3 C.8.8.5, C.8.8.8)."""
    codes = {
        int(item.ReferencedROINumber): _codes(item, "RTROIIdentificationCodeSequence")
        for item in dataset.get("RTROIObservationsSequence", [])
    }
    return [
        Label(int(item.ROINumber), _text(item, "ROIName"), codes.get(int(item.ROINumber), frozenset()))
        for item in dataset.StructureSetROISequence
    ]


def choose_liver(labels: Sequence[Label], wanted: Sequence[str] = ()) -> ChosenLabels:
    """The liver: what is named, else the one with a liver's code, else the one with a liver's name.

    Args:
        labels: All that there are.
        wanted: Names, in any case of letters; every one must be there, together they are the liver.

    Raises:
        NodeError: NO_LIVER_ANNOTATED where none fits, or several do and none is named.
    """
    if wanted:
        found = [label for label in labels if _plain(label.name) in {_plain(name) for name in wanted}]
        if {_plain(label.name) for label in found} == {_plain(name) for name in wanted}:
            return _chosen(found, "--label")
        raise _nothing_fits(labels)
    for by, fitting in (
        ("code", [label for label in labels if label.codes & LIVER_CODES]),
        ("name", [label for label in labels if _plain(label.name) in LIVER_NAMES]),
    ):
        if len(fitting) == 1:
            return _chosen(fitting, by)
        # Two of one code may be told apart by their names: a lobe and the whole.
        named = [label for label in fitting if _plain(label.name) in LIVER_NAMES]
        if len(named) == 1:
            return _chosen(named, f"{by} and name")
        if fitting:
            break
    raise _nothing_fits(labels)


def _chosen(labels: Sequence[Label], by: str) -> ChosenLabels:
    return ChosenLabels(tuple(label.number for label in labels), tuple(label.name for label in labels), by)


def _nothing_fits(labels: Sequence[Label]) -> NodeError:
    return NodeError(NO_LIVER_ANNOTATED, names=", ".join(label.name for label in labels) or "none")


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def _text(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "")


def _codes(item: Dataset, keyword: str) -> frozenset[tuple[str, str]]:
    return frozenset(
        (str(code.get("CodingSchemeDesignator") or ""), str(code.get("CodeValue") or ""))
        for code in item.get(keyword) or []
    )
