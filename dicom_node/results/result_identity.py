"""Who made an object, out of what, and the UIDs that follow from it (C8)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dicom_node.results.sentences import sentence_within
from dicom_node.settings import ResultSettings
from dicom_node.values.equipment import AI_MARK, SOFTWARE_VERSION
from dicom_node.values.object_kinds import OBJECT_KINDS
from dicom_node.values.results import ObjectKind
from dissm_engine.delineation import Delineation
from dissm_engine.findings import Verdict

LONG_STRING = 64
"""Most characters of a DICOM LO (PS3.5 6.2)."""
SHORT_TEXT = 1024
"""Most characters of a DICOM ST (PS3.5 6.2)."""
NOT_FOR_DIAGNOSIS = "AI, not for primary diagnosis"
_MAX_REASONS = SHORT_TEXT - len(f"; {NOT_FOR_DIAGNOSIS}")
"""What a description adds to the reasons has its room."""


@dataclass(frozen=True, slots=True)
class ResultIdentity:
    """Everything an object's UIDs, numbers and descriptions are made from: the same inputs give the same object.

    input_digest: SHA-256 over the sorted (SOP Instance UID, digest) pairs of the source images.
    arithmetic: what the delineation's bits depend on beside images and bundle (`Arithmetic.text`).
    profile: canonical JSON of the settings that shape the objects, of the mark and of the arithmetic.
    created_at: the audit's time of the case, UTC; it dates the objects and is no part of their UIDs.
    mark: ACCEPT, or what the viewer is told in the series' description.
    reasons: what speaks against trusting the result, one sentence each; none where the mark is ACCEPT.
    look_at: where a person should look first, in words; empty where no place is known.
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
    series_numbers: Mapping[ObjectKind, int]
    reasons: tuple[str, ...] = ()
    look_at: str = ""

    @staticmethod
    def of(
        delineation: Delineation,
        input_digest: str,
        settings: ResultSettings,
        created_at: datetime,
        mark: Verdict | None = None,
        doubts: tuple[str, ...] = (),
    ) -> ResultIdentity:
        """The identity of one case's results.

        created_at: UTC, with or without a zone. mark: the node's own doubt; the stricter of it and the engine's
        verdict is shown. doubts: the node's own, in sentences.
        """
        chosen = max(mark or Verdict.ACCEPT, delineation.findings.verdict, key=list(Verdict).index)
        accepted = chosen is Verdict.ACCEPT
        reasons = () if accepted else (*delineation.findings.reasons, *doubts)
        places = (item.place.words for item in delineation.findings.remarkable if item.place is not None)
        # Numbers and reasons stand in the objects: with others, the same UID would name other bytes.
        shaping = {
            "seg_frames": settings.seg_frames,
            "series_numbers": dict(settings.series_numbers),
            "mark": chosen,
            "reasons": reasons,
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
            settings.series_numbers,
            reasons,
            "" if accepted else next(places, ""),
        )

    def series_uid(self, kind: ObjectKind) -> str:
        """SeriesInstanceUID of the one series that holds this kind of object."""
        return self._derived_uid(kind, "series")

    def instance_uid(self, kind: ObjectKind, number: int = 1) -> str:
        """SOPInstanceUID. number: of the instance in its series, from 1."""
        return self._derived_uid(kind, "instance" if number == 1 else f"instance {number}")

    def dimension_organization_uid(self, kind: ObjectKind) -> str:
        """DimensionOrganizationUID (PS3.3 C.7.6.17), which libraries would draw at random."""
        return self._derived_uid(kind, "dimension organization")

    def named_uid(self, kind: ObjectKind, role: str) -> str:
        """A UID that an object of this kind needs for something in it, such as what it tracks."""
        return self._derived_uid(kind, role)

    def series_number(self, kind: ObjectKind) -> int:
        """Stable and, by the settings' defaults, far from the source's numbers."""
        return self.series_numbers[kind]

    def series_description(self, kind: ObjectKind) -> str:
        """What a viewer lists: that it is by an AI, what it is, whether to look twice, and where or why, as it fits."""
        what = OBJECT_KINDS[kind].description
        warning = {Verdict.ACCEPT: "", Verdict.REVIEW: " REVIEW", Verdict.REJECT: " REJECTED"}[self.mark]
        plain = f"{AI_MARK}{what}{warning}"
        where = f"{plain} {self.look_at}" if self.look_at else ""
        return _first_that_fits(where, self._with_sentence(f"{plain}: "), plain)

    @property
    def content_description(self) -> str:
        """ContentDescription: that it is by an AI, and why a person should look, or where to read it."""
        if self.mark is Verdict.ACCEPT:
            return "Liver delineated by an AI, not for primary diagnosis"
        plain = f"{NOT_FOR_DIAGNOSIS}, {self.mark}"
        # The sentence as far as it fits, where to read it, or the mark alone.
        why = f"{plain}: see segment description" if self.reasons else plain
        return _first_that_fits(self._with_sentence(f"{AI_MARK}{self.mark}: "), why, plain)

    def _with_sentence(self, before: str) -> str:
        """`before` and the first reason in a long string; empty where there is none or not a word of it fits."""
        said = sentence_within(self.reasons[0], LONG_STRING - len(before)) if self.reasons else ""
        return f"{before}{said}" if said else ""

    @property
    def segment_description(self) -> str:
        """SegmentDescription: every reason to look twice, as many as fit; empty without any."""
        if not self.reasons:
            return ""
        said = f"{self.mark}: {self.reasons[0]}"
        for reason in self.reasons[1:]:
            if len(said) + len(reason) + 2 > _MAX_REASONS:
                break
            said += f"; {reason}"
        return said.encode("ascii", "replace").decode()[:_MAX_REASONS]

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


def _first_that_fits(*texts: str) -> str:
    """The first text that is not empty and that a long string holds; the last one where none does, shortened."""
    return next((text for text in texts if text and len(text) <= LONG_STRING), texts[-1][:LONG_STRING])


def _utc(at: datetime) -> datetime:
    """The catalogue's times carry no zone and are UTC."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
