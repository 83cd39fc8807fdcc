"""The order of a study's stacks is total and monotonic: who is the answer does not depend on when they came."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.admit.choice import ORDER, choose_all, choose_one
from dicom_node.values.phase import Phase
from dicom_node.values.study_choice import Place, StackRank, StackStanding, StudyMember

_SEEN_BY_TEXT = {
    # What the phase gate can make of each text once the image was seen (None: refused by the image).
    Phase.VENOUS: (Phase.VENOUS, Phase.UNKNOWN, None),
    Phase.UNKNOWN: (Phase.VENOUS, Phase.UNKNOWN, None),
    Phase.ARTERIAL: (Phase.UNKNOWN, None),
}


@st.composite
def stacks(draw: st.DrawFn) -> tuple[StudyMember, Phase | None]:
    """A stack that fits, and what its image will show."""
    text = draw(st.sampled_from(sorted(_SEEN_BY_TEXT)))
    rank = StackRank(
        text, draw(st.sampled_from((1.0, 2.5, 5.0))), draw(st.sampled_from((200.0, 400.0))), draw(st.booleans())
    )
    uid = f"1.2.{draw(st.integers(1, 10**6))}"
    member = StudyMember(0, uid, "whole series", uid, rank, StackStanding.UNTRIED)
    return member, draw(st.sampled_from(_SEEN_BY_TEXT[text]))


def after_work(member: StudyMember, seen: Phase | None) -> StudyMember:
    if seen is None:
        return replace(member, standing=StackStanding.REFUSED)
    return replace(member, standing=StackStanding.RESULT, seen_phase=seen)


def end_of(arrivals: list[tuple[StudyMember, Phase | None, bool]]) -> str | None:
    """The answer when all have come. True: everything that can be worked on is, before the next one comes."""
    known: dict[str, StudyMember] = {}
    seen: dict[str, Phase | None] = {}
    for number, (member, image, pause) in enumerate(arrivals, start=1):
        known[member.series_instance_uid] = replace(member, stack_id=number)
        seen[member.series_instance_uid] = image
        while pause or number == len(arrivals):
            choice = choose_one(list(known.values()))
            if choice.first is None or choice.places[choice.first.stack_id] is Place.CURRENT:
                break
            uid = choice.first.series_instance_uid
            known[uid] = after_work(known[uid], seen[uid])
    choice = choose_one(list(known.values()))
    current = [one for one in known.values() if choice.places[one.stack_id] is Place.CURRENT]
    assert len(current) <= 1
    return current[0].series_instance_uid if current else None


@settings(max_examples=400, deadline=None)
@given(
    st.lists(stacks(), min_size=1, max_size=6, unique_by=lambda one: one[0].series_instance_uid),
    st.randoms(use_true_random=False),
)
def test_any_order_with_any_pause_ends_with_the_same_answer(
    found: list[tuple[StudyMember, Phase | None]], chance: object
) -> None:
    together = end_of([(member, seen, False) for member, seen in found])
    for _ in range(4):
        chance.shuffle(found)  # type: ignore[attr-defined]
        pauses = [chance.random() < 0.5 for _ in found]  # type: ignore[attr-defined]
        assert end_of([(*one, pause) for one, pause in zip(found, pauses, strict=True)]) == together


@given(st.lists(stacks(), min_size=2, max_size=6, unique_by=lambda one: one[0].series_instance_uid))
def test_no_two_stacks_are_equal_in_the_order(found: list[tuple[StudyMember, Phase | None]]) -> None:
    keys = [tuple(line.key(member) for line in ORDER) for member, _ in found]
    assert len(set(keys)) == len(keys)


@given(stacks())
def test_what_the_image_shows_never_moves_a_stack_up(found: tuple[StudyMember, Phase | None]) -> None:
    member, seen = found
    if seen is not None:
        assert ORDER[0].key(after_work(member, seen)) >= ORDER[0].key(member)  # type: ignore[operator]


def member(
    uid: str, text: Phase, standing: StackStanding, spacing: float = 2.5, seen: Phase | None = None
) -> StudyMember:
    return StudyMember(int(uid), uid, "whole series", uid, StackRank(text, spacing, 300.0, False), standing, seen)


def test_a_result_stands_until_the_better_one_is_proven() -> None:
    old = member("1", Phase.VENOUS, StackStanding.RESULT, 5.0, Phase.VENOUS)
    for standing in (StackStanding.UNTRIED, StackStanding.QUEUED, StackStanding.RUNNING):
        places = choose_one([old, member("2", Phase.VENOUS, standing)]).places
        assert places == {1: Place.WAITING, 2: Place.NEXT}
    places = choose_one([old, member("2", Phase.VENOUS, StackStanding.RESULT, seen=Phase.VENOUS)]).places
    assert places == {1: Place.OUTRANKED, 2: Place.CURRENT}


def test_a_series_that_is_not_venous_by_its_text_stands_beside_no_venous_one() -> None:
    venous = member("1", Phase.VENOUS, StackStanding.RESULT, 5.0, Phase.VENOUS)
    choice = choose_one([venous, member("2", Phase.ARTERIAL, StackStanding.UNTRIED, 1.0)])
    assert choice.places == {1: Place.CURRENT, 2: Place.OUTRANKED}
    assert choice.why == {2: "the contrast phase"}


def test_what_gives_no_result_gives_its_turn_to_the_next() -> None:
    for standing in (StackStanding.REFUSED, StackStanding.FAILED):
        best, next_one = member("1", Phase.VENOUS, standing), member("2", Phase.VENOUS, StackStanding.UNTRIED, 5.0)
        assert choose_one([best, next_one]).places == {1: Place.OUT, 2: Place.NEXT}


def test_where_every_one_is_processed_none_gives_way() -> None:
    both = [member("1", Phase.VENOUS, StackStanding.RESULT), member("2", Phase.ARTERIAL, StackStanding.UNTRIED)]
    assert choose_all(both).places == {1: Place.CURRENT, 2: Place.NEXT}
