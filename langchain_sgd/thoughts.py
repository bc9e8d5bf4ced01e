"""Reasoning that models write into their text, left out as it streams.

Where the chunks are cut never changes the joined result, and the cost is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from langchain_sgd.prose import SENTENCE_ENDS
from langchain_sgd.surrogates import Repair

_PAIRS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
}
_CLOSINGS = {opening: re.compile(re.escape(closing)) for opening, closing in _PAIRS.items()}
_ANY_CLOSING = re.compile("|".join(map(re.escape, _PAIRS.values())))
_TAG = re.compile("|".join(map(re.escape, (*_PAIRS, *_PAIRS.values()))))
_TAGS = (*_PAIRS, *_PAIRS.values())
_LONGEST_TAG = max(map(len, _TAGS))
_BEGUN_TAGS = frozenset(tag[:length] for tag in _TAGS for length in range(1, len(tag)))
_TAG_START = re.compile(r"[<\[◁]")
_CODE_INDENT = 4
_QUOTES = frozenset("\"'`«»‘’“”„")  # noqa: RUF001 - quotation marks are meant
_CLAUSE_ENDS = SENTENCE_ENDS | frozenset(":;)*")
_GOES_ON = frozenset(" \t,.;:)!?")
"""Behind a tag that a sentence speaks of."""


_STEPS = re.compile(r"\n|`+|~+|[^\n`~]+")
_MARKS_OF_LISTS = " \t\r>*+-.)0123456789"
_LEAST_FENCE = 3


@dataclass(slots=True)
class _Place:
    """What is known of the end of a text, as Markdown."""

    blank: bool = True
    """The line has nothing but white space so far."""
    indent: int = 0
    """White space at the line's beginning."""
    quoted: bool = False
    """The line begins with `>`."""
    last: str = ""
    """The last character."""
    word: str = ""
    """The last character of the line that is no white space."""
    _marked: bool = True
    """The line has nothing but marks of lists and quotations so far."""
    _fence: str = ""
    """What has opened the block of code we are in."""
    _is_first_line: bool = False
    """The fence was opened in this line."""
    _ticks: int = 0
    """The backticks that have opened code in this line."""

    @property
    def in_code(self) -> bool:
        return bool(self._fence) or self._ticks > 0

    def go(self, text: str) -> None:
        """Go on over more of the text."""
        for step in _STEPS.finditer(text):
            piece = step[0]
            if piece == "\n":
                self.blank = self._marked = True
                self.quoted = self._is_first_line = False
                self.indent = self._ticks = 0
                self.word = ""
            elif piece[0] in "`~":
                self._mark(piece)
                self.blank = self._marked = False
                self.word = piece[0]
            elif word := piece.strip():
                if self.blank:
                    self.indent += len(piece) - len(piece.lstrip())
                    self.quoted = word[0] == ">"
                self.blank = False
                self._marked = self._marked and not word.strip(_MARKS_OF_LISTS)
                self.word = word[-1]
            elif self.blank:
                self.indent += len(piece)
        self.last = text[-1]

    def _mark(self, run: str) -> None:
        """A run of backticks or tildes."""
        if self._fence:
            if self._is_first_line and run[0] == "`":
                self._fence, self._is_first_line = "", False  # code within a line after all
            elif self._marked and run.startswith(self._fence):
                self._fence = ""
        elif self._marked and len(run) >= _LEAST_FENCE:
            self._fence, self._is_first_line = run, True
        elif run[0] == "`":
            self._ticks = 0 if self._ticks == len(run) else self._ticks or len(run)


@dataclass(slots=True)
class ThoughtFilter:
    """Leaves out `<think>...</think>` and its kin, which reasoning models write into their text.

    A tag opens a thought at the beginning of a line, and a closing tag without an opening one, which
    comes where the chat template has opened the thought, makes a thought of all that stood before it. In
    code, in quotation marks, in a quoted line and inside a sentence a tag is being talked about. What
    opens behind visible text and never closes is text.

    Args:
        opened: The text begins inside a thought; known of a server that has done it before. Nothing is
            given before the closing tag, or before the end if there is none.
        on_thought: Is given the thoughts' text as it comes.
    """

    opened: bool = False
    on_thought: Callable[[str], object] | None = None
    restarted: bool = field(default=False, init=False)
    """Turns true with the call that gives the first text behind a closing tag without an opening one:
    what earlier calls gave was a thought and counts no longer. Once at most."""
    _repair: Repair = field(init=False, default_factory=Repair)
    _held: str = field(init=False, default="")
    """The end of the text so far, where it may be a tag, or the beginning of one."""
    _closing: re.Pattern[str] | None = field(init=False, default=None)
    """What ends the thought we are in."""
    _unsure: list[str] | None = field(init=False, default=None)
    """The thought we are in, where it is text unless it closes."""
    _opening: str = field(init=False, default="")
    """The tag that has opened it."""
    _thought: bool = field(init=False, default=False)
    """There has been a thought."""
    _begun: bool = field(init=False, default=False)
    """There has been visible text."""
    _stray: bool = field(init=False, default=False)
    """A closing tag has come for what was given, and no text since."""
    _out: list[str] = field(init=False, default_factory=list)
    _place: _Place = field(init=False, default_factory=_Place)
    _since: list[str] = field(init=False, default_factory=list)
    """What was given since `_place` was known."""

    def __post_init__(self) -> None:
        if self.opened:
            self._closing, self._unsure = _ANY_CLOSING, []

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside a thought."""
        return self._closing is not None

    def feed(self, chunk: str) -> str:
        """The visible part of what has arrived and not been given yet."""
        text = self._repair.feed(chunk)
        if self._begun and not self._held and self._closing is None and not _TAG_START.search(text):
            self._since.append(text)
            return text
        self._read(self._held + text, last=False)
        return self._given()

    def close(self) -> str:
        """What was held back as the possible beginning of a tag, or of a thought that did not close."""
        self._read(self._held + self._repair.close(), last=True)
        if self._closing is not None and self._unsure is not None:
            text = self._opening + "".join(self._unsure)
            if self._begun or not text.lstrip().startswith(tuple(_PAIRS)):
                self._show(text)
                self._closing = None
            self._unsure = None
        return self._given()

    def _given(self) -> str:
        text = "".join(self._out)
        self._out.clear()
        return text

    def _read(self, text: str, *, last: bool) -> None:
        self._held = ""
        at = 0
        while at < len(text):
            if self._closing is not None:
                at = self._think(self._closing, text, at, last=last)
                continue
            found = _TAG_START.search(text, at)
            start = found.start() if found else len(text)
            self._show(text[at:start])
            at = start
            if found is None:
                break
            if (tag := _TAG.match(text, start)) is None:
                if not last and text[start : start + _LONGEST_TAG] in _BEGUN_TAGS:
                    self._held = text[start:]
                    break
                self._show(text[start])
                at += 1
                continue
            at = tag.end()
            if tag[0] in _PAIRS:
                if self._opens():
                    self._opening, self._closing = tag[0], _CLOSINGS[tag[0]]
                    self._unsure = [] if self._begun else None
                    continue
            elif not last and at == len(text):
                self._held = tag[0]  # what follows says what it is
                break
            elif self._closes(text[at : at + 1]):
                continue
            self._show(tag[0])

    def _think(self, closing: re.Pattern[str], text: str, at: int, *, last: bool) -> int:
        """Go on through a thought; give where it ends, or the end of the text."""
        kept = len(text) if last else max(at, len(text) - _LONGEST_TAG)
        for found in closing.finditer(text, at):
            start, end = found.span()
            if end == len(text) and not last:
                kept = max(at, start - 1)
                break
            if start > at and _is_quoted(text[start - 1], text[end : end + 1]):
                kept = max(kept, end - 1)
                continue
            self._muse(text[at:start])
            if self._unsure is not None:
                thought, self._unsure = "".join(self._unsure), None
                self._muse(thought)
            self._closing, self._thought = None, True
            return end
        self._muse(text[at:kept])
        self._held = text[kept:]
        return len(text)

    def _muse(self, text: str) -> None:
        if self._unsure is not None:
            self._unsure.append(text)
        elif self.on_thought is not None and text:
            self.on_thought(text)

    def _opens(self) -> bool:
        """Whether an opening tag that comes now opens a thought."""
        if not self._begun:
            return True
        place = self._here()
        return place.blank and not place.in_code and place.indent < _CODE_INDENT

    def _closes(self, following: str) -> bool:
        """Whether a closing tag that nothing has opened, and that comes now, closes a thought."""
        if not self._begun:
            return True
        place = self._here()
        if self._thought or place.in_code or place.quoted or _is_quoted(place.last, following):
            return False
        if following in _GOES_ON and not place.blank and place.word not in _CLAUSE_ENDS:
            return False
        self._thought = self._stray = True
        self._begun = False
        self._place = _Place()
        return True

    def _here(self) -> _Place:
        if self._since:
            self._place.go("".join(self._since))
            self._since.clear()
        return self._place

    def _show(self, text: str) -> None:
        if not self._begun:
            if self._stray:
                text = text.lstrip()
            self._begun = bool(text) and not text.isspace()
            if self._stray and self._begun:
                self.restarted, self._stray = True, False
                self._out.clear()
        if text:
            self._out.append(text)
            self._since.append(text)


def _is_quoted(before: str, following: str) -> bool:
    return before in _QUOTES and following in _QUOTES


def without_thoughts(text: str) -> str:
    """The visible part of a whole text."""
    thoughts = ThoughtFilter()
    return thoughts.feed(text) + thoughts.close()
