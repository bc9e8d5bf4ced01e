"""A part's text as it is shown, while it streams: no reasoning, no repeated heading, no blank edges.

Where the chunks are cut never changes the joined result, and the cost is linear in the text.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
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
        self._line: _FirstLine | _Underline | None = _FirstLine(self.heading)
        """What may still be dropped; None once all is decided."""
        self._skip_space = True
        """At the beginning, and between a dropped line and the text."""
        self._space: list[str] = []
        """White space that is given only if text follows."""

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside a thought; after `close`, whether it was cut there."""
        return self._thoughts.thinking

    @property
    def begun(self) -> bool:
        """Whether some of the answer has come, be it that it is still held back."""
        return not (isinstance(self._line, _FirstLine) and self._skip_space)

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
        text = self._without_space(text)
        while self._line is not None and (text or last):
            if (decided := self._line.feed(text, last=last)) is None:
                return ""
            text, self._skip_space = decided, self._line.is_dropped
            is_heading = self._skip_space and isinstance(self._line, _FirstLine)
            self._line = _Underline() if is_heading else None
            text = self._without_space(text)
        shown = text.rstrip()
        space = text[len(shown) :]
        if shown and self._space:
            shown = "".join(self._space) + shown
            self._space.clear()
        if space and not last:
            self._space.append(space)
        return shown

    def _without_space(self, text: str) -> str:
        if self._skip_space:
            text = text.lstrip()
            self._skip_space = not text
        return text


_MOST_MARKS = 40
"""Characters around a repeated heading; a longer line is text."""
_MOST_LABELS = 4
"""Words and numbers before it, as in "Part 2.1:"."""
_NO_HEADING = "|`~$<{\\"
"""How tables, code, formulas and data begin."""
_RULES = "=-*_—─━═"
"""What lines under a heading are made of."""


@functools.lru_cache(maxsize=4096)
def _letters(char: str) -> str:
    """A character's letters and digits, in one form for all that look or mean the same; none of a sign."""
    if not char.isalnum():
        return ""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
    return "".join(filter(str.isalnum, folded))


def _any_of(words: str, *, begun: bool = False) -> str:
    """An expression for one of the words, or for the beginning of one."""
    keys = ["".join(map(_letters, word)) for word in words.split()]
    return "|".join(key[:n] for key in keys for n in range(0 if begun else len(key), len(key) + 1))


_PARTS = (
    "part section chapter step teil kapitel schritt partie chapitre étape parte sección capítulo paso"
    " sezione capitolo seção hoofdstuk część rozdział часть раздел глава パート 파트"
)
"""What is said for "part" before its number; then what stands right before and behind a number.

None begins as "a", "de" or "in": a text's first word would wait.
"""
_BEFORE_NUMBER, _BEHIND_NUMBER = "第 제", "部分 部 章 节 節 부 장"
_DIGITS = r"(?:\d+|(?=[ivx])x{0,3}(?:i[xv]|v?i{0,3})|[一二三四五六七八九十百]+)"
_NUMBER = re.compile(f"(?:{_any_of(_BEFORE_NUMBER)})?{_DIGITS}(?:{_any_of(_BEHIND_NUMBER)})?")
_LABEL = re.compile(f"{_any_of(_PARTS)}|{_NUMBER.pattern}")
_BEGUN_LABEL = re.compile(
    f"(?:{_any_of(_PARTS, begun=True)})"
    f"|(?:{_any_of(_BEFORE_NUMBER, begun=True)}){_DIGITS}?(?:{_any_of(_BEHIND_NUMBER, begun=True)})"
)


class _FirstLine:
    """An answer's first line, that may be its heading again; each character is looked at once.

    Only letters and digits count, whatever their case, width and accents, and no number in front of either.
    """

    def __init__(self, heading: str) -> None:
        self.is_dropped = False
        """It is the heading again."""
        self._wanted = _without_number(heading)
        self._room = len(heading) + _MOST_MARKS
        self._held: list[str] = []
        self._begun = False
        self._matched: list[int] = []
        """How much of the heading has come, for each place where it may have begun."""
        self._word = ""
        """The current one, while all before it belong to a label."""
        self._labels = 0
        self._may_begin = True
        """The heading may begin with the next word."""
        self._is_label = True
        """All so far may be a label."""

    def feed(self, text: str, *, last: bool) -> str | None:
        """None while it may become the heading; then what is to be shown of what has come."""
        self._held.append(text)
        line, newline, rest = text.partition("\n")
        may_be = bool(self._wanted) and all(map(self._takes, line))
        if may_be and not newline and not last:
            return None
        self.is_dropped = may_be and bool(newline) and len(self._wanted) in self._matched
        return rest if self.is_dropped else "".join(self._held)

    def _takes(self, char: str) -> bool:
        """Whether the line with this character too may be the heading's beginning."""
        self._room -= 1
        if self._room < 0 or (not self._begun and char in _NO_HEADING):
            return False
        self._begun = True
        come = _letters(char)
        if not come:
            if self._word and _is_between(char):
                self._end_word()
            return True
        if self._may_begin:
            self._matched.append(0)
            self._may_begin = False
        self._matched = [
            at + len(come) for at in self._matched if self._wanted.startswith(come, at)
        ]
        if self._is_label:
            self._word += come
            self._is_label = len(self._word) <= _MOST_MARKS and bool(
                _BEGUN_LABEL.fullmatch(self._word)
            )
        return self._is_label or bool(self._matched)

    def _end_word(self) -> None:
        self._labels += 1
        self._is_label = self._labels <= _MOST_LABELS and bool(_LABEL.fullmatch(self._word))
        self._may_begin = self._is_label and bool(_NUMBER.fullmatch(self._word))
        self._word = ""


class _Underline:
    """What may be a line of equal marks behind a dropped heading: its underline, or a rule."""

    def __init__(self) -> None:
        self.is_dropped = False
        self._held: list[str] = []
        self._mark = ""
        self._length = 0
        self._ended = False

    def feed(self, text: str, *, last: bool) -> str | None:
        """As in `_FirstLine`."""
        self._held.append(text)
        line, newline, rest = text.partition("\n")
        may_be = all(map(self._takes, line))
        if may_be and not newline and not last:
            return None
        self.is_dropped = may_be and self._length > 1
        return rest if self.is_dropped else "".join(self._held)

    def _takes(self, char: str) -> bool:
        if char.isspace():
            self._ended = True
            return True
        self._mark = self._mark or char
        self._length += 1
        return char == self._mark and char in _RULES and not self._ended


def _without_number(heading: str) -> str:
    """Its letters and digits without the numbers in front, unless it has no others."""
    spaced = (_letters(char) or (" " if _is_between(char) else "") for char in heading)
    words = "".join(spaced).split()
    labels = [*itertools.takewhile(_LABEL.fullmatch, words[:_MOST_LABELS])]
    while labels and not _NUMBER.fullmatch(labels[-1]):
        labels.pop()
    return "".join(words[len(labels) :] or words)


def _is_between(char: str) -> bool:
    """Whether a sign stands between words; accents stand in them."""
    return not unicodedata.category(char).startswith("M")
