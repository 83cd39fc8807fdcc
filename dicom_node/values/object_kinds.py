"""Every kind of object that is made of a delineation, each declared once, and the named profiles of them.

A kind is one member of `ObjectKind`, one line in `OBJECT_KINDS`, and its writer and prover in
`dicom_node.results.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dicom_node.values.results import ObjectKind


@dataclass(frozen=True, slots=True)
class KindOfObject:
    """What is the same for all objects of one kind; they form one series (IHE AI Results).

    Attributes:
        sop_class_uid: Of each object (PS3.4 B.5).
        modality: Of the series (PS3.3 C.7.3.1.1.1).
        series_offset: The series' number is `results.series_number` and this.
        description: What the series' description calls it, after the mark of an AI.
    """

    sop_class_uid: str
    modality: str
    series_offset: int
    description: str


OBJECT_KINDS: Mapping[ObjectKind, KindOfObject] = {
    ObjectKind.SEG: KindOfObject("1.2.840.10008.5.1.4.1.1.66.4", "SEG", 1, "liver segmentation"),
    ObjectKind.SURFACE: KindOfObject("1.2.840.10008.5.1.4.1.1.66.5", "SEG", 2, "liver surface"),
    ObjectKind.CAPTURE: KindOfObject("1.2.840.10008.5.1.4.1.1.7", "OT", 3, "liver captures"),
    ObjectKind.SR: KindOfObject("1.2.840.10008.5.1.4.1.1.88.34", "SR", 4, "liver measurements"),
    ObjectKind.RTSTRUCT: KindOfObject("1.2.840.10008.5.1.4.1.1.481.3", "RTSTRUCT", 5, "liver contours"),
    ObjectKind.STL: KindOfObject("1.2.840.10008.5.1.4.1.1.104.3", "M3D", 6, "liver model"),
}
"""In the order in which objects are written: what refers to others comes after them."""

PROFILES: Mapping[str, tuple[ObjectKind, ...]] = {
    "viewer-basic": (ObjectKind.CAPTURE,),
    "viewer-seg": (ObjectKind.SEG, ObjectKind.SR),
    "surgery-3d": (ObjectKind.SEG, ObjectKind.SURFACE, ObjectKind.RTSTRUCT, ObjectKind.STL),
    "all": tuple(OBJECT_KINDS),
}
"""Names for sets of kinds, as settings.toml and `--profile` take them."""


def kinds_named(names: str | Iterable[str]) -> tuple[ObjectKind, ...]:
    """The kinds that a name, or a list of names, of kinds and profiles means.

    Returns:
        Each kind once, in the order of `OBJECT_KINDS`.

    Raises:
        ValueError: A name is neither a kind nor a profile, or there is none; the text says which names there are.

    Examples:
        >>> kinds_named(["surface", "seg"])
        (<ObjectKind.SEG: 'seg'>, <ObjectKind.SURFACE: 'surface'>)
    """
    chosen: set[ObjectKind] = set()
    for name in [names] if isinstance(names, str) else names:
        if name in PROFILES:
            chosen.update(PROFILES[name])
        elif name in set(OBJECT_KINDS):
            chosen.add(ObjectKind(name))
        else:
            known = ", ".join([*PROFILES, *OBJECT_KINDS])
            raise ValueError(f"holds {name!r}, which is no profile and no kind of object ({known})")
    if not chosen:
        raise ValueError("names no object")
    return tuple(kind for kind in OBJECT_KINDS if kind in chosen)
