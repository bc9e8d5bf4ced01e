"""One line of a planner's text as a draft of a node: the wire format, and what models write instead.

Two kinds of lines are nodes. A *numbered* line is the wire format, or an item of a numbered list
(`2. **Costs**: fares and tolls`); its number must be the one that comes next. A line with *bars* has
fields: number, heading, scope, needed, difficulty, the last ones often missing. Whether a line is a node
is clear from its beginning: what matches `BEGUN_BAR`, or has a `begun_number`, gives a draft
whatever follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from langchain_sgd.planning.drafts import ALL_EARLIER, Draft, clean_line, shortened
from langchain_sgd.repetition import words_of
from langchain_sgd.skeleton import HARD
from langchain_sgd.wire import PLAIN_WORD

_MAX_SCOPE: Final = 240
_FIELDS: Final = 5
"""Of a whole line with bars; then each field is what its place says."""

_SKIPPED: Final = 2
"""The next numbered line has the next number, or at most this much more than the last one."""

_LONG_REST: Final = 8
"""Words behind a colon or a dash; more of them describe what stands before, fewer are heading too."""
_LONG_SENTENCE: Final = 3
"""The same if they end as a sentence does."""
_LONG_REST_CHARACTERS: Final = 16
"""The same where each character counts as a word."""

_NUMBERED = re.compile(
    r"""(?P<before>[^\w|{}]{0,8})(?P<number>\d{1,2})(?:\*\*)?
    (?:(?:(?:\.?[)\uff09]|[.:\u3001\uff0e\uff1a])(?:\s{1,8}|(?=[^\W\d]|\*))|\s{1,8})(?=[^\w|\n]{0,4}\w)
    |\ (?=[^\s|]))""",
    re.VERBOSE,
)
_LED = re.compile(r"[.:：–—-]\s+")  # noqa: RUF001
"""Between a number and its heading."""
_OPENED = re.compile(r"[*`\"']*\Z")
BEGUN_BAR: Final = re.compile(
    r"\W{0,20}(?:[A-Za-z]{1,20}\s{0,5})?\d{1,4}[^\w|]{0,20}\|\s{0,8}(?=[^\s|])"
)
_LIKE_A_PART = re.compile(
    r"\W{0,20}(?:\d{1,2}(?:\.\d{1,2}){0,3}\.?[*_`\"' \t]{0,8}[|;\t]|\d{1,2}(?:\.\d{1,2}){1,3}\s+\w)"
)
"""A number, perhaps of several levels, and a field behind it."""
_ESCAPED = re.compile(r"\W*\d{1,4}\\\|")
_ID = re.compile(r"\W*(?:[A-Za-z]+\s*)?(\d{1,4})\W*")
_RANGE = re.compile(r"(\d{1,4})(?:\s*(?:-|–|—|\.\.+|to)\s*(\d{1,4}))?")  # noqa: RUF001
_WORDED = r"(?:needs?|after|uses?|depends\ on)\s{0,3}:?\s{0,3}"
_ARROW = r"(?:<-?|←)\s{0,3}"
_LISTED = r"(all|\d{1,2}(?:\s{0,3}(?:,|;|&|、|and|[-–])\s{0,3}\d{1,2}){0,30})\s{0,3}"  # noqa: RUF001
_NEEDS = re.compile(
    rf"""(?:(?P<arrow>{_ARROW})(?:{_WORDED})?{_LISTED}>?
    |\(\s{{0,3}}(?:{_ARROW}|{_WORDED})+{_LISTED}\)
    |\[\s{{0,3}}(?:{_ARROW}|{_WORDED})*{_LISTED}\])\Z""",
    re.VERBOSE | re.IGNORECASE,
)
_ATX = re.compile(r"#{1,6}\s+")
_PAIRS: Final = (
    *((sign, re.compile(re.escape(sign))) for sign in ("**", "*", "`", '"')),
    ("'", re.compile(r"(?<!\w)'|'(?!\w)")),
    ("__", re.compile(r"__|\A\S*\Z")),
    ("_", re.compile(r"(?<!\w)_|_(?!\w)|\A\S*\Z")),
)
"""Signs that stand around a whole text if nothing like it is inside; `__name__` is a name."""
_OPENING_STAR = re.compile(r"(?<![\w*])\*(?![\s*])")
_CLOSING_STAR = re.compile(r"(?<=[^\s*])\*(?![\w*])")
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_BEHIND_BOLD = re.compile(r"\s*[:：]\s*|\s*\.\s+|\s+[–—-]\s+")  # noqa: RUF001
_SCOPE = re.compile(
    r"(?<!\d)(?<!\b[A-Z])(?<!\b[IVX]{2})(?<!\b[IVX]{3})(?::\s+|：\s*|\s[–—]\s+)"  # noqa: RUF001
)
_COUNTED = re.compile(r"(?:\d|\b[A-Z]|\b[IVX]{2,3})\Z")
"""What follows is no description: `Day 1: Rome`, `Part II: ...`. `_SCOPE` says the same."""
_FILLER = re.compile(r"\b[^\W\d]{1,6}\b")
_PUNCTUATION = re.compile(r"[\s,;&+#、/]+")
_NO_DEPENDENCIES = {"", "-", "–", "—", "/", "none", "n/a", "na", "nil", "no", "nothing", "null"}  # noqa: RUF001
_ALL_DEPENDENCIES = re.compile(
    r"all(?: (?:of )?(?:the )?(?:above|previous|earlier|others?))?(?: (?:parts|lines|nodes))?"
)
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
EDGES: Final = " \t\r.*_`'\"![]"
_DECORATION = "*_ \t#`\"'|"


@dataclass(slots=True)
class Numbering:
    """Which numbers a plan's lines have had, and which may come next."""

    last: int = 0
    ones: bool = False
    """Every line is numbered 1, as some write lists."""

    def is_next(self, number: int, drafts: int) -> bool:
        """Whether a line is the next one of a plan that has so many; a number or two may be left out."""
        if self.ones or (drafts == 1 and self.last == 1 == number):
            return number == 1
        return self.last < number <= self.last + _SKIPPED

    def take(self, number: int) -> None:
        """A line of this number, which was the next one, was read."""
        self.ones = number == self.last == 1
        self.last = number


def begun_number(line: str) -> int | None:
    """The number with which a numbered line begins; None if it is none."""
    match = _NUMBERED.match(line)
    return int(match["number"]) if match else None


def is_like_a_part(line: str) -> bool:
    """Whether the planner will have meant a part by a line that could not be read."""
    return bool(BEGUN_BAR.match(line) or _LIKE_A_PART.match(line))


def says_plain(line: str) -> bool:
    """Whether a line is the plain word and nothing else."""
    return line.strip(EDGES).casefold() == PLAIN_WORD.casefold()


def parse_line(line: str) -> Draft | None:
    """One line of either kind; None if it is something else."""
    number = begun_number(line)
    return parse_bar(line) if number is None else parse_numbered(line, number)


def parse_numbered(line: str, number: int) -> Draft | None:
    """A line that `begun_number` knows."""
    match = _NUMBERED.match(line)
    if match is None:
        return None
    rest = _behind_number(line, match)
    if "|" in rest and (draft := parse_bar(f"{number}|{rest}")):
        return draft
    hard, needs, before = False, "", ""
    while rest != before:  # in any order
        before = rest
        rest = _unwrapped(rest)
        if not hard:
            rest, hard = _without_star(rest)
        if not needs and (found := _NEEDS.search(rest)) and _is_needs(found, number):
            needs, rest = found[found.lastindex or 0], rest[: found.start()].rstrip()
    heading, scope = _divided(rest)
    return Draft(
        id=str(number),
        heading=heading_of(heading),
        scope=shortened(_unwrapped(scope), _MAX_SCOPE),
        dependencies=(ALL_EARLIER,) if needs.casefold() == "all" else numbers(needs),
        difficulty=HARD if hard else None,
    )


def _behind_number(line: str, match: re.Match[str]) -> str:
    """What follows the number; signs that open in front of the number, and close behind it, are put to it."""
    rest = line[match.end() :].strip().removesuffix("```").rstrip(" \t,")
    signs = _OPENED.search(match["before"])[0]  # type: ignore[index]
    if signs and re.match(rf"{re.escape(signs)}\s", rest):  # `**1.** Trains`
        rest = rest[len(signs) :].lstrip()
    elif signs and signs in rest:  # `**1. Trains**`
        rest = signs + rest
    if led := _LED.match(rest):
        rest = rest[led.end() :]
    return f"# {rest}" if "#" in match["before"] else rest


def _is_needs(found: re.Match[str], number: int) -> bool:
    """Numbers that cannot be those of earlier nodes are text: `Diet (after 40)`, `Budget < 10`."""
    needed = found[found.lastindex or 0]
    earlier = [int(n) < number for n in numbers(needed)]
    return all(earlier) or (found["arrow"] is not None and len(earlier) > 1)


def _without_star(text: str) -> tuple[str, bool]:
    """The text without the mark of a hard part, and whether it was there; a star may close an emphasis."""
    if not text.endswith("*"):
        return text, False
    before = text[:-1]
    if before.endswith("*"):
        is_mark = text.startswith("**") and text.endswith("***")
    else:
        opened = len(_OPENING_STAR.findall(before)) - len(_CLOSING_STAR.findall(before))
        is_mark = before[-1:].isspace() or opened <= 0
    return (before.rstrip(), True) if is_mark else (text, False)


def _divided(text: str) -> tuple[str, str]:
    """Heading and scope of a list's item, such as `**Costs**: fares and tolls`."""
    if bold := _BOLD.match(text):
        head, rest = bold[1].strip(), text[bold.end() :]
        if behind := _BEHIND_BOLD.match(rest):
            rest = rest[behind.end() :]
        if behind or head.endswith((":", "：", ".")) or _is_long(rest):  # noqa: RUF001
            head = heading_of(head).rstrip(".")
            counted = _COUNTED.search(head) and not _is_long(rest)
            return (f"{head}: {rest.strip()}", "") if counted else (head, rest)
    elif (found := _SCOPE.search(text, 1)) and _is_long(text[found.end() :]):
        return text[: found.start()], text[found.end() :]
    return text, ""


def _is_long(rest: str) -> bool:
    most = _LONG_SENTENCE if rest.endswith((".", "。")) else _LONG_REST
    return len(rest) > _LONG_REST_CHARACTERS and len(words_of(rest)) > most


def parse_bar(line: str) -> Draft | None:
    """A line of fields between bars; None if it is something else."""
    if _ESCAPED.match(line):
        line = line.replace("\\|", "|")
    line, hard = _without_star(_unwrapped(line.strip().removesuffix("```")))
    fields = [part.strip() for part in line.strip("|").split("|")]
    if len(fields) < 2:
        return None
    if not (match := _ID.fullmatch(fields[0])):
        # `1. Intro | scope | - | 2`
        begun = _NUMBERED.match(fields[0])
        if begun is None:
            return None
        return parse_bar("|".join([begun["number"], _behind_number(fields[0], begun), *fields[1:]]))
    rest = fields[2:]
    needs: tuple[str, ...] | None = None
    difficulty = difficulty_of(rest[-1]) if len(rest) > 1 else None
    if difficulty is not None or len(fields) == _FIELDS:
        rest = rest[:-1]
    if rest and (needs := dependencies_of(rest[-1])) is not None:
        rest = rest[:-1]
    elif len(rest) > 1 and len(fields) == _FIELDS:
        needs, rest = numbers(rest[-1]), rest[:-1]
    heading = heading_of(fields[1])
    if not heading and not any(rest):
        return None
    return Draft(
        id=str(int(match[1])),
        heading=heading,
        scope=" | ".join(part for part in rest if part),
        dependencies=needs or (),
        difficulty=HARD if hard and difficulty is None else difficulty,
    )


def heading_of(text: str) -> str:
    """The text without the signs around it; signs that are no pair belong to it, as in `C#` and `.NET`."""
    text = _unwrapped(_unwrapped(clean_line(text)).rstrip(":： "))  # noqa: RUF001
    return text if re.search(r"\w", text) else text.strip(_DECORATION)


def _unwrapped(text: str) -> str:
    """The text without signs that stand around the whole of it, in pairs, nor those of a Markdown heading."""
    before = ""
    while text != before:
        before = text = text.strip()
        if atx := _ATX.match(text):
            text = text[atx.end() :]
            closed = text.rstrip("#")
            text = closed if closed[-1:].isspace() else text
        for sign, like in _PAIRS:
            inner = text[len(sign) : -len(sign)]
            if inner and text == sign + inner + sign and not like.search(inner):
                text = inner
    return text


def dependencies_of(text: str) -> tuple[str, ...] | None:
    """The numbers in a field of dependencies, whatever language joins them; None if it is something else."""
    bare = text.strip(" []().*`<>").casefold()
    if bare in _NO_DEPENDENCIES:
        return ()
    if _ALL_DEPENDENCIES.fullmatch(bare):
        return (ALL_EARLIER,)
    without = _RANGE.sub(" ", bare)
    if without == bare or _PUNCTUATION.sub("", _FILLER.sub("", without)):
        return None
    words = _FILLER.findall(without)
    return numbers(bare) if len(words) <= len(_RANGE.findall(bare)) else None


def numbers(text: str) -> tuple[str, ...]:
    """The numbers in a text, ranges written out."""
    out: list[int] = []
    for match in _RANGE.finditer(text):
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        out += range(first, last + 1) if first <= last < first + 100 else (first, last)
    return tuple(str(number) for number in out)


def difficulty_of(text: str) -> int | None:
    """A difficulty as a number or a word; None if it is something else."""
    bare = _REMARK.sub("", text.strip(" .*()[]`").casefold()).strip()
    if bare in _WORDS:
        return _WORDS[bare]
    match = _DIFFICULTY.fullmatch(bare)
    return int(match[1]) if match else None
