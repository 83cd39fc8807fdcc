from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.deliver.backoff import backoff_after
from dicom_node.deliver.store_status import DeliveryEvent, result_of_status
from tests.deliver.destinations import destination


def test_the_backoff_doubles_and_is_capped() -> None:
    pacs = destination(104, first_retry_seconds=10, max_retry_seconds=60)
    assert [backoff_after(n, pacs, chance=0).total_seconds() for n in (1, 2, 3, 4, 5)] == [10, 20, 40, 60, 60]


@given(attempts=st.integers(1, 10**9), chance=st.floats(0, 1))
def test_the_backoff_is_never_longer_than_its_limit_and_never_nothing(attempts: int, chance: float) -> None:
    pacs = destination(104, first_retry_seconds=10, max_retry_seconds=1800)
    assert 7.5 <= backoff_after(attempts, pacs, chance).total_seconds() <= 1800


@given(status=st.integers(0, 0xFFFF))
def test_every_status_has_an_outcome_and_only_success_needs_no_words(status: int) -> None:
    answer = result_of_status(status)
    assert (answer.event is DeliveryEvent.DELIVERED) == (status == 0)
    assert status == 0 or f"{status:04X}" in answer.said
