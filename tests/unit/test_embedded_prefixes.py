"""Which computed prefixes are taken over, and which are kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.embedded._prefixes import Kept, common_length, longest

ids = st.lists(st.integers(0, 3), max_size=12)


def array(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int32)


@given(ids, ids)
def test_common_length_is_that_of_the_plain_definition(first: list[int], second: list[int]) -> None:
    expected = 0
    while expected < min(len(first), len(second)) and first[expected] == second[expected]:
        expected += 1
    assert common_length(array(*first), array(*second)) == expected


@given(st.lists(ids.filter(bool), max_size=5), ids.filter(bool))
def test_the_longest_candidate_is_chosen_and_the_last_token_is_never_taken_over(
    candidates: list[list[int]], prompt: list[int]
) -> None:
    source = longest(array(*prompt), [(n, array(*c)) for n, c in enumerate(candidates)])
    lengths = [min(common_length(array(*prompt), array(*c)), len(prompt) - 1) for c in candidates]
    best = max(lengths, default=0)
    if best == 0:
        assert source is None
    else:
        assert source is not None
        assert source.length == best == lengths[source.sequence]


def test_a_prefix_of_something_kept_is_not_kept_again() -> None:
    kept = Kept(budget=100, limit=4)
    assert kept.add(1, array(1, 2, 3), 3) == []
    assert kept.add(2, array(1, 2), 2) == [2]
    assert dict(kept).keys() == {1}


def test_something_longer_takes_the_place_of_its_own_prefix() -> None:
    kept = Kept(budget=100, limit=4)
    kept.add(1, array(1, 2), 2)
    assert kept.add(2, array(1, 2, 3), 1) == [1]
    assert dict(kept).keys() == {2}


def test_what_was_used_least_recently_goes_first() -> None:
    kept = Kept(budget=100, limit=2)
    kept.add(1, array(1), 1)
    kept.add(2, array(2), 1)
    kept.used(1)
    assert kept.add(3, array(3), 1) == [2]
    assert kept.oldest() == 1
    assert kept.oldest() == 3
    assert kept.oldest() is None


@given(st.lists(st.tuples(ids.filter(bool), st.integers(0, 12)), max_size=20))
def test_neither_budget_nor_limit_is_exceeded_and_nothing_is_lost(
    entries: list[tuple[list[int], int]],
) -> None:
    kept, alive = Kept(budget=20, limit=3), set()
    owned: dict[int, int] = {}
    for sequence, (tokens, own) in enumerate(entries):
        alive.add(sequence)
        owned[sequence] = own
        removed = kept.add(sequence, array(*tokens), own)
        assert len(removed) == len(set(removed))
        alive.difference_update(removed)
        assert dict(kept).keys() == alive
        assert len(kept) <= 3
        assert sum(owned[each] for each in alive) <= 20
