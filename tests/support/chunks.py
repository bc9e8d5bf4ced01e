"""Ways to cut a text into chunks: what reads a stream must not care which was taken."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import strategies as st


def two_cuts(text: str) -> Iterator[list[str]]:
    """Every way to cut `text` at two places, some of them the same."""
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            yield [text[:first], text[first:second], text[second:]]


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """`text` in chunks of any size, from single characters to all at once."""
    places = draw(st.lists(st.integers(0, len(text)), max_size=12) | st.just(range(len(text))))
    return pieces(text, places)


def pieces(text: str, places: Sequence[int]) -> list[str]:
    """`text` cut at the places."""
    borders = [0, *sorted(places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(borders)]
