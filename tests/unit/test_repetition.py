"""How much parts repeat each other."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.repetition import overlap, paragraphs

SENTENCE = "Trains reach the middle of the town without any transfer."


def test_parts_that_have_nothing_in_common() -> None:
    found = overlap({"1": SENTENCE, "2": "Planes are quick, but airports lie far outside."})
    assert (found.share, found.repeats) == (0.0, ())


def test_a_part_that_says_another_again() -> None:
    found = overlap({"1": SENTENCE, "2": "A new thought.", "3": SENTENCE.upper()})
    (repeat,) = found.repeats
    assert (repeat.part, repeat.earlier, repeat.share) == ("3", "1", 1.0)
    assert 0.4 < found.share < 0.5


def test_the_most_repeated_comes_first() -> None:
    half = " ".join(SENTENCE.split()[:5]) + " and then something quite different follows it"
    found = overlap({"a": SENTENCE, "b": half, "c": SENTENCE})
    assert [(r.part, r.earlier) for r in found.repeats] == [("c", "a"), ("b", "a")]
    assert found.repeats[0].share > found.repeats[1].share > 0


def test_a_phrase_that_all_texts_share_is_no_repetition() -> None:
    assert overlap({"1": "one of the best", "2": "one of the worst"}).share == 0.0


def test_a_part_does_not_repeat_itself() -> None:
    assert overlap({"1": f"{SENTENCE} {SENTENCE}"}).share == 0.0


def test_languages_without_blanks() -> None:
    assert overlap({"1": "火车到达市中心", "2": "火车到达市中心"}).repeats[0].share == 1.0


def test_nothing_to_compare() -> None:
    assert overlap({}).share == overlap({"1": ""}).share == 0.0


@given(
    st.dictionaries(st.text(max_size=2), st.text(st.sampled_from("ab "), max_size=30), max_size=5)
)
def test_shares_are_shares(parts: dict[str, str]) -> None:
    found = overlap(parts)
    assert 0 <= found.share <= 1
    assert all(0 < repeat.share <= 1 for repeat in found.repeats)
    order = list(parts)
    assert all(order.index(r.earlier) < order.index(r.part) for r in found.repeats)


def test_the_cost_is_linear() -> None:
    parts = {str(n): "word another third " * 3_000 for n in range(30)}
    began = time.process_time()
    overlap(parts)
    assert time.process_time() - began < 3.0


def test_paragraphs_of_an_undivided_answer() -> None:
    assert paragraphs("One.\n\nTwo\nthree.\n \nFour.\n") == ["One.", "Two\nthree.", "Four.\n"]
