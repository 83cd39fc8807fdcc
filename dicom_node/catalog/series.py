"""Series on their way from their first image to their stacks (C3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from dicom_node.catalog.database import Transaction, View
from dicom_node.catalog.states import SeriesEvent, SeriesState
from dicom_node.catalog.tables import Association, Instance, RejectedImage, Series, Stack, StackImage
from dicom_node.catalog.transitions import advance_series
from dicom_node.values.evidence import Evidence
from dicom_node.values.received import Completeness, ReceivingSeries, StoredInstance
from dicom_node.values.recorded_reason import RecordedReason


@dataclass(frozen=True, slots=True)
class SeriesRevision:
    """A series in one of its revisions: whoever decides about it must find it unchanged."""

    series_id: int
    revision: int


@dataclass(frozen=True)
class StackDraft:
    """A stack before it has its row.

    instance_ids: in the order of the slices. refusal: why it makes no volume; None where it does, or where eligibility
    has to say. input_digest: SHA-256 (hex) over its images.
    """

    label: str
    instance_ids: tuple[int, ...]
    input_digest: str
    refusal: RecordedReason | None = None
    evidence: tuple[Evidence, ...] = ()


def receiving_series(view: View) -> list[ReceivingSeries]:
    """Every series that is still being received."""
    rows = view.session.scalars(select(Series).where(Series.state == SeriesState.RECEIVING).order_by(Series.id))
    return [_receiving(view.session, row) for row in rows]


def find_receiving_series(view: View, series_id: int) -> ReceivingSeries | None:
    """The same for one series; None where it is not being received any more."""
    row = view.session.get_one(Series, series_id)
    return _receiving(view.session, row) if row.state == SeriesState.RECEIVING else None


def settle_series(tx: Transaction, series_id: int, completeness: Completeness) -> None:
    """The series is complete, or not waited for any longer. Raises ForbiddenTransition."""
    row = tx.session.get_one(Series, series_id)
    row.completeness = completeness
    advance_series(
        tx,
        row,
        SeriesEvent.QUIET,
        completeness=completeness.value,
        images=row.image_count,
        revision=row.revision,
    )


def series_received_after(view: View, moment: datetime) -> list[int]:
    """Ids of the series being received whose last image seems to have come after `moment` (UTC)."""
    future = select(Series.id).where(Series.state == SeriesState.RECEIVING, Series.last_received_at > moment)
    return list(view.session.scalars(future))


def set_received_at(tx: Transaction, series_id: int, now: datetime) -> None:
    """The series counts as come now: its times were written by a clock that ran ahead."""
    row = tx.session.get_one(Series, series_id)
    row.last_received_at = now
    row.first_received_at = min(row.first_received_at, now)


def series_without_stacks(view: View) -> list[SeriesRevision]:
    """Settled series that have no stack in their present revision."""
    has_stack = exists().where(Stack.series_id == Series.id, Stack.revision == Series.revision)
    query = select(Series.id, Series.revision).where(Series.state == SeriesState.SETTLED, ~has_stack)
    return [SeriesRevision(*row) for row in view.session.execute(query.order_by(Series.id))]


def images_of_series(view: View, series_id: int) -> list[StoredInstance]:
    """Every image of a series in the order in which they came, also those kept aside."""
    query = select(Instance).where(Instance.series_id == series_id).order_by(Instance.id)
    found = [stored_instance(row) for row in view.session.scalars(query)]
    series = view.session.get_one(Series, series_id)
    of_series = RejectedImage.series_instance_uid == series.series_instance_uid
    rows = view.session.execute(select(RejectedImage.sop_instance_uid, RejectedImage.code).where(of_series)).all()
    rejected = {row.sop_instance_uid: row.code for row in rows}
    return [replace(one, rejected_by=rejected.get(one.sop_instance_uid)) for one in found] if rejected else found


def invalid_code_of(view: View, series_id: int) -> str | None:
    """Why no image of a series is used; None for all others."""
    return view.session.get_one(Series, series_id).invalid_code


def add_stacks(tx: Transaction, decided: SeriesRevision, drafts: Sequence[StackDraft]) -> bool:
    """Write the stacks of a settled series; False, and nothing, where the series moved on meanwhile."""
    series = tx.session.get_one(Series, decided.series_id)
    if series.state != SeriesState.SETTLED or series.revision != decided.revision:
        return False
    for draft in drafts:
        stack = Stack(
            series_id=series.id,
            revision=series.revision,
            label=draft.label,
            admitted=False if draft.refusal else None,
            reason_code=draft.refusal.code if draft.refusal else None,
            facts=dict(draft.refusal.facts) if draft.refusal else {},
            evidence=[line.to_json() for line in draft.evidence],
            input_digest=draft.input_digest,
            images=[
                StackImage(position=position, instance_id=instance_id)
                for position, instance_id in enumerate(draft.instance_ids)
            ],
        )
        tx.session.add(stack)
    return True


def image_count(session: Session, stack: Stack) -> int:
    """How many images a stack has, counted by the database."""
    return session.scalar(select(func.count()).where(StackImage.stack_id == stack.id)) or 0


def stored_instance(row: Instance) -> StoredInstance:
    """The row as a value."""
    return StoredInstance(
        id=row.id,
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        path=row.path,
        digest=row.digest,
        size=row.size,
        use=row.use,
        content_digest=row.content_digest,
    )


def _receiving(session: Session, row: Series) -> ReceivingSeries:
    last = (
        select(Association.closed_at, Association.ended)
        .join(Instance, Instance.association_id == Association.id)
        .where(Instance.series_id == row.id)
        .order_by(Instance.id.desc())
        .limit(1)
    )
    found = session.execute(last).first()
    return ReceivingSeries(
        id=row.id,
        calling_ae=row.calling_ae,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
        still_sent=_still_sent(session, row),
        last_ended=found.ended if found else None,
    )


def _still_sent(session: Session, series: Series) -> bool:
    """Whether an open association brought its latest image to this very series."""
    bringing = exists().where(Instance.association_id == Association.id, Instance.series_id == series.id)
    open_ones = select(Association.id).where(Association.closed_at.is_(None), bringing)
    for association_id in session.scalars(open_ones):
        latest = select(Instance.series_id).where(Instance.association_id == association_id)
        if session.scalar(latest.order_by(Instance.id.desc()).limit(1)) == series.id:
            return True
    return False
