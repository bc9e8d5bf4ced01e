"""A text that goes on from a begun answer: without what was begun, and up to the answer's next point."""

from __future__ import annotations

import re
from typing import Final

_POINT: Final = re.compile(r"\d{1,2}[.)]\s|#{1,6}\s|[*_]{2}\d{1,2}[.)]")
"""How the next point or a heading begins."""
_RULE: Final = re.compile(r"([-*_])\1{2,}\s*")
_MAY_BE_POINT: Final = re.compile(r"\d{0,2}|\d{1,2}[.)]|#{1,6}|[*_]{1,2}(\d{1,2}[.)]?)?|[-*_]+\s*")
"""The beginning of one."""
_INDENT: Final = 3
"""Blanks before what belongs to a point of a numbered list."""
_FENCES: Final = ("```", "~~~")
_COLONS: Final = ":："  # noqa: RUF001 - other scripts' signs are meant


class PointEnd:
    """Lets a text through until the next point begins; where chunks are cut makes no difference.

    Lines that are indented belong to the part, as its own list does. They lose the indentation that the
    list of points gave them. A block of code is not looked into. Of a text that begins as a point does
    nothing is let through: whoever says it has not gone on, but begun an answer of its own.

    Args:
        paragraph: One paragraph is wanted: the text ends with it, unless something is announced by a colon.
    """

    def __init__(self, *, paragraph: bool) -> None:
        self.done = False
        """The next point has begun: nothing more is let through."""
        self._is_paragraph = paragraph
        self._space = ""
        """White space since the last line's text, from its line break on."""
        self._head = ""
        """The first letters of a line, until it is clear what they begin."""
        self._is_clear = False
        """The current line belongs to the part."""
        self._line = ""
        """The current line's beginning."""
        self._last = ""
        """The last sign that is no white space."""
        self._is_code = False

    def feed(self, chunk: str) -> str:
        """What of a chunk belongs to the part."""
        if self._is_clear and "\n" not in chunk and not self._space:
            return self._pass(chunk)
        return "".join(filter(None, map(self._take, chunk)))

    def close(self) -> str:
        """What was held back, if the text ended by itself."""
        held, self._space, self._head = self._before() + self._head, "", ""
        return "" if self.done or not held.strip() else held

    def _pass(self, text: str) -> str:
        self._line += text if len(self._line) < _INDENT else ""
        self._last = text.rstrip()[-1:] or self._last
        return text

    def _take(self, char: str) -> str:
        if self.done:
            return ""
        if char == "\n":
            head, self._head, self._is_clear = self._head, "", False
            if _RULE.fullmatch(head):
                self.done = True
                return ""
            if head:
                head = self._before() + self._pass(head)
                self._space = ""
            if self._line.lstrip().startswith(_FENCES):
                self._is_code = not self._is_code
            self._line = ""
            self._space += char
            return head
        if self._is_clear:
            return self._pass(char)
        if not self._head and char.isspace():
            self._space += char
            return ""
        return self._begin(char)

    def _begin(self, char: str) -> str:
        """Take a letter at the beginning of a line."""
        self._head += char
        if not self._is_code and self._indent() < _INDENT - 1:
            if self._ends_paragraph() or _POINT.match(self._head):
                self.done = True
                return ""
            if _MAY_BE_POINT.fullmatch(self._head):
                return ""
        text, self._head, self._is_clear = self._before() + self._head, "", True
        self._space = ""
        return self._pass_line(text)

    def _pass_line(self, text: str) -> str:
        self._pass(text.lstrip())
        return text

    def _ends_paragraph(self) -> bool:
        is_blank = self._space.count("\n") > 1
        return is_blank and self._is_paragraph and bool(self._last) and self._last not in _COLONS

    def _indent(self) -> int:
        return len(self._space.rpartition("\n")[2])

    def _before(self) -> str:
        """The white space before a line, without the indentation of the list of points."""
        breaks, newline, indent = self._space.rpartition("\n")
        return f"{breaks}{newline}{indent[_INDENT:]}" if newline else self._space


class Echo:
    """Leaves out the begun answer, which llama.cpp says again before it goes on.

    Args:
        begun: The begun answer.
    """

    def __init__(self, begun: str) -> None:
        self._begun = begun
        self._held = ""
        self._is_over = not begun

    def feed(self, chunk: str) -> str:
        """What of a chunk is new."""
        if self._is_over:
            return chunk
        self._held += chunk
        if len(self._held) < len(self._begun) and self._begun.startswith(self._held):
            return ""
        self._is_over = True
        return self._held.removeprefix(self._begun)

    def close(self) -> str:
        """What was held back, if the text ended by itself."""
        held, self._held = self._held, ""
        return "" if self._is_over else held
