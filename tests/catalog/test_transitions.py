from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import dicom_node
from dicom_node.catalog import audit
from dicom_node.catalog.audit import AuditEvent
from dicom_node.catalog.database import Catalog, Transaction, View, open_catalog
from dicom_node.catalog.database_url import sqlite_url
from dicom_node.catalog.naming import new_case_id
from dicom_node.catalog.states import (
    CASE_TRANSITIONS,
    DELIVERY_TRANSITIONS,
    SERIES_TRANSITIONS,
    CaseEvent,
    CaseState,
    DeliveryEvent,
    DeliveryState,
    SeriesEvent,
    SeriesState,
)
from dicom_node.catalog.tables import Case, Delivery, Series
from dicom_node.catalog.transitions import ForbiddenTransition, advance_case, advance_delivery, advance_series
from dicom_node.reasons import RESULT_REJECTED
from dicom_node.values.recorded_reason import RecordedReason
from tests.builders.rows import changed_rows, rows
from tests.work.rows import add_case, add_delivery, new_series

SOURCES = sorted(Path(dicom_node.__file__).parent.rglob("*.py"))
TRANSITIONS = Path(dicom_node.__file__).parent / "catalog" / "transitions.py"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return open_catalog(sqlite_url(tmp_path_factory.mktemp("catalog") / "catalog.sqlite"))


def last_row(catalog: Catalog) -> tuple[str, str | None, str | None, str]:
    with rows(catalog) as session:
        row = audit.last_rows(View(session), 1)[0]
        return row.subject, row.from_state, row.to_state, row.event


BEGUN = {edge: state for edge, state in CASE_TRANSITIONS.items() if edge[0] is not None}


@pytest.mark.parametrize(("edge", "to_state"), BEGUN.items(), ids=str)
def test_every_edge_of_a_case_moves_it_and_is_audited(
    catalog: Catalog, edge: tuple[CaseState, CaseEvent], to_state: CaseState
) -> None:
    case_id = add_case(catalog, edge[0])
    with changed_rows(catalog) as session:
        advance_case(Transaction(session, "test"), session.get_one(Case, case_id), edge[1], number=1)
    with rows(catalog) as session:
        assert session.get_one(Case, case_id).state == to_state
    assert last_row(catalog) == (case_id, edge[0], to_state, edge[1])


def test_what_is_no_edge_of_a_case_is_refused_and_changes_nothing(catalog: Catalog) -> None:
    for state, event in product(CaseState, CaseEvent):
        if (state, event) in CASE_TRANSITIONS:
            continue
        case_id = add_case(catalog, state)
        before = last_row(catalog)
        with pytest.raises(ForbiddenTransition), changed_rows(catalog) as session:
            advance_case(Transaction(session, "test"), session.get_one(Case, case_id), event)
        with rows(catalog) as session:
            assert session.get_one(Case, case_id).state == state
        assert last_row(catalog) == before


def test_a_case_begins_by_its_table_and_by_no_other_event(catalog: Catalog) -> None:
    with rows(catalog) as session:
        stack_id = session.get_one(Case, add_case(catalog)).stack_id
    for event in CaseEvent:
        case = Case(id=new_case_id(), stack_id=stack_id, created_at=audit.utc_now())
        with changed_rows(catalog) as session:
            tx = Transaction(session, "test")
            if event is CaseEvent.CREATED:
                session.add(case)
                advance_case(tx, case, event)
            else:
                with pytest.raises(ForbiddenTransition):
                    advance_case(tx, case, event)
    assert case.state is None


def test_edges_of_a_delivery_and_nothing_else(catalog: Catalog) -> None:
    for state, event in product((None, *DeliveryState), DeliveryEvent):
        delivery_id = add_delivery(catalog, state) if state is not None else None
        target = DELIVERY_TRANSITIONS.get((state, event))
        with changed_rows(catalog) as session:
            delivery = session.get_one(Delivery, delivery_id) if delivery_id is not None else Delivery()
            if target is None:
                with pytest.raises(ForbiddenTransition):
                    advance_delivery(Transaction(session, "test"), delivery, event)
                assert delivery.state == state
            else:
                advance_delivery(Transaction(session, "test"), delivery, event, said="said")
                assert delivery.state == target
        if target is not None and delivery_id is not None:
            with rows(catalog) as session:
                row = audit.last_rows(View(session), 1)[0]
            assert (row.subject_kind, row.event, row.facts["said"]) == ("delivery", event, "said")


def test_edges_of_a_series_and_nothing_else(catalog: Catalog) -> None:
    for state, event in product((None, *SeriesState), SeriesEvent):
        with changed_rows(catalog) as session:
            series = new_series(SeriesState.RECEIVING if state is None else state)
            session.add(series)
            session.flush()
        before = last_row(catalog) if state is not None else None
        target = SERIES_TRANSITIONS.get((state, event))
        if state is None:
            assert (target is not None) == (event is SeriesEvent.INSTANCE_STORED)
        elif target is None:
            with pytest.raises(ForbiddenTransition), changed_rows(catalog) as session:
                advance_series(Transaction(session, "test"), session.get_one(Series, series.id), event)
            assert last_row(catalog) == before
        else:
            with changed_rows(catalog) as session:
                advance_series(Transaction(session, "test"), session.get_one(Series, series.id), event)
            moved = (series.series_instance_uid, state, target, event)
            silent = event is SeriesEvent.INSTANCE_STORED and target == state
            assert last_row(catalog) == (before if silent else moved)


def test_the_reason_and_its_facts_stay_with_the_case_until_it_moves_on(catalog: Catalog) -> None:
    case_id = add_case(catalog, CaseState.DELINEATED)
    with changed_rows(catalog) as session:
        case = session.get_one(Case, case_id)
        advance_case(
            Transaction(session, "test"),
            case,
            CaseEvent.RESULT_REJECTED,
            reason=RecordedReason(RESULT_REJECTED.code, {"findings": "too small"}),
        )
        assert (case.reason_code, case.facts) == ("RESULT_REJECTED", {"findings": "too small"})
        advance_case(Transaction(session, "test"), case, CaseEvent.RETRIED)
        assert (case.reason_code, case.facts) == (None, {})


def test_state_and_audit_row_share_one_transaction(catalog: Catalog) -> None:
    case_id = add_case(catalog, CaseState.QUEUED)
    before = last_row(catalog)

    def fail() -> None:
        with changed_rows(catalog) as session:
            advance_case(Transaction(session, "test"), session.get_one(Case, case_id), CaseEvent.LEASED)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with rows(catalog) as session:
        assert session.get_one(Case, case_id).state == CaseState.QUEUED
    assert last_row(catalog) == before


def test_every_event_is_raised_by_the_program() -> None:
    raised = {
        (node.value.id, node.attr)
        for path in SOURCES
        if path.name != "states.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert {("CaseEvent", event.name) for event in CaseEvent} <= raised
    assert {("SeriesEvent", event.name) for event in SeriesEvent} <= raised
    assert {("DeliveryEvent", event.name) for event in DeliveryEvent} <= raised
    assert {("AuditEvent", event.name) for event in AuditEvent} <= raised


def test_every_state_can_be_reached_from_the_first() -> None:
    assert _reachable(None, CASE_TRANSITIONS) == {None, *CaseState}
    assert _reachable(None, DELIVERY_TRANSITIONS) == {None, *DeliveryState}
    assert _reachable(None, SERIES_TRANSITIONS) == {None, *SeriesState}


def test_no_other_module_sets_the_state_of_a_series_a_case_or_a_delivery() -> None:
    offenders = [
        f"{path.name}:{line} {target}"
        for path in SOURCES
        if path != TRANSITIONS
        for line, target in _states_set(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert offenders == []


def test_the_search_for_set_states_finds_every_way_to_set_one() -> None:
    ways = (
        "case.state = 1",
        "a, case.state = 1, 2",
        "case.state: int = 1",
        "setattr(case, 'state', 1)",
        "update(Case).values(state=1)",
        "update(Case).values({'state': 1})",
        "update(Case).values({Case.state: 1})",
        "Case(state=CaseState.FAILED)",
        "Case(state=CaseState.QUEUED)",
        "Delivery(state=DeliveryState.WAITING)",
        "Series(state=SeriesState.ADMITTED)",
        "for case.state in x: pass",
    )
    for way in ways:
        assert list(_states_set(ast.parse(way))), way
    assert not list(_states_set(ast.parse("x = case.state")))


def _reachable(first: object, table: object) -> set[object]:
    found = {first}
    while True:
        more = {to for (state, _), to in table.items() if state in found} - found  # type: ignore[attr-defined]
        if not more:
            return found
        found |= more


def _states_set(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, whose) of everything that sets an attribute, column or field called `state`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "state" and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.lineno, ast.unparse(node.value)
        elif isinstance(node, ast.Call):
            yield from _states_set_by_call(node)


def _states_set_by_call(call: ast.Call) -> Iterator[tuple[int, str]]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    states = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "state"]
    by_name = name == "setattr" and any(ast.unparse(each) == "'state'" for each in call.args)
    by_birth = name in {"Case", "Series", "Delivery"} and bool(states)
    if by_name or by_birth or (name == "values" and (states or _names_state(call.args))):
        yield call.lineno, ast.unparse(call)


def _names_state(arguments: list[ast.expr]) -> bool:
    keys = [ast.unparse(key) for each in arguments if isinstance(each, ast.Dict) for key in each.keys if key]
    return any(key == "'state'" or key.endswith(".state") for key in keys)
