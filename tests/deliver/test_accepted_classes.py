"""What destinations accept is asked without anything being sent, and every kind of answer is told apart."""

from __future__ import annotations

import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    SegmentationStorage,
    SurfaceSegmentationStorage,
)

from dicom_node.deliver.accepted_classes import ObjectContext, ask_accepted_classes
from tests.deliver.destinations import destination, free_port, storage_scp

SEG = ObjectContext(SegmentationStorage, ExplicitVRLittleEndian)
SURFACE = ObjectContext(SurfaceSegmentationStorage, ExplicitVRLittleEndian)


def test_each_class_and_syntax_is_answered_by_itself_and_nothing_is_sent() -> None:
    compressed = ObjectContext(SegmentationStorage, JPEG2000Lossless)
    with storage_scp(classes=(SegmentationStorage,)) as pacs:
        found = ask_accepted_classes(destination(pacs.port), [SEG, SURFACE, compressed])
    assert found.accepted == {SEG}
    assert found.takes(SegmentationStorage, ExplicitVRLittleEndian)
    assert found.syntaxes_of(SegmentationStorage) == (ExplicitVRLittleEndian,)
    assert {(one.context, one.permanent) for one in found.refused} == {(SURFACE, True), (compressed, True)}
    assert found.refusal_of(SurfaceSegmentationStorage, ExplicitVRLittleEndian) is not None
    assert (found.problem, pacs.received) == (None, [])


def test_a_destination_that_refuses_every_context_has_answered() -> None:
    with storage_scp(classes=(SegmentationStorage,)) as pacs:
        found = ask_accepted_classes(destination(pacs.port), [SURFACE])
    assert (found.accepted, found.problem) == (frozenset(), None)
    assert [one.context for one in found.refused] == [SURFACE]


def test_a_destination_that_rejects_or_is_not_there_is_a_problem() -> None:
    with storage_scp(ae_title="OTHER", require_called=True) as pacs:
        rejected = ask_accepted_classes(destination(pacs.port), [SEG])
    absent = ask_accepted_classes(destination(free_port()), [SEG])
    assert "called ae title" in (rejected.problem or "")
    assert absent.problem == "nobody answers there"
    assert not rejected.accepted | absent.accepted


def test_more_contexts_than_one_association_can_carry_are_an_error() -> None:
    with pytest.raises(ValueError, match="129"):
        ask_accepted_classes(destination(1), [ObjectContext(f"1.2.{n}", ExplicitVRLittleEndian) for n in range(129)])
