"""What was sent for a study before: which revision a new result is, and what it replaces (C8)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.catalog.states import CaseState, DeliveryState
from dicom_node.catalog.tables import Case, Delivery, ResultObject, Series, Stack
from dicom_node.values.results import FIRST_REVISION, ObjectKind, ResultReference, Revision

_LEFT = (Delivery.state == DeliveryState.WAITING) | Delivery.sent_at.is_not(None)
"""Deliveries whose object is at its destination, or may still get there; also what a person must delete there."""
_ENDED = (CaseState.SUPERSEDED, CaseState.INVALID)


def revision_of(session: Session, case: Case, *, process_all: bool) -> Revision:
    """One more than the results that were sent before this case's: of its study, or, with process_all, of its series.

    process_all: every stack has its own answer; then only superseded and invalid results of its own series came before.
    """
    series = case.stack.series
    earlier = (
        select(Case)
        .join(Case.stack)
        .join(Stack.series)
        .join(ResultObject, ResultObject.case_id == Case.id)
        .join(Delivery, Delivery.object_id == ResultObject.id)
        .where(Series.study_instance_uid == series.study_instance_uid, Case.id != case.id)
        .where(_LEFT, ResultObject.kind != ObjectKind.REJECTION_NOTE)
        .order_by(Case.created_at, Case.id)
        .distinct()
    )
    if process_all:
        earlier = earlier.where(Series.id == series.id, Case.state.in_(_ENDED))
    sent = session.scalars(earlier).all()
    return Revision(len(sent) + 1, _references(session, sent[-1])) if sent else FIRST_REVISION


def _references(session: Session, case: Case) -> tuple[ResultReference, ...]:
    """What was sent of one case: releases before 0.4 kept no series of an object, theirs are not named."""
    objects: Sequence[ResultObject] = session.scalars(
        select(ResultObject)
        .join(Delivery, Delivery.object_id == ResultObject.id)
        .where(ResultObject.case_id == case.id, _LEFT)
        .where(ResultObject.kind != ObjectKind.REJECTION_NOTE)
        .order_by(ResultObject.id)
        .distinct()
    ).all()
    return tuple(
        ResultReference(one.kind, one.sop_class_uid, one.sop_instance_uid, one.series_instance_uid)
        for one in objects
        if one.series_instance_uid is not None
    )
