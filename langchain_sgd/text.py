"""Pure filters over a model's streamed text: reasoning left out, a repeated heading left out.

Each takes chunks and gives back what may be shown; where the chunks are cut never changes the joined
result, and the cost is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

_BOM = "\ufeff"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Repair:
    """Makes any text one that can be encoded: joins surrogates, cut apart too, and replaces lone ones.

    A byte order mark at the beginning goes.
    """

    _high: str = ""
    """The first half of a pair, where the text ends with it."""
    _begun: bool = False

    def feed(self, chunk: str) -> str:
        """The chunk, repaired; half a pair at its end waits for the other half."""
        if chunk.isascii() and not self._high:
            self._begun = self._begun or bool(chunk)
            return chunk
        text, self._high = self._high + chunk, ""
        if not self._begun:
            text = text.lstrip(_BOM)
            self._begun = bool(text)
        if not _SURROGATE.search(text):
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return repaired(text)

    def close(self) -> str:
        """The replacement of a half that stayed alone."""
        rest, self._high = repaired(self._high), ""
        return rest


def repaired(text: str) -> str:
    """The text with surrogates joined to characters, and lone ones replaced."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


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
_SENTENCE_ENDS = frozenset(".!?:;…)。！？*")  # noqa: RUF001 - other scripts end sentences too
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
        if following in _GOES_ON and not place.blank and place.word not in _SENTENCE_ENDS:
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


class AnswerFilter:
    """A node's answer as it is shown: no reasoning, no repeated heading, no blank edges.

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
        self._begin()

    def _begin(self) -> None:
        self._line: _FirstLine | None = _FirstLine(self.heading)
        """None once it was decided on."""
        self._skip_space = True
        """At the beginning, and between a dropped heading and the text."""
        self._space: list[str] = []
        """White space that is given only if text follows."""

    @property
    def restarted(self) -> bool:
        """Turns true with the call that makes a thought of all that was given before it; once at most.

        What that call itself gives is the beginning of the answer.
        """
        return self._thoughts.restarted

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
        restarted = self._thoughts.restarted
        text = self._thoughts.feed(chunk)
        if self._thoughts.restarted is not restarted:
            self._begin()
        return self._admit(text, last=False)

    def close(self) -> str:
        """The rest of the answer, without trailing white space."""
        restarted = self._thoughts.restarted
        text = self._thoughts.close()
        if self._thoughts.restarted is not restarted:
            self._begin()
        return self._admit(text, last=True)

    def _admit(self, text: str, *, last: bool) -> str:
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
