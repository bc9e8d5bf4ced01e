"""The syntax of regular expressions as TGI compiles them: from text to a tree, and back in fewer words.

The dialect is that of `interegular`: of Python's it lacks anchors, look-around, back references and flags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, NoReturn

Ranges = tuple[tuple[int, int], ...]
"""Characters, as first and last of each run."""

_LAST: Final = 0x10FFFF
_DIGITS: Final[Ranges] = ((48, 57),)
_WORDS: Final[Ranges] = ((48, 57), (65, 90), (95, 95), (97, 122))
_BLANKS: Final[Ranges] = ((9, 13), (32, 32))
_CONTROLS: Final = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7}
_SURROGATES: Final = range(0xD800, 0xE000)
_DEEPEST: Final = 100
"""Groups inside one another."""

_WHOLE: Final = "Leave it out: the whole answer must match the expression anyhow."
_SPELL_OUT: Final = "Spell out what is allowed: (red|green), [a-z]+."


class ExpressionError(ValueError):
    """TGI cannot take the expression; the message says where and what to write instead."""


class Characters(NamedTuple):
    """One character out of these."""

    ranges: Ranges


class Row(NamedTuple):
    """One after the other."""

    parts: tuple[Tree, ...]


class Choice(NamedTuple):
    """One of them."""

    parts: tuple[Tree, ...]


class Repeat(NamedTuple):
    """The same again and again; no `most` is for ever."""

    part: Tree
    least: int
    most: int | None


Tree = Characters | Row | Choice | Repeat


def read(text: str) -> Tree:
    """An expression as a tree.

    Raises:
        ExpressionError: TGI cannot take it.
    """
    return _Reader(text).whole()


def write(tree: Tree) -> str:
    r"""A tree as an expression that engines of any make read alike; "" is that of the empty text.

    They differ in what they take for syntax: xgrammar reads `\x41b` as one character and stumbles over an
    empty first choice, and some end the expression at a NUL. So only letters, digits and spaces stand
    for themselves in ASCII, and nothing is to match a NUL or half of a surrogate pair, which no text holds.

    Raises:
        ExpressionError: Nothing matches.
    """
    text = _written(tree)
    if text is None:
        msg = "nothing matches it, since some character of it cannot be. Leave that out."
        raise ExpressionError(msg)
    return text


def _written(tree: Tree) -> str | None:
    """None is an expression that nothing matches."""
    if isinstance(tree, Characters):
        return _one_of(tree.ranges)
    if isinstance(tree, Repeat):
        return _repetition(tree)
    parts = [_written(part) for part in tree.parts]
    possible = [part for part in parts if part is not None]
    if isinstance(tree, Choice):
        return _choice([part for part in possible if part], empty="" in possible)
    if len(possible) < len(parts):
        return None
    choices = [isinstance(part, Choice) for part in tree.parts]
    return "".join(
        f"(?:{part})" if is_choice and part else part
        for part, is_choice in zip(possible, choices, strict=True)
    )


def _choice(texts: Sequence[str], *, empty: bool) -> str | None:
    if not texts:
        return "" if empty else None
    together = "|".join(texts)
    return f"(?:{together})?" if empty else together


def _repetition(tree: Repeat) -> str | None:
    part = _written(tree.part)
    if not part or tree.most == 0:
        return "" if part == "" or not tree.least else None
    once = part if isinstance(tree.part, Characters) else f"(?:{part})"
    if tree.most is None:
        return once + {0: "*", 1: "+"}.get(tree.least, f"{{{tree.least},}}")
    return f"{once}{{{tree.least},{tree.most}}}"


class _Reader:
    """Reads an expression from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> Tree:
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

    def _choice(self) -> Tree:
        parts = [self._row()]
        while self._take("|"):
            parts.append(self._row())
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def _row(self) -> Tree:
        parts: list[Tree] = []
        while (character := self._peek()) and character not in "|)":
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def _atom(self) -> Tree:
        start = self._at
        character = self._peek()
        self._at += 1
        match character:
            case "(":
                return self._group(start)
            case "[":
                return self._class(start)
            case "\\":
                return Characters(self._escape())
            case ".":
                return Characters(_others(((10, 10),)))
            case "^" | "$":
                self._refuse(f"has the anchor {character}", _WHOLE, start)
            case "*" | "+" | "?":
                msg = f"repeats nothing by {character}"
                self._refuse(msg, f"Write \\{character} for the character.", start)
        return Characters(((ord(character), ord(character)),))

    def _group(self, start: int) -> Tree:
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

    def _class(self, start: int) -> Tree:
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
        return Characters(_others(joined) if negated else joined)

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

    def _repeated(self, part: Tree) -> Tree:
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
        return Repeat(part, least, most)

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


def _one_of(ranges: Ranges) -> str | None:
    """A class of characters; None where there is none of them."""
    left_out = (*_others(ranges), (0, 0))
    negated = max(last for _, last in left_out) < _LAST
    listed = _others(_others(left_out)) if negated else _others(left_out)
    bounds = [
        (_real(first, _SURROGATES.stop), _real(last, _SURROGATES.start - 1))
        for first, last in listed
    ]
    bounds = [(first, last) for first, last in bounds if first <= last]
    if not bounds:
        return None
    text = _spans(bounds)
    if negated:
        return f"[^{text}]"
    return text if bounds[0][0] == bounds[-1][1] else f"[{text}]"


def _real(point: int, instead: int) -> int:
    return instead if point in _SURROGATES else point


def _spans(bounds: Iterable[tuple[int, int]]) -> str:
    return "".join(
        _escaped(first) + ("" if first == last else f"-{_escaped(last)}") for first, last in bounds
    )


def _escaped(point: int) -> str:
    character = chr(point)
    plain = point > 127 or character.isalnum() or character == " "
    return character if plain else f"\\u{point:04x}"


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
