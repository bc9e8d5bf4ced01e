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
    EDGES,
    Numbering,
    begun_number,
    is_like_a_part,
    parse_bar,
    parse_numbered,
    says_plain,
)
from langchain_sgd.planning.objects import LIST_KEYS, parse_object, to_draft
from langchain_sgd.planning.scanning import Scanner, opening
from langchain_sgd.thoughts import ThoughtFilter
from langchain_sgd.wire import MIN_NODES, PLAIN_WORD

_MAX_LINE = 400
"""Characters of one line; a longer one has run on."""
_MAX_MISTAKEN = 3
"""Braces taken for JSON that were none; after so many, only lines are read."""
_SILENT_BEFORE = 8_000
"""Characters before the first draft; a planner that goes on without any is no planner."""
_SILENT_AFTER = 1_000
"""Characters after a draft that close no further one: the plan has ended, whatever comes."""

_BETWEEN = re.compile(r"[ \t\n,[\]]*")
_NUMBER_SO_FAR = re.compile(r"\W*\d{0,4}\W*")
"""Of a string: what follows tells whether it is the line's number or its heading."""
_PLAIN = re.compile(rf"""[\W_]{{0,8}}{PLAIN_WORD}(?:[^\S\n]{{0,8}}[^\w\s'’-]|\s*\n)""")  # noqa: RUF001
"""The word alone: `PLAIN would be wrong` goes on."""
_ENDS = str.maketrans(dict.fromkeys("\r\x85\u2028\u2029", "\n"))
"""Other ends of lines; of two in a row, the second is an empty line."""
_SIGNS = {**_ENDS, ord("｜"): "|"}  # noqa: RUF001
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
    """Lines by which parts will have been meant, but that could not be read."""
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
    _scanner: Scanner = field(default_factory=lambda: Scanner(_MAX_LINE))
    """Of the JSON object in which the text stands, if it stands in one."""
    _mistaken: int = 0
    _count: int = 0
    _first: str = ""
    """The first draft's id."""
    _numbering: Numbering = field(default_factory=Numbering)

    def feed(self, chunk: str) -> list[Draft]:
        """Drafts closed by this chunk, in order."""
        if self.plain or self.ended:
            return []
        restarted = self._thoughts.restarted
        text = self._thoughts.feed(chunk.translate(_ENDS if self.read_line else _SIGNS))
        if self._thoughts.restarted and not restarted:
            self._restart()
        self._text += text
        return self._drain()

    def _restart(self) -> None:
        """Forget what was read: it was a thought without an opening tag."""
        self.voided += self._count
        self._text, self._first, self.unread = "", "", []
        self._at = self._mistaken = 0
        self._count = self._last = self._dropped = 0
        self._overlong = False
        self._numbering = Numbering()
        self._scanner.leave()

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
        while self.open_object:
            self._leave_object()
            drafts += self._drain(last=True)
        self.begun = False
        return drafts

    def _without_what_was_cut(self, *, cut: bool) -> str:
        """The text without a last line, or a string in the place of one, that has no end."""
        text, scanner = self._text, self._scanner
        if scanner.listed and scanner.string >= 0:
            return text[: scanner.string]
        if not cut:
            return text
        end = text.rfind("\n") + 1
        return text if scanner.braces and end <= scanner.braces[-1] else text[:end]

    @property
    def open_object(self) -> bool:
        """The text stands inside a JSON object."""
        return bool(self._scanner.braces)

    def _drain(self, *, last: bool = False) -> list[Draft]:
        drafts: list[Draft] = []
        while not (self.plain or self.ended) and (
            self._scan_object(drafts) if self.open_object else self._read_line(drafts, last=last)
        ):
            pass
        if not (self.plain or self.ended):
            self._check_silence(len(self._text))
        self._forget()
        reads_on = not (self.plain or self.ended)
        draft = self._draft_so_far() if reads_on else None
        self.begun = draft is not None or (reads_on and self._scanner.in_node)
        self.begun_heading = draft.heading if draft else ""
        return drafts

    def _draft_so_far(self) -> Draft | None:
        """What a node's line or string that is not closed yet would give; None if that may become none."""
        draft, string = None, self._scanner.string
        if max(string, 0) + _MAX_LINE >= self._silent_at:
            return None  # reading may end before it does
        if not self.open_object:
            if self._begins_node(self._text):
                draft = self._draft_of(self._text, begun_number(self._text))
        elif self._scanner.in_line:
            spelt = self._text[string + 1 :]
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
        self._scanner.forget(read)

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
                self._at = brace
                self._scanner.open(brace)
                return True
        runs_on = end < 0 and len(text) - at > _MAX_LINE
        if end < 0 and not runs_on:
            return False
        self._overlong = runs_on
        end = at + _MAX_LINE if runs_on else end
        self._at = end if runs_on else end + 1
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
        brace = text.find("{", at, end)
        if brace < 0 or self._begins_node(text[at:brace]):
            return -1
        return opening(text, brace, end, last=last)

    def _begins_node(self, text: str) -> bool:
        """Whether the line that a text begins with is a node's, whatever follows."""
        if self.read_line is not None:
            return False
        number = begun_number(text)
        if number is None:
            return bool(BEGUN_BAR.match(text))
        return self._numbering.is_next(number, self._count)

    def _take_line(self, line: str, drafts: list[Draft]) -> None:
        number = begun_number(line)
        if number == 1 and self._numbering.last > 1:
            self._end_at_second_plan()
            return
        draft = self._draft_of(line, number)
        if draft is not None:
            if number is not None and self._numbering.is_next(number, self._count):
                self._numbering.take(number)
            self._take(draft, drafts, self._at)
        elif not self._count and says_plain(line):
            self.plain = True
        elif is_like_a_part(line):
            self.unread.append(line.strip())

    def _draft_of(self, line: str, number: int | None) -> Draft | None:
        if self.read_line is not None:
            return self.read_line(line)
        if number is not None and self._numbering.is_next(number, self._count):
            again = number == 1 and self._count
            return parse_numbered(line, self._count + 1 if again else number)
        return parse_bar(line)

    def _draft_of_string(self, line: str) -> Draft | None:
        draft = self._draft_of(line, begun_number(line))
        if draft is None and line.strip(EDGES):
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
        return self._count >= MIN_NODES and draft.id == self._first and not self._numbering.ones

    def _end_line_without_end(self) -> None:
        self.ended = self.ran_on = True
        self.reason = "wrote a line without an end"

    def _end_at_second_plan(self) -> None:
        self.ended, self.reason = True, "wrote a second plan; the first is taken"
        self._scanner.leave()

    def _scan_object(self, drafts: list[Draft]) -> bool:
        """Go on through an open JSON object; False when the text is used up."""
        end = min(len(self._text), self._silent_at + 1)
        found = self._scanner.scan(self._text, self._at, end)
        if found is None:
            return False
        kind, start, stop = found
        text = self._text[start:stop]
        if kind == "no object":
            self._leave_object()
        elif kind == "around":
            self._close_around(text)
        elif kind == "object":
            if self._take_object(text, drafts, stop):
                self._at = stop
        else:
            self._take_string(f'{text}"', drafts)
            if kind == "endless string" and not self.ended:
                self._end_line_without_end()
        if kind in {"around", "object"} and not self.open_object:
            self._at = stop
        return not (self.ended or self.plain)

    def _take_string(self, spelt: str, drafts: list[Draft]) -> None:
        """A string of the list of lines; one without a number has that of its place."""
        try:
            line = str(json.loads(spelt, strict=False))
        except ValueError:
            line = spelt.strip('"')
        self._at = self._scanner.scanned
        if not self._count and says_plain(line):
            self.plain = True
        elif draft := self._draft_of_string(line):
            if draft.id.isdigit():
                self._numbering.last = int(draft.id)
            self._take(draft, drafts, self._at)

    def _take_object(self, text: str, drafts: list[Draft], at: int) -> bool:
        value = parse_object(text)
        if draft := to_draft(value):
            self._scanner.around = len(self._scanner.braces)
            self._take(draft, drafts, at)
        elif not self._count and any(value.get(key) == [] for key in LIST_KEYS):
            self.plain = True
        return draft is not None

    def _close_around(self, text: str) -> None:
        """The object around the nodes is closed, and with it the plan."""
        if self._count:
            self.ended = not self.open_object
        elif any(parse_object(text).get(key) == [] for key in LIST_KEYS):
            self.plain = True

    def _leave_object(self) -> None:
        """The braces were prose, or the object was cut off: read on by lines."""
        self._mistaken += 1
        self._at = max(self._at, self._scanner.braces[0] + 1)
        self._scanner.leave()
