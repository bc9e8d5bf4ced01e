"""A part's text as it is shown, while it streams: no reasoning, no repeated heading, no blank edges.

Where the chunks are cut never changes the joined result, and the cost is linear in the text.
"""

from __future__ import annotations

from collections.abc import Callable

from langchain_sgd.thoughts import ThoughtFilter


class AnswerFilter:
    """Takes chunks of a model's text, and gives what may be shown.

    Holds the first line back until it is clear that it is not the heading again.

    Args:
        heading: What may be repeated; empty if there is none.
        opened: As in `ThoughtFilter`.
        on_thought: As in `ThoughtFilter`.
    """

    def __init__(
        self,
        heading: str,
        *,
        opened: bool = False,
        on_thought: Callable[[str], object] | None = None,
    ) -> None:
        self.heading = heading
        self._thoughts = ThoughtFilter(opened, on_thought)
        self.restarted = False
        """Turns true with the call that makes a thought of all that was given before it; once at most.

        What that call itself gives is the beginning of the answer.
        """
        self._begin()

    def _begin(self) -> None:
        self._line: _FirstLine | None = _FirstLine(self.heading)
        """None once it was decided on."""
        self._skip_space = True
        """At the beginning, and between a dropped heading and the text."""
        self._space: list[str] = []
        """White space that is given only if text follows."""

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside a thought; after `close`, whether it was cut there."""
        return self._thoughts.thinking

    @property
    def begun(self) -> bool:
        """Whether some of the answer has come, be it that it is still held back."""
        return self._line is None or not self._skip_space

    def feed(self, chunk: str) -> str:
        """The part of the answer that may be shown now."""
        return self._admit(self._thoughts.feed(chunk), last=False)

    def close(self) -> str:
        """The rest of the answer, without trailing white space."""
        return self._admit(self._thoughts.close(), last=True)

    def _admit(self, text: str, *, last: bool) -> str:
        if self._thoughts.restarted and not self.restarted:
            self.restarted = True
            self._begin()
        if self._skip_space:
            text = text.lstrip()
            self._skip_space = not text
        if self._line is not None and (text or last):
            if (decided := self._line.feed(text, last=last)) is None:
                return ""
            text, self._skip_space, self._line = decided, self._line.is_heading, None
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


_MOST_MARKS = 40
"""Characters around a repeated heading; a longer line is text."""


class _FirstLine:
    """An answer's first line, that may be its heading again; each character is looked at once.

    Marks and numbers around both do not count; a heading that is a number keeps it.
    """

    def __init__(self, heading: str) -> None:
        self.is_heading = False
        self._numbered = bool(_bare(heading, numbered=True))
        self._wanted = _bare(heading, numbered=self._numbered).casefold()
        self._room = len(heading) + _MOST_MARKS
        self._held: list[str] = []
        self._matched = 0
        """Characters of the heading that have come."""
        self._begun = False
        self._marks: list[str] = []
        """Marks that belong to the heading if more of it follows."""

    def feed(self, text: str, *, last: bool) -> str | None:
        """None while it may become the heading; then what is to be shown of what has come."""
        self._held.append(text)
        line, newline, rest = text.partition("\n")
        may_be = bool(self._wanted) and all(map(self._takes, line))
        if may_be and not newline and not last:
            return None
        self.is_heading = may_be and bool(newline) and self._matched == len(self._wanted)
        return rest if self.is_heading else "".join(self._held)

    def _takes(self, char: str) -> bool:
        """Whether the line with this character too may be the heading's beginning."""
        self._room -= 1
        if self._room < 0:
            return False
        if not self._begun and _is_before(char, numbered=self._numbered):
            return True
        self._begun = True
        if _is_behind(char, numbered=self._numbered):
            self._marks.append(char)
            return True
        come = "".join((*self._marks, char)).casefold()
        self._marks.clear()
        if not self._wanted.startswith(come, self._matched):
            return False
        self._matched += len(come)
        return True


def _is_before(char: str, *, numbered: bool) -> bool:
    if char.isspace() or char in "#*_>":
        return True
    return numbered and (char in ".()-" or char.isdecimal())


def _is_behind(char: str, *, numbered: bool) -> bool:
    return char.isspace() or char in "*_:#" or (numbered and char in ".-")


def _bare(heading: str, *, numbered: bool) -> str:
    begin, end = 0, len(heading)
    while begin < end and _is_before(heading[begin], numbered=numbered):
        begin += 1
    while end > begin and _is_behind(heading[end - 1], numbered=numbered):
        end -= 1
    return heading[begin:end]
