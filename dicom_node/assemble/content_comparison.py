"""Images that came again in other bytes are compared by what they hold; the worker does it, never the listener (C2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage

from dicom_node.assemble.image_content import CONTENT_FIELDS, ImageContent
from dicom_node.assemble.volume import decode_image
from dicom_node.catalog.comparisons import (
    Comparison,
    ComparisonResult,
    claim_comparisons,
    images_waiting,
    record_comparisons,
)
from dicom_node.catalog.database import Recorder
from dicom_node.dicom.header_reading import PARSE_ERRORS, read_header
from dicom_node.reasons import CONTENT_NOT_COMPARED, DUPLICATE_SOP_INSTANCE_UID, NodeError
from dicom_node.values.received import StoredInstance
from dicom_node.values.recorded_reason import RecordedReason

_MAX_IMAGES = 20
"""So many are taken at once: a stop is heard between two takings."""
_CLAIM_SECONDS = 600.0
_MAX_ATTEMPTS = 3
"""An image whose comparison ended its process so often is kept aside for good."""
_MAX_SAMPLES = 4096 * 4096
_MAX_COERCED = 30
_NOT_TOLD = frozenset({"PixelData", *(field.keyword for field in CONTENT_FIELDS)})


@dataclass(frozen=True)
class _NotComparableError(Exception):
    """Why the content of an image cannot be found out."""

    problem: str


def compare_waiting(
    recorder: Recorder, spool: Path, *, asked_to_stop: Callable[[], bool] = lambda: False, max_seconds: float = 1e9
) -> int:
    """Compare the images that came again in other bytes with those in use.

    One that holds the same is a duplicate, everything else is quarantined with its reason and an audit row.

    Args:
        recorder: The catalogue, as the process that compares.
        spool: The folder that the images' paths count from.
        asked_to_stop: Asked now and then; what is not compared yet is left for the next call.
        max_seconds: After so long nothing more is begun.

    Returns:
        How many images were compared.

    Raises:
        CatalogUnavailableError: The catalogue cannot be read or written.
    """
    end, count = time.monotonic() + max_seconds, 0
    while not asked_to_stop() and time.monotonic() < end:
        with recorder.read() as view:
            # Nothing waits, nearly always: an idle worker does not ask for the write lock.
            if not images_waiting(view):
                break
        with recorder.write() as tx:
            claimed = claim_comparisons(tx, _MAX_IMAGES, _CLAIM_SECONDS)
        if not claimed:
            break
        results = [_compare(spool, comparison) for comparison in claimed]
        with recorder.write() as tx:
            record_comparisons(tx, results)
        count += len(results)
    return count


def _compare(spool: Path, comparison: Comparison) -> ComparisonResult:
    waiting, used = comparison.waiting, comparison.used
    try:
        if used is None:
            raise _NotComparableError("no image is in use under its SOP Instance UID")
        if comparison.begun_before >= _MAX_ATTEMPTS:
            raise _NotComparableError(f"{comparison.begun_before} attempts ended their process")
        found = _content(spool, waiting)
        if used.content_digest == found.digest:
            coerced = _coerced(spool, waiting, used)
            return ComparisonResult(comparison, None, {waiting.id: found.digest}, coerced)
        in_use = _content(spool, used)
    except _NotComparableError as refusal:
        reason = RecordedReason(CONTENT_NOT_COMPARED.code, {"problem": refusal.problem})
        return ComparisonResult(comparison, reason, {})
    digests = {waiting.id: found.digest, used.id: in_use.digest}
    differences = in_use.differences(found)
    if differences:
        reason = RecordedReason(DUPLICATE_SOP_INSTANCE_UID.code, {"differs": ", ".join(differences)})
        return ComparisonResult(comparison, reason, digests)
    return ComparisonResult(comparison, None, digests, _coerced(spool, waiting, used))


def _content(spool: Path, instance: StoredInstance) -> ImageContent:
    """Decode one image. Raises _NotComparableError."""
    if instance.sop_class_uid != CTImageStorage:
        raise _NotComparableError("it is no single-frame CT image")
    path = spool / instance.path
    try:
        header = read_header(path, instance.id, ("Rows", "Columns"))
        # What the header promises will be allocated: compressed pixels may be far fewer than they say.
        if int(header.Rows) * int(header.Columns) > _MAX_SAMPLES:
            raise _NotComparableError("its matrix is too large")
        return decode_image(path, instance.id).content()
    except (NodeError, *PARSE_ERRORS) as problem:
        raise _NotComparableError(
            str(problem) if isinstance(problem, NodeError) else type(problem).__name__
        ) from problem


def _coerced(spool: Path, one: StoredInstance, other: StoredInstance) -> tuple[str, ...]:
    """Keywords of the attributes that do not count and differ; sequences and private attributes are not looked at."""
    try:
        first, second = (read_header(spool / each.path, each.id) for each in (one, other))
        tags = sorted({*first.keys(), *second.keys()})
        keywords = {str(header[tag].keyword) for tag in tags for header in (first, second) if tag in header}
    except (NodeError, *PARSE_ERRORS):
        return ()
    differing = (name for name in sorted(keywords - _NOT_TOLD - {""}) if _text(first, name) != _text(second, name))
    return tuple(differing)[:_MAX_COERCED]


def _text(header: Dataset, keyword: str) -> str:
    """The value as text; empty where it is missing, a sequence, or cannot be read."""
    try:
        value = header.get(keyword)
        return "" if value is None or isinstance(value, Sequence) else str(value).strip()
    except PARSE_ERRORS:
        return ""
