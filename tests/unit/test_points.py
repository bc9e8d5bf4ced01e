"""Where a part ends that goes on from a begun answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_sgd.decoding.points import Echo, PointEnd
from tests.support.chunks import cut as cuts


def read(chunks: list[str], *, paragraph: bool = True) -> tuple[str, bool]:
    end = PointEnd(paragraph=paragraph)
    text = ""
    for chunk in chunks:
        text += end.feed(chunk)
        if end.done:
            break
    return text + end.close(), end.done


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (" Blinds help.\n\n3. **Food**: Eat early.", " Blinds help."),
        (" Blinds help.\n3. Food: Eat early.", " Blinds help."),
        (" Blinds help.\n\n## Food\n\nEat", " Blinds help."),
        (" Blinds help.\n\n**3. Food**\n", " Blinds help."),
        (" Blinds help.\n\n---\n\nMore", " Blinds help."),
        (" Blinds help.\n\nIn short, sleep well.", " Blinds help."),
        (" Blinds help.\nMasks do, too.\n\nIn short", " Blinds help.\nMasks do, too."),
        (":\n   - Blinds\n   - Masks\n\n3. Food", ":\n- Blinds\n- Masks"),
        (" Two ways:\n\n   1. Blinds\n   2. Masks\n\n3. Food", " Two ways:\n\n1. Blinds\n2. Masks"),
        (" Two ways:\n\n- Blinds\n- Masks\n\nAlso", " Two ways:\n\n- Blinds\n- Masks"),
        (
            " As so:\n   ```\n   # dark\n\n3. = x\n   ```\n\n3. F",
            " As so:\n```\n# dark\n\n3. = x\n```",
        ),
        (" In 2020 it was dark.\n2020 was light.\n\n", " In 2020 it was dark.\n2020 was light."),
        (" 3.5 lux", " 3.5 lux"),
        ("1. **Dark**: Blinds help.", ""),
        ("## Dark\n\nBlinds help.", ""),
        ("\n\n3. **Food**: Eat.", ""),
        ("", ""),
    ],
)
def test_a_part_ends_before_the_next_point(said: str, text: str) -> None:
    assert read([said])[0].rstrip() == text
    assert read(list(said))[0].rstrip() == text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (" A.\n\n---\n\nB.", " A."),
        (" A.\n\n***B*** is.\n", " A.\n\n***B*** is."),
        (" A.\n\n- B\n- C\n\n4) D", " A.\n\n- B\n- C"),
    ],
)
def test_rules_end_a_longer_part_and_emphasis_does_not(said: str, text: str) -> None:
    assert read(list(said), paragraph=False)[0].rstrip() == text


def test_where_more_than_a_paragraph_is_wanted_a_blank_line_is_no_end() -> None:
    said = " Blinds help.\n\nMasks do, too.\n\n3. **Food**: Eat."
    assert read([said], paragraph=False) == (" Blinds help.\n\nMasks do, too.", True)


@given(st.data())
def test_where_chunks_are_cut_makes_no_difference(data: st.DataObject) -> None:
    paragraph = data.draw(st.booleans())
    said = data.draw(st.text(st.sampled_from("ab1.)#*-`: \n"), max_size=60))
    chunks = data.draw(cuts(said))
    assert read(chunks, paragraph=paragraph) == read([said], paragraph=paragraph)


@given(st.lists(st.from_regex(r"[a-z]{1,5}( [a-z]{1,5}){0,4}[.]", fullmatch=True), max_size=5))
def test_prose_is_let_through_as_it_is(lines: list[str]) -> None:
    said = "\n".join(lines)
    assert read([said]) == (said, False)


@given(st.data())
def test_what_was_begun_is_not_said_again(data: st.DataObject) -> None:
    begun = data.draw(st.text(st.sampled_from("ab :"), min_size=1, max_size=8))
    said = data.draw(st.text(st.sampled_from("ab :"), max_size=8))
    for text, expected in ((begun + said, said), (said, said.removeprefix(begun))):
        echo = Echo(begun)
        new = "".join(map(echo.feed, data.draw(cuts(text)))) + echo.close()
        assert new == expected
