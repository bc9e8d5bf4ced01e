"""How large an automaton a regular expression is, as TGI compiles it, and whether TGI can at all.

The router sends an expression on unread; the model server compiles it in the thread that decodes, on the
whole vocabulary, at 0.1 to 0.2 seconds a state, and ends everybody's requests where it cannot. So it is
read here first.

The states are counted without minimizing: from the positions of the expression (Glushkov) to sets of
positions, no further than the bound.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Final, NamedTuple

from langchain_sgd.expression_syntax import (
    Characters,
    Choice,
    Ranges,
    Repeat,
    Row,
    Tree,
    read,
    write,
)

_POSITIONS_PER_STATE: Final = 64
"""Positions for a state of the bound from which nothing needs to be built to refuse an expression."""


class Expression:
    """A regular expression that TGI can compile."""

    def __init__(self, text: str) -> None:
        """Raise an `ExpressionError` where it is none, or where no text matches it."""
        self._tree = read(text)
        self._written = write(self._tree)

    @property
    def text(self) -> str:
        """The same in what all engines read alike; "" is what the empty text alone matches."""
        return self._written

    @property
    def positions(self) -> int:
        """How many characters it names, counted repetitions written out: quick, and near its states."""
        return _size(self._tree)

    def states(self, bound: int) -> int:
        """Count the states of its automaton; `bound + 1` stands for any number above the bound."""
        if self.positions > bound * _POSITIONS_PER_STATE:
            return bound + 1
        return _Automaton(self._tree).states(bound)

    def can_match_any_of(self, characters: str) -> bool:
        """Whether any of these characters may stand in a text that matches."""
        points = [ord(each) for each in characters]
        return any(_holds(ranges, point) for ranges in _sets(self._tree) for point in points)


@functools.lru_cache(maxsize=256)
def states_of(text: str, bound: int) -> int:
    """Count the states of an expression, no further than `bound + 1`.

    Raises:
        ExpressionError: TGI cannot take it.
    """
    return Expression(text).states(bound)


def _holds(ranges: Ranges, point: int) -> bool:
    return any(first <= point <= last for first, last in ranges)


def _sets(node: Tree) -> Iterator[Ranges]:
    if isinstance(node, Characters):
        yield node.ranges
    elif isinstance(node, Repeat):
        yield from _sets(node.part)
    else:
        for part in node.parts:
            yield from _sets(part)


def _size(node: Tree) -> int:
    """Count the positions, counted repetitions written out."""
    if isinstance(node, Characters):
        return 1
    if isinstance(node, Repeat):
        times = max(1, node.least) if node.most is None else node.most
        return _size(node.part) * times
    return sum(map(_size, node.parts))


class _Part(NamedTuple):
    """How a part of the expression joins its neighbours; sets of positions are bits of a number."""

    empty: bool
    first: int
    last: int


_NOTHING: Final = _Part(empty=True, first=0, last=0)


class _Automaton:
    """The positions of an expression and which may follow which."""

    def __init__(self, tree: Tree) -> None:
        self._follow: list[int] = []
        self._by_ranges: dict[Ranges, int] = {}
        self._start = self._build(tree).first

    def states(self, bound: int) -> int:
        """Walk from set to set of positions, each of them a state, until there are too many."""
        masks = self._characters()
        found = {
            self._start
        }  # as what may come next; the expression's end adds no state of its own
        seen: set[int] = set()
        waiting = [self._start]
        while waiting and len(seen) < bound:
            expected = waiting.pop()
            for mask in masks:
                reached = expected & mask
                if reached and reached not in seen:
                    seen.add(reached)
                    after = 0
                    for position in _bits(reached):
                        after |= self._follow[position]
                    if after not in found:
                        found.add(after)
                        waiting.append(after)
        return min(len(seen), bound) + 1

    def _characters(self) -> list[int]:
        """Give, for each kind of characters that the expression tells apart, who takes them."""
        points = {first for ranges in self._by_ranges for first, _ in ranges}
        points |= {last + 1 for ranges in self._by_ranges for _, last in ranges}
        masks = set()
        for point in points:
            mask = 0
            for ranges, positions in self._by_ranges.items():
                if _holds(ranges, point):
                    mask |= positions
            masks.add(mask)
        return sorted(masks - {0})

    def _build(self, node: Tree) -> _Part:
        if isinstance(node, Characters):
            bit = 1 << len(self._follow)
            self._follow.append(0)
            self._by_ranges[node.ranges] = self._by_ranges.get(node.ranges, 0) | bit
            return _Part(empty=False, first=bit, last=bit)
        if isinstance(node, Choice):
            parts = [self._build(part) for part in node.parts]
            first = last = 0
            for part in parts:
                first, last = first | part.first, last | part.last
            return _Part(any(part.empty for part in parts), first, last)
        if isinstance(node, Row):
            whole = _NOTHING
            for child in node.parts:
                whole = self._joined(whole, self._build(child))
            return whole
        return self._repeat(node)

    def _repeat(self, node: Repeat) -> _Part:
        rest = _NOTHING
        if node.most is None:
            rest = self._build(node.part)
            self._link(rest.last, rest.first)
            rest = rest._replace(empty=rest.empty or node.least == 0)
            mandatory = node.least - 1
        else:
            mandatory = node.least
            for _ in range(node.most - node.least):  # from the end: what follows may be left out
                rest = self._joined(self._build(node.part), rest)._replace(empty=True)
        for _ in range(mandatory):
            rest = self._joined(self._build(node.part), rest)
        return rest

    def _joined(self, left: _Part, right: _Part) -> _Part:
        self._link(left.last, right.first)
        return _Part(
            left.empty and right.empty,
            left.first | (right.first if left.empty else 0),
            right.last | (left.last if right.empty else 0),
        )

    def _link(self, last: int, first: int) -> None:
        if first:
            for position in _bits(last):
                self._follow[position] |= first


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
