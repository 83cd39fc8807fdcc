"""Who made an object, out of what, and the UIDs that follow from it (C8)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.settings import ResultSettings
from dicom_node.values.equipment import AI_MARK, SOFTWARE_VERSION
from dicom_node.values.results import ObjectKind
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Verdict

LONG_STRING = 64
"""Most characters of a DICOM LO (PS3.5 6.2)."""


@dataclass(frozen=True, slots=True)
class ResultIdentity:
    """Everything an object's UIDs, numbers and descriptions are made from: the same inputs give the same object.

    input_digest: SHA-256 over the sorted (SOP Instance UID, digest) pairs of the source images.
    arithmetic: what the delineation's bits depend on beside images and bundle (`Arithmetic.text`).
    profile: canonical JSON of the settings that shape the objects, of the mark and of the arithmetic.
    created_at: the audit's time of the case, UTC; it dates the objects and is no part of their UIDs.
    mark: ACCEPT, or what the viewer is told in the series' description.
    """

    input_digest: str
    bundle_digest: str
    bundle_name: str
    bundle_version: str
    program_version: str
    arithmetic: str
    profile: str
    created_at: datetime
    mark: Verdict
    seg_series_number: int
    surface_series_number: int

    @staticmethod
    def of(
        delineation: Delineation,
        input_digest: str,
        settings: ResultSettings,
        created_at: datetime,
        mark: Verdict | None = None,
    ) -> ResultIdentity:
        """The identity of one case's results.

        created_at: UTC, with or without a zone. mark: the node's own doubt; the stricter of it and the engine's
        verdict is shown.
        """
        chosen = max(mark or Verdict.ACCEPT, delineation.findings.verdict, key=list(Verdict).index)
        # The numbers stand in the objects: with others, the same UID would name other bytes.
        shaping = {
            "seg_frames": settings.seg_frames,
            "series_numbers": [settings.seg_series_number, settings.surface_series_number],
            "mark": chosen,
            "arithmetic": delineation.arithmetic.text(),
        }
        profile = json.dumps(shaping, sort_keys=True)
        return ResultIdentity(
            input_digest,
            delineation.bundle_digest,
            delineation.bundle_name,
            delineation.bundle_version,
            SOFTWARE_VERSION,
            delineation.arithmetic.text(),
            profile,
            _utc(created_at),
            chosen,
            settings.seg_series_number,
            settings.surface_series_number,
        )

    def series_uid(self, kind: ObjectKind) -> str:
        """SeriesInstanceUID of the one series that holds this kind of object."""
        return self._derived_uid(kind, "series")

    def instance_uid(self, kind: ObjectKind) -> str:
        """SOPInstanceUID."""
        return self._derived_uid(kind, "instance")

    def dimension_organization_uid(self, kind: ObjectKind) -> str:
        """DimensionOrganizationUID (PS3.3 C.7.6.17), which libraries would draw at random."""
        return self._derived_uid(kind, "dimension organization")

    def series_number(self, kind: ObjectKind) -> int:
        """Stable and, by the settings' defaults, far from the source's numbers."""
        return {ObjectKind.SEG: self.seg_series_number, ObjectKind.SURFACE: self.surface_series_number}[kind]

    def series_description(self, kind: ObjectKind) -> str:
        """What a viewer lists: that it is by an AI, what it is, and whether to look twice."""
        what = {ObjectKind.SEG: "liver segmentation", ObjectKind.SURFACE: "liver surface"}[kind]
        warning = {Verdict.ACCEPT: "", Verdict.REVIEW: " REVIEW", Verdict.REJECT: " REJECTED"}[self.mark]
        return f"{AI_MARK}{what}{warning}"

    @property
    def software_versions(self) -> list[str]:
        """The bundle's whole SHA-256, bundle and program, each one value of SoftwareVersions.

        The last one may get a padding blank: the digest, which fills a value to its last character, comes first.
        """
        bundle = f"bundle {self.bundle_name} {self.bundle_version}"[:LONG_STRING]
        return [self.bundle_digest, bundle, self.program_version]

    @property
    def algorithm_version(self) -> str:
        """AlgorithmVersion: program and bundle in one long string."""
        return f"{self.program_version}, bundle {self.bundle_version} {self.bundle_digest[:12]}"[:LONG_STRING]

    def _derived_uid(self, kind: ObjectKind, role: str) -> str:
        """`2.25.` and 128 bits of SHA-256 as an integer (PS3.5 B.2)."""
        parts = [kind, role, self.input_digest, self.bundle_digest, self.program_version, self.profile]
        digest = hashlib.sha256(json.dumps(parts).encode()).digest()
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _utc(at: datetime) -> datetime:
    """The catalogue's times carry no zone and are UTC."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
