"""Pure filters over a model's streamed text: reasoning left out, a repeated heading left out.

Each takes chunks and gives back what may be shown; where the chunks are cut never changes the joined
result, and the cost is linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TAGS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
_LONGEST_TAG = max(map(len, _TAGS))
_OPENING = re.compile("|".join(_TAGS))


@dataclass(slots=True)
class ThoughtFilter:
    """Leaves out `<think>...</think>` and its kin, which reasoning models write into their text.

    A tag opens a thought only at the beginning of a line: inside a sentence it is being talked about.
    """

    _held: str = ""
    """The end of the text so far, where it may be the beginning of a tag."""
    _closing: str = ""
    """The tag that ends the thought we are in; empty outside."""
    _blank: bool = True
    """The current line has nothing but white space so far."""

    def feed(self, chunk: str) -> str:
        """The visible part of what has arrived and not been given yet."""
        if not self._closing and not self._held and "<" not in chunk:
            return self._seen(chunk)
        text, self._held = self._held + chunk, ""
        out: list[str] = []
        at = 0
        while at < len(text):
            if self._closing:
                end = text.find(self._closing, at)
                if end < 0:
                    self._held = text[max(at, len(text) - len(self._closing) + 1) :]
                    break
                at, self._closing = end + len(self._closing), ""
                continue
            start = text.find("<", at)
            if start < 0:
                out.append(self._seen(text[at:]))
                break
            out.append(self._seen(text[at:start]))
            if self._blank:
                if opening := _OPENING.match(text, start):
                    self._closing = "</" + opening[0][1:]
                    at = opening.end()
                    continue
                begun = text[start : start + _LONGEST_TAG]
                if any(tag.startswith(begun) for tag in _TAGS):
                    self._held = begun
                    break
            out.append(self._seen("<"))
            at = start + 1
        return "".join(out)

    def close(self) -> str:
        """What was held back as the possible beginning of a tag."""
        rest, self._held = ("" if self._closing else self._held), ""
        return rest

    def _seen(self, text: str) -> str:
        _, newline, line = text.rpartition("\n")
        self._blank = (self._blank or bool(newline)) and not line.strip()
        return text


@dataclass(slots=True)
class AnswerFilter:
    """A node's answer as it is shown: no reasoning, no repeated heading, no blank edges.

    Holds the first line back until it is clear that it is not the heading again.
    """

    heading: str
    """Empty if there is none to be repeated."""
    _thoughts: ThoughtFilter = field(default_factory=ThoughtFilter)
    _head: str | None = ""
    """The held first line; None once it was decided on."""
    _skip_space: bool = False
    """Between a dropped heading and the text."""
    _space: list[str] = field(default_factory=list)
    """White space that is given only if text follows."""

    def feed(self, chunk: str) -> str:
        """The part of the answer that may be shown now."""
        return self._admit(self._thoughts.feed(chunk), last=False)

    def close(self) -> str:
        """The rest of the answer, without trailing white space."""
        return self._admit(self._thoughts.close(), last=True)

    def _admit(self, text: str, *, last: bool) -> str:
        if self._head is not None:
            self._head = (self._head + text).lstrip()
            line, newline, rest = self._head.partition("\n")
            if not newline and not last and _may_become(line, self.heading):
                return ""
            repeated = bool(newline) and _is_heading(line, self.heading)
            text, self._head, self._skip_space = rest if repeated else self._head, None, repeated
        if self._skip_space:
            text = text.lstrip()
            self._skip_space = not text
        shown = text.rstrip()
        space = text[len(shown) :]
        if shown and self._space:
            shown = "".join(self._space) + shown
            self._space.clear()
        if space and not last:
            self._space.append(space)
        return shown


_NUMBERED = re.compile(r"^[\s#*_>\d.()-]+|[\s*_:.#-]+$")
_MARKED = re.compile(r"^[\s#*_>]+|[\s*_:#]+$")
_MOST_MARKS = 40
"""Characters around a repeated heading; a longer line is text."""


def _bare(line: str, heading: str) -> tuple[str, str]:
    """Both without marks and numbers around them; a heading that is a number keeps it."""
    marks = _NUMBERED if _NUMBERED.sub("", heading) else _MARKED
    return marks.sub("", line).casefold(), marks.sub("", heading).casefold()


def _is_heading(line: str, heading: str) -> bool:
    bare, wanted = _bare(line, heading)
    return bool(wanted) and bare == wanted and len(line) <= len(heading) + _MOST_MARKS


def _may_become(line: str, heading: str) -> bool:
    """Whether more text could still make this first line the heading, or give it a first letter."""
    bare, wanted = _bare(line, heading)
    if not line or not wanted:
        return not line
    return wanted.startswith(bare) and len(line) <= len(heading) + _MOST_MARKS
