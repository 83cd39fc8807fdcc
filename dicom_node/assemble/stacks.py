"""A settled series becomes stacks in the catalogue, each with its geometry's verdict and evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.uid import UID, CTImageStorage

from dicom_node.assemble.geometry import GeometryLimits, StackGeometry
from dicom_node.assemble.plane import ImagePlane, read_plane
from dicom_node.assemble.split import WHOLE, Part, split_into_stacks
from dicom_node.catalog.database import Recorder
from dicom_node.catalog.invalid_sources import rejection_reason
from dicom_node.catalog.series import (
    StackDraft,
    add_stacks,
    images_of_series,
    invalid_code_of,
    series_without_stacks,
)
from dicom_node.dicom.header_reading import ENHANCED_CT, PARSE_ERRORS, UnreadableDicomError, unreadable
from dicom_node.reasons import SERIES_TOO_LARGE, NodeError, RefusalError
from dicom_node.values.evidence import Evidence, RuleOutcome, StackMeasures
from dicom_node.values.received import InstanceUse, StoredInstance
from dicom_node.values.recorded_reason import RecordedReason

MEGABYTE = 1 << 20
_MAX_LABEL_CHARACTERS = 64


@dataclass(frozen=True)
class StackBuilder:
    """Makes stacks of a series' images.

    limits: what is accepted of a stack's geometry. spool: the folder that the images' paths count from.
    max_series_mb: a larger series is refused as a whole.
    """

    limits: GeometryLimits
    spool: Path
    max_series_mb: int

    def drafts_or_refusal(self, instances: Sequence[StoredInstance]) -> list[StackDraft]:
        """One series that nobody foresaw is refused: it must not end the job that every other series waits for."""
        try:
            return self.drafts(instances)
        except PARSE_ERRORS as problem:
            used = [one for one in instances if one.use is InstanceUse.IN_USE]
            name = f"{used[0].id} to {used[-1].id}"
            return [_draft("unreadable", used, unreadable(problem, name))]

    def drafts(self, instances: Sequence[StoredInstance]) -> list[StackDraft]:
        """Judge the images of one series. Objects that are no CT are kept together by class for admission to refuse."""
        used = [instance for instance in instances if instance.use is InstanceUse.IN_USE]
        notes = _notes_of_other_bytes(instances)
        size = sum(one.size for one in instances if one.use is not InstanceUse.DUPLICATE) // MEGABYTE
        if size >= self.max_series_mb:
            large = RefusalError(SERIES_TOO_LARGE, size_mb=size, most_mb=self.max_series_mb)
            return [_draft(WHOLE, used, large, notes)]
        ct = [one for one in used if one.sop_class_uid in {CTImageStorage, *ENHANCED_CT}]
        drafts = [
            _draft(UID(name).name, [one for one in used if one.sop_class_uid == name], None, notes)
            for name in sorted({one.sop_class_uid for one in used} - {one.sop_class_uid for one in ct})
        ]
        planes, unreadable_ones = self._read_planes(ct)
        drafts += [_draft("unreadable", [instance], problem, notes) for instance, problem in unreadable_ones]
        if planes:
            known = {instance.id: instance for instance in ct}
            drafts += [_of_part(part, known, notes) for part in split_into_stacks(planes, self.limits)]
        return drafts

    def _read_planes(
        self, instances: Sequence[StoredInstance]
    ) -> tuple[list[ImagePlane], list[tuple[StoredInstance, UnreadableDicomError]]]:
        planes, unreadable_ones = [], []
        for instance in instances:
            try:
                planes.append(read_plane(self.spool / instance.path, instance.id))
            except UnreadableDicomError as problem:
                unreadable_ones.append((instance, problem))
        return planes, unreadable_ones


def assemble_settled_series(recorder: Recorder, builder: StackBuilder) -> int:
    """Write the stacks of every settled series that has none in its present revision; how many series it were.

    Headers are read outside the write transaction; a series that moved on meanwhile is left for the next round.
    """
    done = 0
    with recorder.read() as view:
        waiting = series_without_stacks(view)
    for series in waiting:
        with recorder.read() as view:
            instances = images_of_series(view, series.series_id)
            invalid_code = invalid_code_of(view, series.series_id)
        drafts = [_withdrawn(draft, instances, invalid_code) for draft in builder.drafts_or_refusal(instances)]
        with recorder.write() as tx:
            done += add_stacks(tx, series, drafts)
    return done


def _withdrawn(draft: StackDraft, instances: Sequence[StoredInstance], invalid_code: str | None) -> StackDraft:
    """Refused where its source withdrew an image of it, or where the series came under two patients."""
    if invalid_code is not None:
        return replace(draft, refusal=RecordedReason(invalid_code))
    used = set(draft.instance_ids)
    codes = [one.rejected_by for one in instances if one.id in used and one.rejected_by is not None]
    return replace(draft, refusal=rejection_reason(codes[0], len(codes))) if codes else draft


def input_digest(instances: Sequence[StoredInstance]) -> str:
    """SHA-256 (hex) over the sorted (SOP Instance UID, digest of the file) pairs: the same files give the same cases.

    Of each image the encoding that came first stays in use, so that nothing has to be decoded to know a case again. The
    UIDs of results follow from what the images hold (`image_content.stack_digest`), not from this.
    """
    pairs = sorted((instance.sop_instance_uid, instance.digest) for instance in instances)
    return hashlib.sha256("\n".join(f"{uid} {digest}" for uid, digest in pairs).encode()).hexdigest()


def _draft(
    label: str,
    instances: Sequence[StoredInstance],
    refusal: NodeError | None = None,
    evidence: tuple[Evidence, ...] = (),
) -> StackDraft:
    return StackDraft(
        label="".join(sign for sign in label if sign.isprintable())[:_MAX_LABEL_CHARACTERS],
        instance_ids=tuple(instance.id for instance in instances),
        input_digest=input_digest(instances),
        refusal=RecordedReason.of(refusal) if refusal else None,
        evidence=evidence,
    )


def _of_part(part: Part, known: Mapping[int, StoredInstance], notes: tuple[Evidence, ...]) -> StackDraft:
    instances = [known[plane.instance_id] for plane in part.planes]
    if isinstance(part.geometry, StackGeometry):
        ordered = [instances[index] for index in part.geometry.order]
        return _draft(part.label, ordered, None, (_geometry_line(part.geometry), *notes))
    seen = part.geometry.reason.say(**part.geometry.facts)
    refused = Evidence("geometry", RuleOutcome.NO, seen, StackMeasures(len(instances)))
    return _draft(part.label, instances, part.geometry, (refused, *notes))


def _geometry_line(geometry: StackGeometry) -> Evidence:
    measures = StackMeasures(
        slices=len(geometry.order),
        spacing_mm=round(geometry.spacing_mm, 3),
        extent_mm=round(geometry.extent_mm, 1),
        tilt_degrees=round(geometry.tilt_degrees, 2),
    )
    seen = f"{len(geometry.order)} slices, {geometry.spacing_mm:.2f} mm apart, {geometry.extent_mm:.0f} mm in all"
    if geometry.tilt_degrees > 0.05:
        seen += f", tilted by {geometry.tilt_degrees:.1f} degrees"
    return Evidence("geometry", RuleOutcome.YES, seen, measures)


def _notes_of_other_bytes(instances: Sequence[StoredInstance]) -> tuple[Evidence, ...]:
    """Duplicates are no doubt about the series: they hold what is in use."""
    quarantined = sum(one.use is InstanceUse.QUARANTINED for one in instances)
    waiting = sum(one.use is InstanceUse.WAITING for one in instances)
    seen = []
    if quarantined:
        seen.append(f"{quarantined} images came with two contents, of which one is kept aside and not used")
    if waiting:
        seen.append(f"{waiting} images came again in other bytes, which are not compared yet")
    return (Evidence("one content an image", RuleOutcome.UNKNOWN, "; ".join(seen)),) if seen else ()
