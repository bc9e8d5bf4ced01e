"""Pure filters over a model's streamed text: reasoning left out, a repeated heading left out.

Each takes chunks and gives back what may be shown; where the chunks are cut never changes the joined
result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_OPEN = ("<think>", "<thinking>", "<thought>", "<reasoning>")
_CLOSE = {tag: "</" + tag[1:] for tag in _OPEN}


@dataclass(slots=True)
class ThoughtFilter:
    """Leaves out `<think>...</think>` and its kin, which reasoning models write into their text."""

    _pending: str = ""
    _closing: str = ""
    """The tag that ends the thought we are in; empty outside."""

    def feed(self, chunk: str) -> str:
        """The visible part of what has arrived and not been given yet."""
        if not self._closing and not self._pending and "<" not in chunk:
            return chunk
        self._pending += chunk
        out: list[str] = []
        while self._pending:
            if self._closing:
                start = self._pending.find(self._closing)
                if start < 0:
                    self._pending = self._pending[-(len(self._closing) - 1) :]
                    break
                self._pending = self._pending[start + len(self._closing) :]
                self._closing = ""
                continue
            start = self._pending.find("<")
            if start < 0:
                start = len(self._pending)
            out.append(self._pending[:start])
            self._pending = self._pending[start:]
            opened = next((tag for tag in _OPEN if self._pending.startswith(tag)), None)
            if opened:
                self._closing = _CLOSE[opened]
                self._pending = self._pending[len(opened) :]
            elif self._pending and any(tag.startswith(self._pending) for tag in _OPEN):
                break
            elif self._pending:
                out.append("<")
                self._pending = self._pending[1:]
        return "".join(out)

    def close(self) -> str:
        """What was held back as the possible beginning of a tag."""
        rest, self._pending = ("" if self._closing else self._pending), ""
        return rest


@dataclass(slots=True)
class AnswerFilter:
    """A node's answer as it is shown: no reasoning, no repeated heading, no blank edges.

    Holds the first line back until it is clear that it is not the heading again.
    """

    heading: str
    _thoughts: ThoughtFilter = field(default_factory=ThoughtFilter)
    _head: str | None = ""
    """The held first line; None once it was decided on."""
    _skip_space: bool = False
    """Between a dropped heading and the text."""
    _space: str = ""
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
        text = self._space + text
        shown = text.rstrip()
        self._space = "" if last else text[len(shown) :]
        return shown


_MARKS = re.compile(r"^[\s#*_>\d.()-]*|[\s*_:.#-]*$")


def _bare(line: str) -> str:
    return _MARKS.sub("", line).casefold()


def _is_heading(line: str, heading: str) -> bool:
    return bool(line.strip()) and _bare(line) == _bare(heading)


def _may_become(line: str, heading: str) -> bool:
    """Whether more text could still make this first line the heading."""
    bare, whole = _bare(line), _bare(heading)
    return whole.startswith(bare) if len(bare) <= len(whole) else False
