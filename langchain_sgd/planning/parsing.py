"""From the planner's streamed text to drafts of nodes: pure, tolerant, indifferent to chunk borders.

Reads lines of the wire format and JSON objects, whatever stands around them: prose, reasoning, code
fences, table borders, carriage returns. A draft is given when its line or object is *closed*, never on a
partial number or text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from langchain_sgd.prompts import PLAIN_WORD
from langchain_sgd.skeleton import Draft
from langchain_sgd.text import ThoughtFilter

_ID = re.compile(r"^\W*(?:[A-Za-z]+\s*)?(\d{1,4})\W*$")
_NUMBER = re.compile(r"\d{1,4}")
_LINE_BEGUN = re.compile(r"^\W*\d{1,4}\W*\|")
_NO_DEPENDENCIES = {"", "-", "none", "n/a", "na", "no", "nothing", "[]", "0"}
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
_HEADING_KEYS = ("heading", "title", "summary", "name")
_SCOPE_KEYS = ("scope", "description", "covers")
_DEPENDENCY_KEYS = ("dependencies", "deps", "needed", "needs", "depends_on")
_MAX_OBJECT = 20_000
"""Characters of one JSON object; a longer one is no node."""


@dataclass(slots=True)
class SkeletonParser:
    """Feed it the planner's chunks; it gives the drafts that they close."""

    read_line: Callable[[str], Draft | None] | None = None
    """Reads one line; `parse_line` if not given."""
    plain: bool = False
    """The planner said that the question is better answered undivided."""
    begun: bool = False
    """A node's line or object has begun that is not closed yet."""
    _thoughts: ThoughtFilter = field(default_factory=ThoughtFilter)
    _pending: str = ""
    _open: list[int] = field(default_factory=list)
    """Offsets in `_pending` of the braces that are open."""
    _around: int = 0
    """Braces that stand around a node's own: 1 in `{"nodes": [{...}]}`."""
    _scanned: int = 0
    _in_string: bool = False
    _escaped: bool = False
    _given: int = 0

    def feed(self, chunk: str) -> list[Draft]:
        """Drafts closed by this chunk, in order."""
        if self.plain:
            return []
        self._pending += self._thoughts.feed(chunk)
        return self._drain()

    def close(self, *, cut: bool = False) -> list[Draft]:
        """Drafts closed by the end of the text: a last line needs no line break.

        If the text was `cut` by a token limit, its last line is not whole and is left out.
        """
        if self.plain:
            return []
        self._pending += self._thoughts.close()
        if cut and not self._open:
            self._pending = self._pending.rpartition("\n")[0]
        self._pending += "\n"
        drafts = self._drain()
        while self._open:
            # A brace that never closed was prose, or the object was cut off: read on by lines.
            self._pending, self._open = self._pending[self._open[-1] + 1 :], []
            drafts += self._drain()
        self.begun = False
        return drafts

    def _drain(self) -> list[Draft]:
        drafts: list[Draft] = []
        while True:
            if self._open:
                if not self._scan_object(drafts):
                    break
                continue
            stripped = self._pending.lstrip(" \t\r\n,[")
            if stripped.startswith("{"):
                self._pending = stripped
                self._open, self._scanned = [0], 1
                self._in_string = self._escaped = False
                continue
            if not self._given and stripped.startswith(PLAIN_WORD):
                self.plain = True
                return drafts
            line, newline, rest = self._pending.partition("\n")
            if not newline:
                break
            self._pending = rest
            if draft := (self.read_line or parse_line)(line):
                self._given += 1
                drafts.append(draft)
            elif not self._given and line.strip(" \t\r.*_`'\"").casefold() == PLAIN_WORD.casefold():
                self.plain = True
                return drafts
        self.begun = len(self._open) > self._around or bool(_LINE_BEGUN.match(self._pending))
        return drafts

    def _scan_object(self, drafts: list[Draft]) -> bool:
        """Go on through an open JSON object; False when the text is used up."""
        text = self._pending
        for index in range(self._scanned, len(text)):
            char = text[index]
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
                self._open.append(index)
            elif char == "}":
                start = self._open.pop()
                if draft := _parse_object(text[start : index + 1]):
                    self._given += 1
                    self._around = len(self._open)
                    drafts.append(draft)
                if not self._open:
                    self._pending, self._scanned = text[index + 1 :], 0
                    return True
        self._scanned = len(text)
        if len(text) - self._open[-1] > _MAX_OBJECT:
            # No node is this long: a brace in prose was taken for JSON. Read on by lines.
            self._pending, self._open, self._scanned = text[self._open[0] + 1 :], [], 0
            return True
        return False


def parse_line(line: str) -> Draft | None:
    """One line of the wire format; None if it is something else."""
    fields = [part.strip() for part in line.strip().strip("|`").split("|")]
    if len(fields) < 3 or not (match := _ID.match(fields[0])):
        return None
    heading = fields[1].strip('*_ #`"')
    rest = fields[2:]
    difficulty = None
    if len(rest) > 1 and (difficulty := _difficulty(rest[-1])) is not None:
        rest = rest[:-1]
    dependencies: tuple[str, ...] = ()
    if rest and _looks_like_dependencies(rest[-1]):
        dependencies = tuple(_NUMBER.findall(rest[-1])) if rest[-1].strip("()") != "0" else ()
        rest = rest[:-1]
    elif difficulty is None:
        return None
    if not heading and not any(rest):
        return None
    return Draft(
        id=match[1],
        heading=heading,
        scope=" | ".join(part for part in rest if part),
        dependencies=dependencies,
        difficulty=difficulty,
    )


def _looks_like_dependencies(text: str) -> bool:
    bare = text.strip(" []().").casefold()
    if bare in _NO_DEPENDENCIES:
        return True
    without_words = re.sub(r"\b(?:and|part|parts|node|nodes|needs|line|lines)\b", "", bare)
    return bool(re.fullmatch(r"[\s,;&+#]*\d{1,4}(?:[\s,;&+#]+\d{1,4})*[\s,;&+#]*", without_words))


def _difficulty(text: str) -> int | None:
    bare = text.strip(" .*()[]`").casefold()
    if bare in _WORDS:
        return _WORDS[bare]
    match = re.fullmatch(r"(?:difficulty\s*[:=]?\s*)?(-?\d{1,4})(?:\s*/\s*\d+)?", bare)
    return int(match[1]) if match else None


def _parse_object(text: str) -> Draft | None:
    try:
        value = json.loads(text, strict=False)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    heading = _first(value, _HEADING_KEYS)
    if not isinstance(heading, str):
        return None
    scope = _first(value, _SCOPE_KEYS)
    raw = _first(value, _DEPENDENCY_KEYS)
    if isinstance(raw, str | int):
        raw = _NUMBER.findall(str(raw))
    dependencies = [_id_text(item) for item in raw] if isinstance(raw, list) else []
    difficulty = value.get("difficulty")
    return Draft(
        id=_id_text(value.get("id", "")),
        heading=heading,
        scope=scope if isinstance(scope, str) else "",
        dependencies=tuple(item for item in dependencies if item),
        difficulty=_difficulty(str(difficulty)) if difficulty is not None else None,
    )


def _first(value: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((value[key] for key in keys if key in value), None)


def _id_text(value: Any) -> str:
    match = _NUMBER.search(str(value))
    return match[0] if match else str(value).strip()
