"""From the planner's streamed text to drafts of nodes: pure, tolerant, indifferent to chunk borders.

Reads the lines of `wire`, the older lines of five fields between bars, numbered lists as models write
them unasked, and JSON; whatever stands around them: prose, reasoning, code fences, table borders,
carriage returns. A draft is given when its line, string or object is *closed*. What is read is decided by
the text alone, never by where its chunks end, and the cost is linear in the text, whatever it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from langchain_sgd.planning.drafts import Draft
from langchain_sgd.planning.lines import (
    BEGUN_BAR,
    begun_number,
    parse_bar,
    parse_line,
    parse_numbered,
)
from langchain_sgd.planning.objects import LIST_KEYS, parse_object, to_draft
from langchain_sgd.thoughts import ThoughtFilter
from langchain_sgd.wire import MIN_NODES, PLAIN_WORD

__all__ = ["SkeletonParser", "parse_line"]

_MAX_LINE = 400
"""Characters of one line; a longer one has run on."""
_SKIPPED = 2
"""The next numbered line has the next number, or at most this much more than the last one."""
_MAX_OBJECT = 4_000
"""Characters of one node's JSON object, and of the text between two of them."""
_MAX_DEPTH = 8
_MAX_MISTAKEN = 3
"""Braces taken for JSON that were none; after so many, only lines are read."""
_SILENT_BEFORE = 8_000
"""Characters before the first draft; a planner that goes on without any is no planner."""
_SILENT_AFTER = 1_000
"""Characters after a draft that close no further one: the plan has ended, whatever comes."""

_BETWEEN = re.compile(r"[ \t\r\n,[\]]*")
_LONGEST_OPENING = 202
_OBJECT = re.compile(r'\{\s{0,200}"')
_OBJECT_SO_FAR = re.compile(r"\{\s{0,200}")
_NUMBER_SO_FAR = re.compile(r"\W*\d{0,4}\W*")
"""Of a string: what follows tells whether it is the line's number or its heading."""
_LONGEST_NAME = 60
_LIST_BEGUN = re.compile(rf'"(?:{"|".join(LIST_KEYS)})"\s*:\s*\Z')
_PLAIN = re.compile(rf"""[\W_]{{0,8}}{PLAIN_WORD}(?:[^\S\n]{{0,8}}[^\w\s'’-]|\s*\n)""")  # noqa: RUF001
"""The word alone: `PLAIN would be wrong` goes on."""
_EDGES = " \t\r.*_`'\"![]"
_SIGNS = str.maketrans({"｜": "|"})  # noqa: RUF001
"""Another sign for a bar."""


@dataclass(slots=True)
class SkeletonParser:
    """Feed it the planner's chunks; it gives the drafts that they close."""

    read_line: Callable[[str], Draft | None] | None = None
    """Reads one line, instead of the forms that are known here."""
    plain: bool = False
    """The planner said that the question is better answered undivided."""
    ended: bool = False
    """Nothing that follows will be read: the plan is closed, or went on without an end."""
    reason: str | None = None
    """If `ended` against the planner's will: why, in words that follow "the planner"."""
    begun: bool = False
    """A node's line or object has begun that is not closed yet; whatever follows, it gives a draft."""
    begun_heading: str = ""
    """As much as is known of that node's heading; nothing of an object's."""
    voided: int = 0
    """Drafts, from the first on, that turned out to be part of a thought without an opening tag."""
    ran_on: bool = False
    """A node's line had no end: the rest of the plan is lost."""
    unread: list[str] = field(default_factory=list)
    """Lines that begin like a node's but could not be read."""
    _thoughts: ThoughtFilter = field(default_factory=ThoughtFilter)
    _text: str = ""
    _at: int = 0
    """What stands before it in `_text` has been read."""
    _dropped: int = 0
    """Characters that were read and forgotten."""
    _last: int = 0
    """Where, counted from the beginning, the last draft ended."""
    _overlong: bool = False
    """The rest of the current line is skipped."""
    _braces: list[int] = field(default_factory=list)
    """Offsets in `_text` of the braces that are open."""
    _around: int = 0
    """Braces that stand around a node's own: 1 in `{"nodes": [{...}]}`."""
    _listed: bool = False
    """We are in a list whose strings are lines."""
    _string: int = -1
    """Offset of the quotation mark that opened the string we are in; -1: in none."""
    _scanned: int = 0
    _escaped: bool = False
    _mistaken: int = 0
    _count: int = 0
    _first: str = ""
    """The first draft's id."""
    _number: int = 0
    """Of the last numbered line."""
    _ones: bool = False
    """Every line is numbered 1, as some write lists."""

    def feed(self, chunk: str) -> list[Draft]:
        """Drafts closed by this chunk, in order."""
        if self.plain or self.ended:
            return []
        restarted = self._thoughts.restarted
        text = self._thoughts.feed(chunk if self.read_line else chunk.translate(_SIGNS))
        if self._thoughts.restarted and not restarted:
            self._restart()
        self._text += text
        return self._drain()

    def _restart(self) -> None:
        """Forget what was read: it was a thought without an opening tag."""
        self.voided += self._count
        self._text, self._first, self._string = "", "", -1
        self._at = self._around = self._scanned = self._mistaken = 0
        self._count = self._number = self._last = self._dropped = 0
        self._overlong = self._ones = self._listed = self._escaped = False
        self._braces, self.unread = [], []

    def close(self, *, cut: bool = False) -> list[Draft]:
        """Drafts closed by the end of the text: a last line needs no line break.

        If the text was `cut`, its last line is not whole, and left out: half a heading is none.
        """
        if self.plain or self.ended:
            self.begun = False
            return []
        self._text += self._thoughts.close()
        self._text = f"{self._without_what_was_cut(cut=cut)}\n"
        drafts = self._drain(last=True)
        while self._braces:
            self._leave_object()
            drafts += self._drain(last=True)
        self.begun = False
        return drafts

    def _without_what_was_cut(self, *, cut: bool) -> str:
        """The text without a last line, or a string in the place of one, that has no end."""
        text = self._text
        if self._braces and self._listed and self._string >= 0:
            return text[: self._string]
        if not cut:
            return text
        end = text.rfind("\n") + 1
        return text if self._braces and end <= self._braces[-1] else text[:end]

    @property
    def open_object(self) -> bool:
        """The text stands inside a JSON object."""
        return bool(self._braces)

    def _drain(self, *, last: bool = False) -> list[Draft]:
        drafts: list[Draft] = []
        while not (self.plain or self.ended) and (
            self._scan_object(drafts) if self._braces else self._read_line(drafts, last=last)
        ):
            pass
        if not (self.plain or self.ended):
            self._check_silence(len(self._text))
        self._forget()
        reads_on = not (self.plain or self.ended)
        draft = self._draft_so_far() if reads_on else None
        self.begun = draft is not None or (reads_on and len(self._braces) > self._around)
        self.begun_heading = draft.heading if draft else ""
        return drafts

    def _draft_so_far(self) -> Draft | None:
        """What a node's line or string that is not closed yet would give; None if that may become none."""
        draft = None
        if max(self._string, 0) + _MAX_LINE >= self._silent_at:
            return None  # reading may end before it does
        if not self._braces:
            if self._begins_node(self._text):
                draft = self._draft_of(self._text, begun_number(self._text))
        elif self._listed and len(self._braces) == self._around and self._string >= 0:
            spelt = self._text[self._string + 1 :]
            if "\\" not in spelt and not _NUMBER_SO_FAR.fullmatch(spelt):
                draft = self._draft_of_string(spelt)
        return None if draft is None or self._begins_anew(draft) else draft

    def _check_silence(self, at: int) -> bool:
        """Whether the text up to an offset closed nothing for too long; then reading has ended."""
        if at > self._silent_at:
            self.ended = True
            self.reason = None if self._count else "wrote no line of a plan"
        return self.ended

    @property
    def _silent_at(self) -> int:
        """The offset up to which a draft must be closed."""
        return self._last - self._dropped + (_SILENT_AFTER if self._count else _SILENT_BEFORE)

    def _forget(self) -> None:
        """Drop the text that was read; braces around what was dropped are behind its beginning."""
        read, self._at = self._at, 0
        self._text = self._text[read:]
        self._dropped += read
        self._braces = [brace - read for brace in self._braces]
        self._string = self._string - read if self._string >= 0 else -1
        self._scanned -= read

    def _read_line(self, drafts: list[Draft], *, last: bool) -> bool:
        """Go on to the end of the line, or to an object in it; False when the text is used up."""
        text = self._text
        if self._overlong:
            end = text.find("\n", self._at)
            self._overlong = end < 0
            self._at = len(text) if end < 0 else end + 1
            return end >= 0 and not self._check_silence(end)
        self._at = at = _BETWEEN.match(text, self._at).end()  # type: ignore[union-attr]
        if self._check_silence(at):
            return False
        if not self._count and _PLAIN.match(text, at):
            self.plain = True
            return False
        end = text.find("\n", at, at + _MAX_LINE + 1)
        if self._mistaken < _MAX_MISTAKEN:
            # What stands behind the longest line was not there yet where the text came in pieces.
            room = end if end >= 0 else min(len(text), at + _MAX_LINE)
            brace = self._find_object(at, room, last=last)
            if brace is None:
                return False
            if brace >= 0:
                self._at, self._braces, self._scanned = brace, [brace], brace + 1
                self._string, self._listed, self._escaped = -1, False, False
                self._around = 0
                return True
        runs_on = end < 0 and len(text) - at > _MAX_LINE
        if end < 0 and not runs_on:
            return False
        if runs_on:
            self._overlong = True
            end = self._at = at + _MAX_LINE
        else:
            self._at = end + 1
        if self._check_silence(end):
            return False
        if not runs_on or self._begins_node(text[at:end]):
            self._take_line(text[at:end], drafts)
        if runs_on and self._last == self._dropped + end:
            self._end_line_without_end()
        return True

    def _find_object(self, at: int, end: int, *, last: bool) -> int | None:
        """Offset of the line's first brace that opens a JSON object; -1: none; None: not yet clear.

        What stands behind a bar, or a number and a word, belongs to a node's line.
        """
        text = self._text
        bar = text.find("|", at, end)
        end = bar if bar >= 0 else end
        brace = text.rfind("{", at, end)
        if brace < 0 or self._begins_node(text[at : text.find("{", at)]):
            return -1
        if (found := _OBJECT.search(text, at, brace + _LONGEST_OPENING)) and found.start() <= brace:
            return found.start()
        if not last and _OBJECT_SO_FAR.fullmatch(text, brace):
            return None
        return -1

    def _begins_node(self, text: str) -> bool:
        """Whether the line that a text begins with is a node's, whatever follows."""
        if self.read_line is not None:
            return False
        number = begun_number(text)
        return self._is_next(number) if number is not None else bool(BEGUN_BAR.match(text))

    def _is_next(self, number: int) -> bool:
        """Whether a numbered line is the next one; a number or two may be left out."""
        if self._ones or (self._count == 1 and self._number == 1 == number):
            return number == 1
        return self._number < number <= self._number + _SKIPPED

    def _take_line(self, line: str, drafts: list[Draft]) -> None:
        number = begun_number(line)
        if number == 1 and self._number > 1:
            self._end_at_second_plan()
            return
        draft = self._draft_of(line, number)
        if draft is not None:
            if number is not None and self._is_next(number):
                self._ones = number == self._number == 1
                self._number = number
            self._take(draft, drafts, self._at)
        elif not self._count and line.strip(_EDGES).casefold() == PLAIN_WORD.casefold():
            self.plain = True
        elif BEGUN_BAR.match(line):
            self.unread.append(line.strip())

    def _draft_of(self, line: str, number: int | None) -> Draft | None:
        if self.read_line is not None:
            return self.read_line(line)
        if number is not None and self._is_next(number):
            again = number == 1 and self._count
            return parse_numbered(line, self._count + 1 if again else number)
        return parse_bar(line)

    def _draft_of_string(self, line: str) -> Draft | None:
        draft = self._draft_of(line, begun_number(line))
        if draft is None and line.strip(_EDGES):
            return parse_numbered(f"{self._count + 1} {line}", self._count + 1)
        return draft

    def _take(self, draft: Draft, drafts: list[Draft], at: int) -> None:
        """Give a draft that ends at this offset, unless the plan begins anew with it."""
        if not self._count:
            self._first = draft.id
        elif self._begins_anew(draft):
            self._end_at_second_plan()
            return
        self._count += 1
        self._last = self._dropped + at
        drafts.append(draft)

    def _begins_anew(self, draft: Draft) -> bool:
        return self._count >= MIN_NODES and draft.id == self._first and not self._ones

    def _end_line_without_end(self) -> None:
        self.ended = self.ran_on = True
        self.reason = "wrote a line without an end"

    def _end_at_second_plan(self) -> None:
        self.ended, self.reason = True, "wrote a second plan; the first is taken"
        self._braces = []

    def _scan_object(self, drafts: list[Draft]) -> bool:
        """Go on through an open JSON object; False when the text is used up."""
        text, braces = self._text, self._braces
        end = min(len(text), self._silent_at + 1)
        for index in range(self._scanned, end):
            char = text[index]
            if index - self._at > _MAX_OBJECT or len(braces) > _MAX_DEPTH:
                self._leave_object()
                return True
            if self._string >= 0:
                if self._goes_through_string(char, index, drafts):
                    return not (self.ended or self.plain)
            elif char == '"':
                self._string = index
            elif char in "[]":
                self._take_bracket(char, index)
            elif char == "{":
                braces.append(index)
            elif char == "}":
                start = braces.pop()
                self._scanned = index + 1
                if len(braces) < self._around:
                    self._around = len(braces)
                    self._close_around(text[start : index + 1])
                elif self._take_object(text[start : index + 1], drafts, index + 1):
                    self._at = index + 1
                if not braces:
                    self._at = index + 1
                return not (self.ended or self.plain)
        self._scanned = end
        return False

    def _goes_through_string(self, char: str, index: int, drafts: list[Draft]) -> bool:
        """Go on by a character; whether a string of the list has ended, or has run on as a line does."""
        listed = self._listed and len(self._braces) == self._around
        runs_on = listed and index - self._string > _MAX_LINE
        if not runs_on and (self._escaped or char == "\\"):
            self._escaped = not self._escaped
        elif runs_on or char == '"':
            start, self._string = self._string, -1
            if listed:
                self._scanned = index + 1
                self._take_string(f'{self._text[start:index]}"', drafts)
                if runs_on and not self.ended:
                    self._end_line_without_end()
            return listed
        return False

    def _take_bracket(self, char: str, index: int) -> None:
        """A list begins or ends; only the one under a known name holds lines."""
        depth = len(self._braces)
        if char == "]":
            self._listed = self._listed and depth != self._around
        elif not self._listed:
            start = max(self._braces[-1], index - _LONGEST_NAME, 0)
            if _LIST_BEGUN.search(self._text, start, index):
                self._listed, self._around = True, depth

    def _take_string(self, spelt: str, drafts: list[Draft]) -> None:
        """A string of the list of lines; one without a number has that of its place."""
        try:
            line = str(json.loads(spelt, strict=False))
        except ValueError:
            line = spelt.strip('"')
        self._at = self._scanned
        if not self._count and line.strip(_EDGES).casefold() == PLAIN_WORD.casefold():
            self.plain = True
            return
        draft = self._draft_of_string(line)
        if draft is not None:
            self._number = int(draft.id) if draft.id.isdigit() else self._number
            self._take(draft, drafts, self._at)

    def _take_object(self, text: str, drafts: list[Draft], at: int) -> bool:
        value = parse_object(text)
        if draft := to_draft(value):
            self._around = len(self._braces)
            self._take(draft, drafts, at)
        elif not self._count and any(value.get(key) == [] for key in LIST_KEYS):
            self.plain = True
        return draft is not None

    def _close_around(self, text: str) -> None:
        """The object around the nodes is closed, and with it the plan."""
        if self._count:
            self.ended = not self._braces
        elif any(parse_object(text).get(key) == [] for key in LIST_KEYS):
            self.plain = True

    def _leave_object(self) -> None:
        """The braces were prose, or the object was cut off: read on by lines."""
        self._mistaken += 1
        self._at = max(self._at, self._braces[0] + 1)
        self._braces, self._around, self._scanned, self._listed = [], 0, 0, False
