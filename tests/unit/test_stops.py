from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd import stops as stops_module
from langchain_sgd.stops import StopFilter
from tests.support.chunks import cut, two_cuts

words = st.text("ab<", max_size=12)


def through(stops: Sequence[str], pieces: Sequence[str]) -> tuple[str, str | None]:
    reader, shown = StopFilter(stops), ""
    for number, piece in enumerate(pieces, 1):
        shown += reader.feed(piece, last=number == len(pieces))
        if reader.found is not None:
            break
    return shown, reader.found


def stopped(stops: Sequence[str], text: str) -> tuple[str, str | None]:
    """What the filter does, by looking at every beginning of the text."""
    for end in range(len(text) + 1):
        done = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if done:
            longest = max(done, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(data=st.data(), stops=st.lists(words, max_size=4), text=words)
def test_the_stop_text_that_is_complete_first_ends_the_text(
    data: st.DataObject, stops: list[str], text: str
) -> None:
    assert through(stops, data.draw(cut(text))) == stopped(stops, text)


@pytest.mark.parametrize(
    ("stops", "text", "shown", "found"),
    [
        (["END"], "one END two", "one ", "END"),
        (["abcd", "c"], "xabcd", "xab", "c"),  # as a server that reads token by token
        (["aab"], "aaab", "a", "aab"),
        (["bb", "abb"], "abb", "", "abb"),
        ([""], "x", "x", None),
        ([], "x", "x", None),
    ],
)
def test_where_it_stops_however_it_is_cut(
    stops: list[str], text: str, shown: str, found: str | None
) -> None:
    for pieces in two_cuts(text):
        assert through(stops, pieces) == (shown, found)


def test_only_the_beginning_of_a_stop_text_is_held_back() -> None:
    reader = StopFilter(["END"])
    assert [reader.feed(p, last=False) for p in ("a", "E", "N", "X")] == ["a", "", "", "ENX"]


def test_each_character_costs_the_same_however_long_the_stop_text_is() -> None:
    def steps(size: int) -> int:
        done = 0

        def count(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal done
            if frame.f_code.co_filename != stops_module.__file__:
                return None
            done += event == "line"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            through(["a" * size + "b"], list("a" * 4 * size))
        finally:
            sys.settrace(before)
        return done

    assert steps(400) < 2.2 * steps(200)
