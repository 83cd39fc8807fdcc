"""Images that came again in other bytes: who compares their content, and what came out of it (C2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.intake import audit_image, change_use
from dicom_node.catalog.series import stored_instance
from dicom_node.catalog.tables import Instance
from dicom_node.values.received import InstanceUse, StoredInstance
from dicom_node.values.recorded_reason import RecordedReason
from dissm_engine.json_value import JsonValue


@dataclass(frozen=True, slots=True)
class Comparison:
    """An image that waits, and the one in use under its SOP Instance UID; None where there is none any more.

    begun_before: how often it was begun and not ended, because the process that compared it was gone.
    """

    waiting: StoredInstance
    used: StoredInstance | None
    begun_before: int


@dataclass(frozen=True)
class ComparisonResult:
    """What came out. quarantined: why the image is no duplicate; None where it is one.

    content_digests: of the images whose content is known now, by their id. coerced: keywords of attributes that do not
    count and differ.
    """

    comparison: Comparison
    quarantined: RecordedReason | None
    content_digests: Mapping[int, str]
    coerced: tuple[str, ...] = ()


def images_waiting(view: View) -> int:
    """How many images wait for the comparison of their content, also those that somebody compares now."""
    return view.session.scalar(select(func.count()).where(Instance.use == InstanceUse.WAITING)) or 0


def claim_comparisons(tx: Transaction, max_images: int, seconds: float) -> list[Comparison]:
    """Take images that wait, for so many seconds; after that they may be taken again.

    One that was begun before comes alone, after those that were not: what ended its process must not hold up others.
    """
    now = audit.utc_now()
    until = now + timedelta(seconds=seconds)
    # A time further ahead than anybody may take was written before the clock was set back.
    free = or_(Instance.comparison_until.is_(None), Instance.comparison_until <= now, Instance.comparison_until > until)
    waiting = select(Instance).where(Instance.use == InstanceUse.WAITING, free).order_by(Instance.id)
    taken = tx.session.scalars(waiting.where(Instance.comparisons == 0).limit(max_images)).all()
    taken = (
        taken or tx.session.scalars(waiting.order_by(None).order_by(Instance.comparisons, Instance.id).limit(1)).all()
    )
    found = []
    for row in taken:
        used = _in_use(tx.session, row.sop_instance_uid)
        in_use = stored_instance(used) if used is not None else None
        found.append(Comparison(stored_instance(row), in_use, row.comparisons))
        row.comparisons += 1
        row.comparison_until = until
    return found


def record_comparisons(tx: Transaction, results: Iterable[ComparisonResult]) -> None:
    """Write results down. Where another image came into use meanwhile, the comparison is made again."""
    for result in results:
        row = tx.session.get_one(Instance, result.comparison.waiting.id)
        if row.use is not InstanceUse.WAITING:
            continue
        row.comparison_until = None
        used, compared = _in_use(tx.session, row.sop_instance_uid), result.comparison.used
        if (used.id if used else None) != (compared.id if compared else None):
            row.comparisons = 0
            continue
        note_contents(tx, list(result.content_digests.items()))
        change_use(row, InstanceUse.QUARANTINED if result.quarantined else InstanceUse.DUPLICATE)
        _audit_result(tx, row, result)


def note_contents(tx: Transaction, digests: Sequence[tuple[int, str]]) -> None:
    """Keep the content digests (SHA-256, hex) of images by their ids, so that nobody decodes them for it again."""
    rows = [{"id": instance_id, "content_digest": digest} for instance_id, digest in digests]
    if rows:
        tx.session.execute(update(Instance), rows)


def _in_use(session: Session, sop_instance_uid: str) -> Instance | None:
    same_uid = select(Instance).where(Instance.sop_instance_uid == sop_instance_uid)
    return session.scalar(same_uid.where(Instance.use == InstanceUse.IN_USE))


def _audit_result(tx: Transaction, row: Instance, result: ComparisonResult) -> None:
    reason, used = result.quarantined, result.comparison.used
    facts: dict[str, JsonValue] = {
        "sop_instance_uid": row.sop_instance_uid,
        "digest": row.digest,
        "digest_in_use": used.digest if used else None,
        "content_digest": result.content_digests.get(row.id),
        "coerced": list(result.coerced),
        **(reason.facts if reason else {}),
    }
    event = AuditEvent.IMAGE_QUARANTINED if reason else AuditEvent.IMAGE_IS_DUPLICATE
    audit_image(tx, event, row.series, reason.code if reason else None, facts)
