"""Rows of the catalogue in any state, without the images they stand for."""

from __future__ import annotations

import itertools

from dicom_node.catalog import audit
from dicom_node.catalog.database import Catalog
from dicom_node.catalog.naming import new_case_id
from dicom_node.catalog.states import CaseState, DeliveryState, SeriesState
from dicom_node.catalog.tables import Case, Delivery, ResultObject, Series, Stack
from dicom_node.values.results import ObjectKind
from tests.builders.rows import changed_rows

_counter = itertools.count(1)


def new_series(state: SeriesState) -> Series:
    number, now = next(_counter), audit.utc_now()
    return Series(
        series_instance_uid=f"1.2.{number}",
        study_instance_uid=f"1.1.{number}",
        state=state,
        calling_ae="TEST",
        first_received_at=now,
        last_received_at=now,
    )


def add_case(catalog: Catalog, state: CaseState = CaseState.QUEUED) -> str:
    """A case in `state` with a series and a stack of its own; its id."""
    now = audit.utc_now()
    with changed_rows(catalog) as session:
        series = new_series(SeriesState.ADMITTED)
        stack = Stack(series=series, revision=1, label="whole series", admitted=True, input_digest="")
        case = Case(id=new_case_id(), stack=stack, state=state, current=True, created_at=now, changed_at=now)
        session.add_all([series, stack, case])
    return case.id


def add_delivery(catalog: Catalog, state: DeliveryState) -> int:
    """A delivery in `state` of an object of a case that is being delivered; its id."""
    case_id, now = add_case(catalog, CaseState.DELIVERING), audit.utc_now()
    with changed_rows(catalog) as session:
        item = ResultObject(
            case_id=case_id,
            attempt=0,
            kind=ObjectKind.SEG,
            sop_class_uid="1.2",
            sop_instance_uid="1.2.3",
            path="seg.dcm",
            digest="",
            created_at=now,
        )
        delivery = Delivery(object=item, destination="pacs", state=state, attempts=0, next_attempt_at=now)
        session.add_all([item, delivery])
        session.flush()
        return delivery.id
