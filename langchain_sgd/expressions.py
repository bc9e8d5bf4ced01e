"""How large an automaton a regular expression is, as TGI compiles it, and whether TGI can at all.

The router sends an expression on unread; the model server compiles it in the thread that decodes, on the
whole vocabulary, at 0.1 to 0.2 seconds a state, and ends everybody's requests where it cannot. So it is
read here first. The dialect is that of `interegular`, which TGI compiles with: of Python's it lacks
anchors, look-around, back references and flags.

The states are counted without minimizing: from the positions of the expression (Glushkov) to sets of
positions, no further than the bound.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, NoReturn

Ranges = tuple[tuple[int, int], ...]
"""Characters, as first and last of each run."""

_LAST: Final = 0x10FFFF
_DIGITS: Final[Ranges] = ((48, 57),)
_WORDS: Final[Ranges] = ((48, 57), (65, 90), (95, 95), (97, 122))
_BLANKS: Final[Ranges] = ((9, 13), (32, 32))
_CONTROLS: Final = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7}
_POSITIONS_PER_STATE: Final = 64
"""Positions for a state of the bound from which nothing needs to be built to refuse an expression."""
_DEEPEST: Final = 100
"""Groups inside one another."""

_WHOLE: Final = "Leave it out: the whole answer must match the expression anyhow."
_SPELL_OUT: Final = "Spell out what is allowed: (red|green), [a-z]+."


class ExpressionError(ValueError):
    """TGI cannot take the expression; the message says where and what to write instead."""


class _Set(NamedTuple):
    """One character out of these."""

    ranges: Ranges


class _Row(NamedTuple):
    """One after the other."""

    parts: tuple[_Node, ...]


class _Choice(NamedTuple):
    """One of them."""

    parts: tuple[_Node, ...]


class _Repeat(NamedTuple):
    """The same again and again; no `most` is for ever."""

    part: _Node
    least: int
    most: int | None


_Node = _Set | _Row | _Choice | _Repeat


class Expression:
    """A regular expression that TGI can compile."""

    def __init__(self, text: str) -> None:
        """Raise an `ExpressionError` where it is none."""
        self._tree = _Reader(text).whole()

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


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> _Node:
        tree = self._choice()
        if self._at < len(self._text):
            self._refuse("has a ) that closes nothing", "Write \\) for the character.")
        return tree

    def _refuse(self, what: str, instead: str, at: int | None = None) -> NoReturn:
        msg = f"it {what} at character {(self._at if at is None else at) + 1}. {instead}"
        raise ExpressionError(msg)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _choice(self) -> _Node:
        parts = [self._row()]
        while self._take("|"):
            parts.append(self._row())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _row(self) -> _Node:
        parts: list[_Node] = []
        while (character := self._peek()) and character not in "|)":
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else _Row(tuple(parts))

    def _atom(self) -> _Node:
        start = self._at
        character = self._peek()
        self._at += 1
        match character:
            case "(":
                return self._group(start)
            case "[":
                return self._class(start)
            case "\\":
                return _Set(self._escape())
            case ".":
                return _Set(_others(((10, 10),)))
            case "^" | "$":
                self._refuse(f"has the anchor {character}", _WHOLE, start)
            case "*" | "+" | "?":
                msg = f"repeats nothing by {character}"
                self._refuse(msg, f"Write \\{character} for the character.", start)
        return _Set(((ord(character), ord(character)),))

    def _group(self, start: int) -> _Node:
        if self._take("?"):
            if self._text.startswith(("=", "!", "<=", "<!"), self._at):
                self._refuse("looks ahead or behind", _SPELL_OUT, start)
            if self._take("P<"):
                end = self._text.find(">", self._at)
                if end < 0 or not self._text[self._at : end].isidentifier():
                    self._refuse("has a group without a name", "Write (?:...).", start)
                self._at = end + 1
            elif not self._take(":"):
                self._refuse(
                    "has flags or an extension in a group", "Write (...) or (?:...).", start
                )
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"has more than {_DEEPEST} groups in one another", "Flatten it.")
        inside = self._choice()
        self._depth -= 1
        if not self._take(")"):
            self._refuse("opens a group and does not close it", "Write ) or \\(.", start)
        return inside

    def _class(self, start: int) -> _Node:
        negated = self._take("^")
        if self._peek() == "]":
            self._refuse("has an empty class", "Write \\] for the character.", start)
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            if self._at >= len(self._text):
                self._refuse("opens a class and does not close it", "Write ] or \\[.", start)
            first = self._member()
            last = first
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in {"]", ""}:
                self._at += 1
                last = self._member()
                if len(first) != 1 or len(last) != 1 or first[0][0] > last[0][1]:
                    self._refuse("has a range that holds nothing", "Write \\- for -.")
                first = last = ((first[0][0], last[0][1]),)
            ranges.extend(first)
        joined = tuple(ranges)
        return _Set(_others(joined) if negated else joined)

    def _member(self) -> Ranges:
        character = self._peek()
        self._at += 1
        return self._escape() if character == "\\" else ((ord(character), ord(character)),)

    def _escape(self) -> Ranges:
        start = self._at - 1
        character = self._peek()
        self._at += 1
        if not character:
            self._refuse("ends in the middle of an escape", "Write \\\\ for \\.", start)
        classes = {"d": _DIGITS, "w": _WORDS, "s": _BLANKS}
        if character.lower() in classes:
            ranges = classes[character.lower()]
            return ranges if character.islower() else _others(ranges)
        if character in _CONTROLS:
            point = _CONTROLS[character]
        elif character == "x":
            digits = self._text[self._at : self._at + 2]
            if len(digits) < 2 or not all(each in "0123456789abcdefABCDEF" for each in digits):
                self._refuse("has \\x without two hexadecimal digits", "Write \\x41.", start)
            self._at += 2
            point = int(digits, 16)
        elif character in "bBAZz":
            self._refuse(f"has the anchor \\{character}", _WHOLE, start)
        elif character.isdigit():
            self._refuse(f"refers back by \\{character}", _SPELL_OUT, start)
        elif character.isalpha():
            instead = "Write the characters themselves, or \\x41."
            self._refuse(f"has \\{character}, which TGI does not know", instead, start)
        else:
            point = ord(character)
        return ((point, point),)

    def _repeated(self, part: _Node) -> _Node:
        start = self._at
        if self._take("*"):
            least, most = 0, None
        elif self._take("+"):
            least, most = 1, None
        elif self._take("?"):
            least, most = 0, 1
        elif self._peek() == "{":
            least, most = self._counts()
        else:
            return part
        self._take("?")  # what is matched lazily matches the same
        if self._peek() and self._peek() in "*+?{":
            self._refuse("repeats what is repeated", "Put it in a group: (a+)*.")
        if most is not None and least > most:
            self._refuse("counts down", "Write the smaller number first.", start)
        return _Repeat(part, least, most)

    def _counts(self) -> tuple[int, int | None]:
        start = self._at
        end = self._text.find("}", start)
        least, comma, most = self._text[start + 1 : max(end, start + 1)].partition(",")
        if (
            end < 0
            or not all(not each or each.isdecimal() for each in (least, most))
            or (not least and not most)
        ):
            self._refuse("has a { that counts nothing", "Write \\{ for the character.", start)
        self._at = end + 1
        low = int(least or 0)
        return low, (int(most) if most else None) if comma else low


def _others(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """All characters but these."""
    left: list[tuple[int, int]] = []
    after = 0
    for first, last in sorted(ranges):
        if first > after:
            left.append((after, first - 1))
        after = max(after, last + 1)
    if after <= _LAST:
        left.append((after, _LAST))
    return tuple(left)


def _holds(ranges: Ranges, point: int) -> bool:
    return any(first <= point <= last for first, last in ranges)


def _sets(node: _Node) -> Iterator[Ranges]:
    if isinstance(node, _Set):
        yield node.ranges
    elif isinstance(node, _Repeat):
        yield from _sets(node.part)
    else:
        for part in node.parts:
            yield from _sets(part)


def _size(node: _Node) -> int:
    """Count the positions, counted repetitions written out."""
    if isinstance(node, _Set):
        return 1
    if isinstance(node, _Repeat):
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

    def __init__(self, tree: _Node) -> None:
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

    def _build(self, node: _Node) -> _Part:
        if isinstance(node, _Set):
            bit = 1 << len(self._follow)
            self._follow.append(0)
            self._by_ranges[node.ranges] = self._by_ranges.get(node.ranges, 0) | bit
            return _Part(empty=False, first=bit, last=bit)
        if isinstance(node, _Choice):
            parts = [self._build(part) for part in node.parts]
            first = last = 0
            for part in parts:
                first, last = first | part.first, last | part.last
            return _Part(any(part.empty for part in parts), first, last)
        if isinstance(node, _Row):
            whole = _NOTHING
            for child in node.parts:
                whole = self._joined(whole, self._build(child))
            return whole
        return self._repeat(node)

    def _repeat(self, node: _Repeat) -> _Part:
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
