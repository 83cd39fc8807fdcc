"""What a case's results are: objects on the disk, the proof of where they lie, and what the engine found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.values.facts import Facts
from dicom_node.values.phase import Phase, PhaseVerdict
from dissm_engine.findings import Findings, Verdict
from dissm_engine.json_value import JsonValue

if TYPE_CHECKING:
    # It needs torch, and the commands that only read do not.
    from dissm_engine.delineation import Delineation


class ObjectKind(StrEnum):
    """What the node makes; the value stands in the catalogue."""

    SEG = "seg"
    SURFACE = "surface"
    CAPTURE = "capture"
    SR = "sr"
    RTSTRUCT = "rtstruct"
    STL = "stl"
    REJECTION_NOTE = "rejection_note"
    """Not made of a delineation: it names results that were replaced, for a destination that has them."""


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """One DICOM object that lies complete on the disk. digest: SHA-256 (hex) of the file."""

    kind: ObjectKind
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    digest: str


@dataclass(frozen=True, slots=True)
class ResultReference:
    """One object of a result that was sent, as DICOM names it."""

    kind: ObjectKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class Revision:
    """Which answer for its study (or its stack) a result is. number: from one. replaces: the objects of the last."""

    number: int = 1
    replaces: tuple[ResultReference, ...] = ()

    @property
    def words(self) -> str:
        """For a viewer's list of series; empty for the first."""
        return f"(revision {self.number}, replaces {self.number - 1})" if self.number > 1 else ""


FIRST_REVISION = Revision()


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured. Distances in mm, volumes in ml; the surface's numbers are None where none was made.

    surface_handles: how many tunnels the closed surface has (its genus); a liver's has none.
    further: the numbers of the objects of other kinds, by the name of their kind.
    """

    seg_frames: int
    seg_voxels: int
    seg_volume_ml: float
    frame_offset_mm: float
    surface_vertices: int | None = None
    surface_faces: int | None = None
    surface_handles: int | None = None
    surface_volume_ml: float | None = None
    vertex_to_seg_p99_mm: float | None = None
    vertex_to_seg_most_mm: float | None = None
    seg_to_surface_most_mm: float | None = None
    wrong_side_most_mm: float | None = None
    allowed_mm: float | None = None
    further: Mapping[str, Facts] = field(default_factory=dict)

    def to_json(self) -> Facts:
        """The numbers for catalogue and audit, rounded to a micrometre or microlitre."""
        own = asdict(self)
        del own["further"]
        return {**_rounded(own), **{kind: _rounded(numbers) for kind, numbers in self.further.items()}}


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """One finding of the engine as the catalogue keeps it; a limit that is infinite is None.

    place: where to look, in words. point_lps: the nearest vertex of the surface, LPS mm. Both are empty where the
    finding is of the whole, and in what releases up to 0.3.0 stored.
    """

    name: str
    value: float | None
    unit: str
    low: float | None
    high: float | None
    remarkable: bool
    place: str = ""
    point_lps: tuple[float, ...] = ()

    def to_json(self) -> Facts:
        """As it stands in the catalogue; without a place there is nothing about one."""
        said = asdict(self)
        if not self.place:
            del said["place"], said["point_lps"]
        return said


@dataclass(frozen=True, slots=True)
class CaseResults:
    """What the engine said about one delineation, as the catalogue keeps it.

    seconds: wall time of each stage. tissue_hu: median HU of named tissues. verdict: the engine's own.
    """

    seconds: Mapping[str, float | None]
    verdict: Verdict
    estimated_dsc: float | None
    reasons: tuple[str, ...]
    findings: tuple[FindingRecord, ...]
    tissue_hu: Mapping[str, float | None]
    phase: PhaseVerdict
    bundle_name: str
    bundle_version: str
    bundle_digest: str
    arithmetic: str = ""
    """Empty in what releases up to 0.3.0 stored."""

    @staticmethod
    def of(found: Delineation, phase: PhaseVerdict, further_reasons: tuple[str, ...] = ()) -> CaseResults:
        """further_reasons: what the node doubts beside the engine's own findings."""
        findings = found.findings
        return CaseResults(
            seconds=_finite_numbers(found.stage_seconds),
            verdict=findings.verdict,
            estimated_dsc=_finite(findings.estimated_dsc),
            reasons=(*findings.reasons, *further_reasons),
            findings=_finding_records(findings),
            tissue_hu=_finite_numbers(found.tissue_hu),
            phase=phase,
            bundle_name=found.bundle_name,
            bundle_version=found.bundle_version,
            bundle_digest=found.bundle_digest,
            arithmetic=found.arithmetic.text(),
        )

    def to_json(self) -> Facts:
        """As it stands in the catalogue and is printed by `--json`."""
        return {
            "seconds": dict(self.seconds),
            "findings": {
                "verdict": self.verdict.value,
                "estimated_dsc": self.estimated_dsc,
                "reasons": list(self.reasons),
                "items": [item.to_json() for item in self.findings],
            },
            "tissue_hu": dict(self.tissue_hu),
            "phase": {"phase": self.phase.phase.value, "evidence": self.phase.evidence},
            "bundle": {"name": self.bundle_name, "version": self.bundle_version, "digest": self.bundle_digest},
            "arithmetic": self.arithmetic,
        }

    @staticmethod
    def from_json(content: Mapping[str, JsonValue]) -> CaseResults:
        """The inverse of `to_json`, also for rows of older releases. Raises KeyError, ValueError, TypeError."""
        stored: _StoredResults = _StoredResults(content)
        findings, phase, bundle = stored.table("findings"), stored.table("phase"), stored.table("bundle")
        items = findings.rows("items")
        return CaseResults(
            seconds=stored.numbers("seconds"),
            verdict=Verdict(findings.text("verdict")),
            estimated_dsc=findings.number("estimated_dsc"),
            reasons=findings.texts("reasons"),
            findings=tuple(
                FindingRecord(
                    name=item.text("name"),
                    value=item.number("value"),
                    unit=item.text("unit"),
                    low=item.number("low"),
                    high=item.number("high"),
                    remarkable=bool(item.content["remarkable"]),
                    place=str(item.content.get("place", "")),
                    point_lps=item.numbers_in("point_lps"),
                )
                for item in items
            ),
            tissue_hu=stored.numbers("tissue_hu"),
            phase=PhaseVerdict(Phase(phase.text("phase")), phase.text("evidence")),
            bundle_name=bundle.text("name"),
            bundle_version=bundle.text("version"),
            bundle_digest=bundle.text("digest"),
            arithmetic=str(content.get("arithmetic", "")),
        )


@dataclass(frozen=True, slots=True)
class _StoredResults:
    """Reads a JSON object by type. Each method raises KeyError or TypeError where it is not there."""

    content: Mapping[str, JsonValue] = field(default_factory=dict)

    def table(self, name: str) -> _StoredResults:
        found = self.content[name]
        if not isinstance(found, Mapping):
            raise TypeError(f"{name} is no object")
        return _StoredResults(found)

    def rows(self, name: str) -> tuple[_StoredResults, ...]:
        found = self.content[name]
        if isinstance(found, str) or not isinstance(found, list | tuple):
            raise TypeError(f"{name} is no list")
        return tuple(_StoredResults(one) for one in found if isinstance(one, Mapping))

    def text(self, name: str) -> str:
        return str(self.content[name])

    def texts(self, name: str) -> tuple[str, ...]:
        found = self.content[name]
        return tuple(str(one) for one in found) if isinstance(found, list | tuple) else ()

    def numbers_in(self, name: str) -> tuple[float, ...]:
        """A list of numbers, empty where there is none."""
        found = self.content.get(name)
        if isinstance(found, str) or not isinstance(found, list | tuple):
            return ()
        return tuple(float(one) for one in found if isinstance(one, int | float))

    def number(self, name: str) -> float | None:
        found = self.content[name]
        return float(found) if isinstance(found, int | float) else None

    def numbers(self, name: str) -> dict[str, float | None]:
        table = self.table(name)
        return {key: table.number(key) for key in table.content}


def _rounded(numbers: Facts) -> Facts:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in numbers.items()}


def _finding_records(findings: Findings) -> tuple[FindingRecord, ...]:
    return tuple(
        FindingRecord(
            item.name,
            _finite(item.value),
            item.unit,
            _finite(item.low),
            _finite(item.high),
            bool(item.remarkable),
            "" if item.place is None else item.place.words,
            () if item.place is None else tuple(round(one, 1) for one in item.place.point_lps),
        )
        for item in findings.items
    )


def _finite_numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None
