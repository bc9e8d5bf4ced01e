"""Where JSON's objects and strings end in a text that is still being written.

Only what tells a plan's parts from what stands around them is looked at: braces, quotation marks, and the
list under a known name, whose strings are lines. Nothing is decoded here.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from langchain_sgd.planning.objects import LIST_KEYS

_MAX_OBJECT = 4_000
"""Characters of one node's JSON object, and of the text between two of them."""
_MAX_DEPTH = 8
_LONGEST_NAME = 60
_LONGEST_OPENING = 202
_OBJECT = re.compile(r'\{\s{0,200}"')
_OBJECT_SO_FAR = re.compile(r"\{\s{0,200}")
_LIST_BEGUN = re.compile(rf'"(?:{"|".join(LIST_KEYS)})"\s*:\s*\Z')

Kind = Literal["object", "around", "string", "endless string", "no object"]
"""An object that may be a node; the one around the nodes; a string of the list of lines, with or without an
end; braces that were prose."""


class Found(NamedTuple):
    """What was found, and where it stands in the text."""

    kind: Kind
    start: int
    stop: int


class Scanner:
    """Goes through a text once, from its first brace on; offsets are those of the text at hand.

    Args:
        max_string: Characters of a line; a string of the list that is longer has run on.
    """

    __slots__ = ("_escaped", "_max_string", "around", "braces", "listed", "scanned", "string")

    def __init__(self, max_string: int) -> None:
        self._max_string = max_string
        self.leave()

    def leave(self) -> None:
        """Nothing is open."""
        self.braces: list[int] = []
        """Offsets of the braces that are open."""
        self.around = 0
        """Braces that stand around a node's own: 1 in `{"nodes": [{...}]}`."""
        self.listed = False
        """We are in a list whose strings are lines."""
        self.string = -1
        """Offset of the quotation mark that opened the string we are in; -1: in none."""
        self.scanned = 0
        self._escaped = False

    def open(self, brace: int) -> None:
        """Begin at a brace."""
        self.leave()
        self.braces, self.scanned = [brace], brace + 1

    def forget(self, read: int) -> None:
        """So many characters at the text's beginning are gone."""
        self.braces = [brace - read for brace in self.braces]
        self.string = self.string - read if self.string >= 0 else -1
        self.scanned -= read

    @property
    def in_line(self) -> bool:
        """We are in a string of the list of lines."""
        return self.listed and self.string >= 0 and len(self.braces) == self.around

    @property
    def in_node(self) -> bool:
        """A node's own object is open."""
        return len(self.braces) > self.around

    def scan(self, text: str, begin: int, end: int) -> Found | None:
        """The next thing that ends before `end`; None if there is none.

        Args:
            text: The text.
            begin: Where what is open begins, for telling that it is too long.
            end: Where to stop.
        """
        braces = self.braces
        for index in range(self.scanned, end):
            char = text[index]
            if index - begin > _MAX_OBJECT or len(braces) > _MAX_DEPTH:
                return Found("no object", begin, index)
            if self.string >= 0:
                if found := self._through_string(char, index):
                    return found
            elif char == '"':
                self.string = index
            elif char in "[]":
                self._take_bracket(text, char, index)
            elif char == "{":
                braces.append(index)
            elif char == "}":
                start = braces.pop()
                self.scanned = index + 1
                if len(braces) < self.around:
                    self.around = len(braces)
                    return Found("around", start, index + 1)
                return Found("object", start, index + 1)
        self.scanned = end
        return None

    def _through_string(self, char: str, index: int) -> Found | None:
        """Go on by a character; what is found if a string of the list has ended, or run on as a line does."""
        listed = self.in_line
        runs_on = listed and index - self.string > self._max_string
        if not runs_on and (self._escaped or char == "\\"):
            self._escaped = not self._escaped
        elif runs_on or char == '"':
            start, self.string = self.string, -1
            if listed:
                self.scanned = index + 1
                return Found("endless string" if runs_on else "string", start, index)
        return None

    def _take_bracket(self, text: str, char: str, index: int) -> None:
        """A list begins or ends; only the one under a known name holds lines."""
        depth = len(self.braces)
        if char == "]":
            self.listed = self.listed and depth != self.around
        elif not self.listed:
            start = max(self.braces[-1], index - _LONGEST_NAME, 0)
            if _LIST_BEGUN.search(text, start, index):
                self.listed, self.around = True, depth


def opening(text: str, at: int, end: int, *, last: bool) -> int | None:
    """Offset of the first brace between two offsets that opens a JSON object; -1: none; None: not yet clear.

    Args:
        text: The text.
        at: The first brace's offset.
        end: Where the line, or what belongs to none of its fields, ends.
        last: No more text will come.
    """
    brace = text.rfind("{", at, end)
    found = _OBJECT.search(text, at, brace + _LONGEST_OPENING)
    if found and found.start() <= brace:
        return found.start()
    return None if not last and _OBJECT_SO_FAR.fullmatch(text, brace) else -1
