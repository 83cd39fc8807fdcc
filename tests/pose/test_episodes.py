from collections import Counter

import numpy as np
import pytest

from training.pose.episodes import Visit, visits, visits_in_epoch


def epoch(kind: str) -> list[Visit]:
    return list(visits(kind, cases=10, steps=4, batch_size=3, rng=np.random.default_rng(0)))


@pytest.mark.parametrize("kind", ["inverted", "staggered", "plain"])
def test_every_case_is_visited_once_a_step(kind: str) -> None:
    order = epoch(kind)
    assert Counter(case for visit in order for case in visit.cases) == Counter(dict.fromkeys(range(10), 4))
    assert len(order) == visits_in_epoch(10, 4, 3)


@pytest.mark.parametrize("kind", ["inverted", "staggered", "plain"])
def test_no_case_is_continued_before_it_began(kind: str) -> None:
    begun: set[int] = set()
    for visit in epoch(kind):
        for case, begins in zip(visit.cases, visit.begins, strict=True):
            assert begins or case in begun
            begun.add(case)


def test_inverted_plays_a_step_of_all_cases_before_the_next_step_of_any() -> None:
    played: Counter[int] = Counter()
    for visit in epoch("inverted"):
        played.update(visit.cases)
        assert max(played.values()) - min(played[case] for case in range(10)) <= 1


def test_plain_plays_all_steps_of_a_batch_in_a_row() -> None:
    order = epoch("plain")
    for first in range(0, len(order), 4):
        assert all(visit.cases == order[first].cases for visit in order[first : first + 4])
        assert [all(visit.begins) for visit in order[first : first + 4]] == [True, False, False, False]


def test_staggered_cases_begin_anew_at_different_sweeps() -> None:
    later = [visit.begins for visit in epoch("staggered")[4:]]
    assert any(any(begins) and not all(begins) for begins in later)
