"""From the planner's streamed text to drafts of nodes: pure, tolerant, indifferent to chunk borders.

Reads lines of the wire format and JSON objects, whatever stands around them: prose, reasoning, code
fences, table borders, carriage returns. A draft is given when its line or object is *closed*, never on a
partial number or text. The cost is linear in the text, whatever it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from langchain_sgd.prompts import PLAIN_WORD
from langchain_sgd.skeleton import ALL_EARLIER, Draft
from langchain_sgd.text import ThoughtFilter

_MAX_LINE = 4_000
"""Characters of one line; a longer one is no node."""
_MAX_OBJECT = 4_000
"""Characters of one node's JSON object, and of the text between two of them."""
_MAX_DEPTH = 8
_MAX_MISTAKEN = 3
"""Braces taken for JSON that were none; after so many, only lines are read."""

_BETWEEN = re.compile(r"[ \t\r\n,[\]]*")
_LONGEST_OPENING = 202
_OBJECT = re.compile(r'\{\s{0,200}"')
_OBJECT_SO_FAR = re.compile(r"\{\s{0,200}")
_OBJECT_BEGUN = re.compile(
    r'\{\s{0,200}"id"\s{0,20}:\s{0,20}[^,{}\[\]]{1,40},\s{0,200}"heading"\s{0,20}:\s{0,20}("(?:[^"\\]|\\.)*+")'
)
"""A node's object up to its heading. With the id before it, since a title around the nodes has none."""
_LINE_BEGUN = re.compile(r"\W{0,20}(?:[A-Za-z]{1,20}\s{0,5})?\d{1,4}[^\w|]{0,20}\|")

_ID = re.compile(r"\W*(?:[A-Za-z]+\s*)?(\d{1,4})\W*")
_OTHER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_RANGE = re.compile(r"(\d{1,4})(?:\s*(?:-|–|—|\.\.+|to)\s*(\d{1,4}))?")  # noqa: RUF001
_DEPENDENCIES = re.compile(rf"[\s,;&+#]*{_RANGE.pattern}(?:[\s,;&+#]+{_RANGE.pattern})*[\s,;&+#]*")
_FILLER = re.compile(r"\b(?:and|parts?|nodes?|needs?|lines?|numbers?)\b")
_NO_DEPENDENCIES = {"", "-", "–", "—", "/", "none", "n/a", "na", "nil", "no", "nothing", "null"}  # noqa: RUF001
_ALL_DEPENDENCIES = re.compile(r"all(?: (?:of )?(?:the )?(?:above|previous|earlier|others?))?")
_DIFFICULTY = re.compile(r"(?:difficulty\s*[:=]?\s*)?(-?\d{1,4})(?:\.\d+)?(?:\s*/\s*\d+)?")
_REMARK = re.compile(r"(?:\(|[:–-]\s*[a-z]).*", re.DOTALL)  # noqa: RUF001
_WORDS = {
    "easy": 2,
    "simple": 2,
    "low": 2,
    "medium": 3,
    "moderate": 3,
    "hard": 4,
    "high": 4,
    "difficult": 4,
}
_LIST_KEYS = ("nodes", "parts", "skeleton")
_HEADING_KEYS = ("heading", "title", "summary", "name")
_SCOPE_KEYS = ("scope", "description", "covers")
_DEPENDENCY_KEYS = ("dependencies", "deps", "needed", "needs", "depends_on")


@dataclass(slots=True)
class SkeletonParser:
    """Feed it the planner's chunks; it gives the drafts that they close."""

    read_line: Callable[[str], Draft | None] | None = None
    """Reads one line; `parse_line` if not given."""
    early: bool = False
    """Look for the first node's heading before the node is closed."""
    plain: bool = False
    """The planner said that the question is better answered undivided."""
    begun: bool = False
    """A node's line or object has begun that is not closed yet."""
    heading: str | None = None
    """If `early`: the first heading that was closed before its node was. What follows may be no node."""
    restarted: bool = False
    """What had been read before the last call was a thought: drafts of earlier calls count no longer."""
    unread: list[str] = field(default_factory=list)
    """Lines that begin like a node's but could not be read."""
    _thoughts: ThoughtFilter = field(default_factory=ThoughtFilter)
    _text: str = ""
    _at: int = 0
    """What stands before it in `_text` has been read."""
    _overlong: bool = False
    """The rest of the current line is skipped."""
    _braces: list[int] = field(default_factory=list)
    """Offsets in `_text` of the braces that are open."""
    _around: int = 0
    """Braces that stand around a node's own: 1 in `{"nodes": [{...}]}`."""
    _scanned: int = 0
    _in_string: bool = False
    _escaped: bool = False
    _mistaken: int = 0
    _given: bool = False
    _ended: bool = False

    def feed(self, chunk: str) -> list[Draft]:
        """Drafts closed by this chunk, in order."""
        if self.plain:
            return []
        text = self._thoughts.feed(chunk)
        if self._thoughts.restarted and not self.restarted:
            self._restart()
        self._text += text
        return self._drain()

    def close(self, *, cut: bool = False) -> list[Draft]:
        """Drafts closed by the end of the text: a last line needs no line break.

        If the text was `cut` by a token limit, its last line is not whole and is left out.
        """
        if self.plain:
            return []
        self._text += self._thoughts.close()
        if cut and not self._braces:
            self._text = self._text[: self._text.rfind("\n") + 1]
        self._text += "\n"
        self._ended = True
        drafts = self._drain()
        while self._braces:
            self._leave_object()
            drafts += self._drain()
        self.begun = False
        return drafts

    def _restart(self) -> None:
        """Forget what was read: it was a thought."""
        self.restarted, self.heading, self._text = True, None, ""
        self._at = self._around = self._scanned = self._mistaken = 0
        self._overlong = self._given = False
        self._braces, self.unread = [], []

    def _drain(self) -> list[Draft]:
        drafts: list[Draft] = []
        while not self.plain and (
            self._scan_object(drafts) if self._braces else self._read_line(drafts)
        ):
            pass
        self._forget()
        self.begun = not self.plain and (
            len(self._braces) > self._around
            or (not self._braces and bool(_LINE_BEGUN.match(self._text)))
        )
        if self.early and self.heading is None and self.begun and not self._given:
            self.heading = self._open_heading() or None
        return drafts

    def _open_heading(self) -> str | None:
        """The closed heading of the line or object that has begun."""
        text = self._text
        if self._braces:
            found = _OBJECT_BEGUN.match(text, self._braces[-1])
            return _parse_object(f'{{"heading":{found[1]}}}').get("heading") if found else None
        begun = _LINE_BEGUN.match(text)
        end = text.find("|", begun.end()) if begun and self.read_line is None else -1
        return _line_heading(text[begun.end() : end]) if begun and end >= 0 else None

    def _forget(self) -> None:
        """Drop the text that was read; braces around what was dropped are behind its beginning."""
        read, self._at = self._at, 0
        self._text = self._text[read:]
        self._braces = [brace - read for brace in self._braces]
        self._scanned -= read

    def _read_line(self, drafts: list[Draft]) -> bool:
        """Go on to the end of the line, or to an object in it; False when the text is used up."""
        text = self._text
        if self._overlong:
            end = text.find("\n", self._at)
            self._overlong = end < 0
            self._at = len(text) if end < 0 else end + 1
            return end >= 0
        self._at = at = _BETWEEN.match(text, self._at).end()  # type: ignore[union-attr]
        if not self._given and text.startswith(PLAIN_WORD, at):
            self.plain = True
            return False
        end = text.find("\n", at, at + _MAX_LINE + 1)
        if self._mistaken < _MAX_MISTAKEN:
            brace = self._find_object(at, end if end >= 0 else min(len(text), at + _MAX_LINE))
            if brace is None:
                return False
            if brace >= 0:
                self._at, self._braces, self._scanned = brace, [brace], brace + 1
                self._in_string = self._escaped = False
                self._around = 0
                return True
        if end < 0:
            self._overlong = len(text) - at > _MAX_LINE
            return self._overlong
        self._at = end + 1
        self._take_line(text[at:end], drafts)
        return True

    def _find_object(self, at: int, end: int) -> int | None:
        """Offset of the line's first brace that opens a JSON object; -1: none; None: not yet clear.

        What stands behind a bar is a field of a node's line.
        """
        text = self._text
        bar = text.find("|", at, end)
        end = bar if bar >= 0 else end
        last = text.rfind("{", at, end)
        if last < 0:
            return -1
        if (found := _OBJECT.search(text, at, last + _LONGEST_OPENING)) and found.start() <= last:
            return found.start()
        if not self._ended and _OBJECT_SO_FAR.fullmatch(text, last):
            return None
        return -1

    def _take_line(self, line: str, drafts: list[Draft]) -> None:
        if draft := (self.read_line or parse_line)(line):
            self._given = True
            drafts.append(draft)
        elif not self._given and line.strip(" \t\r.*_`'\"").casefold() == PLAIN_WORD.casefold():
            self.plain = True
        elif _LINE_BEGUN.match(line):
            self.unread.append(line.strip())

    def _scan_object(self, drafts: list[Draft]) -> bool:
        """Go on through an open JSON object; False when the text is used up."""
        text, braces = self._text, self._braces
        for index in range(self._scanned, len(text)):
            char = text[index]
            if index - self._at > _MAX_OBJECT:
                self._leave_object()
                return True
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._in_string = False
            elif char == '"':
                self._in_string = True
            elif char == "{":
                braces.append(index)
                if len(braces) > _MAX_DEPTH:
                    self._leave_object()
                    return True
            elif char == "}":
                start = braces.pop()
                if len(braces) < self._around:
                    self._around = len(braces)
                elif self._take_object(text[start : index + 1], drafts):
                    self._at = index + 1
                if not braces:
                    self._at = index + 1
                    return True
        self._scanned = len(text)
        return False

    def _take_object(self, text: str, drafts: list[Draft]) -> bool:
        value = _parse_object(text)
        if draft := _draft(value):
            self._given, self._around = True, len(self._braces)
            drafts.append(draft)
        elif not self._given and any(value.get(key) == [] for key in _LIST_KEYS):
            self.plain = True
        return draft is not None

    def _leave_object(self) -> None:
        """The braces were prose, or the object was cut off: read on by lines."""
        self._mistaken += 1
        self._at = max(self._at, self._braces[0] + 1)
        self._braces, self._around, self._scanned = [], 0, 0


def parse_line(line: str) -> Draft | None:
    """One line of the wire format; None if it is something else."""
    fields = [part.strip() for part in line.strip().strip("|`").split("|")]
    if len(fields) < 3 or not (match := _ID.fullmatch(fields[0])):
        return None
    rest = fields[2:]
    difficulty = None
    if len(rest) > 1 and (difficulty := _difficulty(rest[-1])) is not None:
        rest = rest[:-1]
    dependencies = _dependencies(rest[-1])
    if dependencies is not None:
        rest = rest[:-1]
    elif difficulty is None:
        return None
    heading = _line_heading(fields[1])
    if not heading and not any(rest):
        return None
    return Draft(
        id=str(int(match[1])),
        heading=heading,
        scope=" | ".join(part for part in rest if part),
        dependencies=dependencies or (),
        difficulty=difficulty,
    )


def _line_heading(text: str) -> str:
    return text.strip().strip('*_ #`"')


def _dependencies(text: str) -> tuple[str, ...] | None:
    """The numbers in a field of dependencies; None if it is something else."""
    bare = _FILLER.sub(" ", text.strip(" []().*`").casefold()).strip()
    if bare in _NO_DEPENDENCIES:
        return ()
    if _ALL_DEPENDENCIES.fullmatch(bare):
        return (ALL_EARLIER,)
    return _numbers(bare) if _DEPENDENCIES.fullmatch(bare) else None


def _numbers(text: str) -> tuple[str, ...]:
    numbers: list[int] = []
    for match in _RANGE.finditer(text):
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        numbers += range(first, last + 1) if first <= last < first + 100 else (first, last)
    return tuple(str(number) for number in numbers)


def _difficulty(text: str) -> int | None:
    bare = _REMARK.sub("", text.strip(" .*()[]`").casefold()).strip()
    if bare in _WORDS:
        return _WORDS[bare]
    match = _DIFFICULTY.fullmatch(bare)
    return int(match[1]) if match else None


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _draft(value: dict[str, Any]) -> Draft | None:
    heading, scope = _first(value, _HEADING_KEYS), _first(value, _SCOPE_KEYS)
    raw = _first(value, _DEPENDENCY_KEYS)
    difficulty = value.get("difficulty")
    if not isinstance(heading, str) or (scope, raw, difficulty, value.get("id")) == (None,) * 4:
        return None
    if isinstance(raw, str | int):
        raw = _dependencies(str(raw)) or ()
    return Draft(
        id=_id_text(value.get("id", "")),
        heading=heading,
        scope=scope if isinstance(scope, str) else "",
        dependencies=tuple(
            filter(None, map(_id_text, raw if isinstance(raw, list | tuple) else ()))
        ),
        difficulty=None if difficulty is None else _difficulty(str(difficulty)),
    )


def _first(value: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((value[key] for key in keys if key in value), None)


def _id_text(value: Any) -> str:
    """An id or a reference as a node's line would spell it: `"n1"` and `1` are the same."""
    text = str(value).strip()
    if match := _ID.fullmatch(text):
        return str(int(match[1]))
    if _OTHER_ID.fullmatch(text):
        return text
    match = re.search(r"\d{1,4}", text)
    return str(int(match[0])) if match else text
