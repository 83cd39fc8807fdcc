"""A settled series becomes stacks in the catalogue, each with its geometry's verdict and evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import UID, CTImageStorage
from sqlalchemy import select

from dicom_node.assemble.geometry import StackGeometry
from dicom_node.assemble.plane import ImagePlane, read_plane
from dicom_node.assemble.split import WHOLE, Part, split_into_stacks
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.states import SeriesState
from dicom_node.catalog.tables import Instance, Series, Stack
from dicom_node.dicom.header_reading import ENHANCED_CT, PARSE_ERRORS, UnreadableDicomError, unreadable
from dicom_node.reasons import SERIES_TOO_LARGE, NodeError, RefusalError, plain_facts
from dicom_node.settings import Settings

MEGABYTE = 1 << 20
_MAX_LABEL_CHARACTERS = 64


@dataclass(frozen=True)
class _Draft:
    """A stack before it has its row. refusal: why it makes no volume; None where it does or where none is expected."""

    label: str
    instance_ids: tuple[int, ...]
    refusal: NodeError | None = None
    evidence: tuple[dict[str, Any], ...] = field(default=())


def assemble_settled_series(catalog: Catalog, settings: Settings) -> int:
    """Write the stacks of every settled series that has none in its present revision; how many series it were.

    Headers are read outside the write transaction; a series that moved on meanwhile is left for the next round.
    """
    done = 0
    for series_id, revision in _without_stacks(catalog):
        with catalog.read() as session:
            series = session.get_one(Series, series_id)
            instances = sorted(series.instances, key=lambda instance: instance.id)
        drafts = _drafts_or_refusal(instances, settings)
        with catalog.write() as session:
            series = session.get_one(Series, series_id)
            if series.state != SeriesState.SETTLED or series.revision != revision:
                continue
            known = {instance.id: instance for instance in instances}
            session.add_all(_row(series, draft, known) for draft in drafts)
            done += 1
    return done


def _drafts_or_refusal(instances: Sequence[Instance], settings: Settings) -> list[_Draft]:
    """One series that nobody foresaw is refused: it must not end the job that every other series waits for."""
    try:
        return draft_stacks(instances, settings)
    except PARSE_ERRORS as problem:
        ids = tuple(one.id for one in instances if not one.quarantined)
        return [_Draft("unreadable", ids, unreadable(problem, f"{ids[0]} to {ids[-1]}"))]


def draft_stacks(instances: Sequence[Instance], settings: Settings) -> list[_Draft]:
    """Judge the images of one series. Objects that are no CT are kept together by class for admission to refuse."""
    used = [instance for instance in instances if not instance.quarantined]
    notes = _quarantine_note(len(instances) - len(used))
    size, most = sum(one.size for one in instances) // MEGABYTE, settings.listen.max_series_mb
    if size >= most:
        large = RefusalError(SERIES_TOO_LARGE, size_mb=size, most_mb=most)
        return [_Draft(WHOLE, tuple(one.id for one in used), large, notes)]
    ct = [one for one in used if one.sop_class_uid in {CTImageStorage, *ENHANCED_CT}]
    drafts = [
        _Draft(UID(name).name, tuple(one.id for one in used if one.sop_class_uid == name), None, notes)
        for name in sorted({one.sop_class_uid for one in used} - {one.sop_class_uid for one in ct})
    ]
    planes, unreadable = _read_planes(ct, settings.node.spool)
    drafts += [_Draft("unreadable", (instance_id,), problem, notes) for instance_id, problem in unreadable]
    if planes:
        drafts += [_judged(part, notes) for part in split_into_stacks(planes, settings.assemble)]
    return drafts


def input_digest(instances: Sequence[Instance]) -> str:
    """SHA-256 (hex) over the sorted (SOP Instance UID, digest) pairs: the same images give the same cases (C8)."""
    pairs = sorted((instance.sop_instance_uid, instance.digest) for instance in instances)
    return hashlib.sha256("\n".join(f"{uid} {digest}" for uid, digest in pairs).encode()).hexdigest()


def _without_stacks(catalog: Catalog) -> list[tuple[int, int]]:
    with catalog.read() as session:
        settled = session.scalars(select(Series).where(Series.state == SeriesState.SETTLED).order_by(Series.id))
        return [
            (series.id, series.revision)
            for series in settled
            if not any(stack.revision == series.revision for stack in series.stacks)
        ]


def _read_planes(
    instances: Sequence[Instance], spool: Path
) -> tuple[list[ImagePlane], list[tuple[int, UnreadableDicomError]]]:
    planes, unreadable = [], []
    for instance in instances:
        try:
            planes.append(read_plane(spool / instance.path, instance.id))
        except UnreadableDicomError as problem:
            unreadable.append((instance.id, problem))
    return planes, unreadable


def _judged(part: Part, notes: tuple[dict[str, Any], ...]) -> _Draft:
    ids = tuple(plane.instance_id for plane in part.planes)
    if isinstance(part.geometry, StackGeometry):
        ordered = tuple(ids[index] for index in part.geometry.order)
        return _Draft(part.label, ordered, None, (_geometry_row(part.geometry), *notes))
    refused = {
        "rule": "geometry",
        "outcome": "no",
        "seen": part.geometry.reason.say(**part.geometry.facts),
        "numbers": {"slices": len(ids)},
    }
    return _Draft(part.label, ids, part.geometry, (refused, *notes))


def _geometry_row(geometry: StackGeometry) -> dict[str, Any]:
    numbers = {
        "slices": len(geometry.order),
        "spacing_mm": round(geometry.spacing_mm, 3),
        "extent_mm": round(geometry.extent_mm, 1),
        "tilt_degrees": round(geometry.tilt_degrees, 2),
    }
    seen = f"{len(geometry.order)} slices, {geometry.spacing_mm:.2f} mm apart, {geometry.extent_mm:.0f} mm in all"
    if geometry.tilt_degrees > 0.05:
        seen += f", tilted by {geometry.tilt_degrees:.1f} degrees"
    return {"rule": "geometry", "outcome": "yes", "seen": seen, "numbers": numbers}


def _quarantine_note(count: int) -> tuple[dict[str, Any], ...]:
    if not count:
        return ()
    seen = f"{count} images came with two contents, of which one is kept aside and not used"
    return ({"rule": "one content an image", "outcome": "unknown", "seen": seen},)


def _row(series: Series, draft: _Draft, known: dict[int, Instance]) -> Stack:
    return Stack(
        series_id=series.id,
        revision=series.revision,
        label="".join(sign for sign in draft.label if sign.isprintable())[:_MAX_LABEL_CHARACTERS],
        admitted=False if draft.refusal else None,
        reason_code=draft.refusal.reason.code if draft.refusal else None,
        facts=plain_facts(draft.refusal) if draft.refusal else {},
        evidence=list(draft.evidence),
        instance_ids=list(draft.instance_ids),
        input_digest=input_digest([known[instance_id] for instance_id in draft.instance_ids]),
    )
